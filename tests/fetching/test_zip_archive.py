"""ZIP files, also hostile ones."""

import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from belvedere.errors import ArchiveError, FetchError
from belvedere.fetching import outside_paths, unpacked_size, zip_archive
from belvedere.fetching.zip_archive import unpack_zip
from belvedere.runtime.progress import Progress
from belvedere.types.data import DataWarning

JPEG = b"\xff\xd8\xff\xe0 an image"


def write_zip(path: Path, files: Mapping[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpack(
    archive: Path, folders: Mapping[str, str] | None = None, max_bytes: int = 10**9
) -> tuple[dict[str, bytes], tuple[DataWarning, ...]]:
    """Unpack an archive, and return the files and the warnings."""
    out = archive.with_suffix(".out")
    out.mkdir()
    warnings = unpack_zip(archive, out, folders or {}, max_bytes, Progress())
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}, warnings


def assert_refused(archive: Path, *words: str, max_bytes: int = 10**9, kind: type[FetchError] = ArchiveError) -> None:
    """Check for an error of one line, with nothing unpacked and nothing outside."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(kind) as raised:
        unpack(archive, max_bytes=max_bytes)
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), raised.value
    assert sorted(archive.parent.rglob("*")) == sorted([*before, archive.with_suffix(".out")])


def test_images_and_tables_are_unpacked(tmp_path: Path) -> None:
    files: dict[str | zipfile.ZipInfo, bytes] = {
        "set/sea/1.jpg": JPEG,
        "set/sea/no_suffix": JPEG,
        "set/sea/notes": b"no image",
        "set/sea/setup.exe": b"MZ",
        "set/sea/labels.csv": b"image,label",
        "__MACOSX/set/sea/._1.jpg": b"",
        "set/.DS_Store": b"",
        "set/empty/": b"",
    }
    found, warnings = unpack(write_zip(tmp_path / "a.zip", files))
    assert found == {"sea/1.jpg": JPEG, "sea/no_suffix": JPEG, "sea/labels.csv": b"image,label"}
    hidden, others = (warning.message for warning in warnings)
    assert hidden.startswith("2 hidden")
    assert "2 files (1 without suffix, 1 .exe)" in others


def test_a_known_dataset_has_only_images_of_its_folders(tmp_path: Path) -> None:
    files: dict[str | zipfile.ZipInfo, bytes] = {"a/a/sea/1.jpg": JPEG, "a/a/l.csv": b"x", "b/sea/2.jpg": JPEG}
    found, warnings = unpack(write_zip(tmp_path / "a.zip", files), {"a": "train"})
    assert found == {"train/sea/1.jpg": JPEG}
    assert [warning.names for warning in warnings if warning.names] == [("b/sea/2.jpg",)]


@pytest.mark.parametrize("name", ["../1.jpg", "/tmp/1.jpg", "sea/../../1.jpg", "..\\1.jpg", "C:\\1.jpg"])  # noqa: S108
def test_paths_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {"sea/1.jpg": JPEG, name: JPEG}), repr(name))


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    entry = special("sea/1.jpg", kind)
    assert_refused(write_zip(tmp_path / "a.zip", {entry: b"/etc/passwd", "sea/2.jpg": JPEG}), "link")


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {"Sea/1.jpg": JPEG, "sea/1.jpg": JPEG}), "Sea and sea")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("sea/1.jpg", JPEG)
        archive.writestr("sea/1.jpg", JPEG)
    assert_refused(tmp_path / "b.zip", "sea/1.jpg")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = write_zip(tmp_path / "a.zip", {f"sea/{number}.jpg": bytes(1_000_000) for number in range(20)})
    assert_refused(bomb, "20,000,000", max_bytes=19_999_999, kind=FetchError)
    monkeypatch.setattr(unpacked_size, "MIN_EXPANDED_BYTES", 1_000_000)
    assert_refused(bomb.rename(tmp_path / "b.zip"), "50 times")
    monkeypatch.setattr(zip_archive, "MAX_BYTES", 500_000)
    assert_refused((tmp_path / "b.zip").rename(tmp_path / "c.zip"), "500,000")


def test_a_bomb_that_states_a_small_size_is_refused(tmp_path: Path) -> None:
    packed = bytearray(write_zip(tmp_path / "a.zip", {"sea/1.jpg": bytes(5_000_000)}).read_bytes())
    directory = packed.rindex(b"PK\x01\x02")
    for place in (22, directory + 24):  # the size unpacked, in both headers
        packed[place : place + 4] = struct.pack("<I", 1000)
    (tmp_path / "b.zip").write_bytes(packed)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(tmp_path / "b.zip")
    assert sum(path.stat().st_size for path in (tmp_path / "b.out").rglob("*.jpg")) <= 1000


def test_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"sea/{number}.jpg": JPEG for number in range(200)})
    monkeypatch.setattr(unpacked_size, "MAX_ENTRIES", 199)
    monkeypatch.setattr(zip_archive, "_list_files", None)  # refused before zipfile makes objects of the entries
    assert_refused(archive, "200 entries")
    monkeypatch.setattr(zip_archive, "MAX_DIRECTORY_BYTES", 1000)
    assert_refused(archive.rename(tmp_path / "b.zip"), "list of files")


def test_names_of_many_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"{number}/a/b/c/1.jpg": JPEG for number in range(20)})
    monkeypatch.setattr(zip_archive, "MAX_PARTS", 99)
    assert_refused(archive, "99 parts")


def test_tables_that_name_files_outside_of_the_folder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str | zipfile.ZipInfo, bytes] = {
        "sea/1.jpg": JPEG,
        "good/labels.csv": b"image,label\n../sea/1.jpg,sea\nx.jpg,sea\n",
        "labels.csv": b"image,label\n/etc/a.jpg,sea\nsea/1.jpg,sea\nsea/../../b.jpg,sea\n",
        "windows.txt": b"image,label\nC:\\a.jpg,sea\n..\\b.jpg,sea\n",
        "classes.txt": b"sea\n",
    }
    _, warnings = unpack(write_zip(tmp_path / "a.zip", files))
    assert [(warning.message.split()[0], warning.names) for warning in warnings] == [
        ("labels.csv", ("/etc/a.jpg", "sea/../../b.jpg")),
        ("windows.txt", ("C:\\a.jpg", "..\\b.jpg")),
    ]
    monkeypatch.setattr(outside_paths, "MAX_TABLE_BYTES", 1)
    _, warnings = unpack((tmp_path / "a.zip").rename(tmp_path / "b.zip"))
    assert [warning.message.startswith("Not checked") for warning in warnings] == [True] * 4


def test_encrypted_and_unusual_archives_are_refused(tmp_path: Path) -> None:
    packed = bytearray(write_zip(tmp_path / "a.zip", {"sea/1.jpg": JPEG}).read_bytes())
    packed[6] |= 1
    packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(packed)
    assert_refused(tmp_path / "b.zip", "encrypted")
    assert_refused(write_zip(tmp_path / "c.zip", {"sea/1.jpg": JPEG}, zipfile.ZIP_LZMA), "method (14)")


def test_an_archive_without_images_is_refused(tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", {"readme.md": b"none", "x/": b""}), "1 file (.md)")
    assert_refused(write_zip(tmp_path / "b.zip", {}), "no images")


def damage(content: bytes, kind: str) -> bytes:
    if kind == "cut":
        return content[:-30]
    if kind == "first half":
        return content[: len(content) // 2]
    if kind == "end only":
        return content[-22:]
    place = content.index(b"image") if kind == "content" else content.rindex(b"PK\x01\x02") + 42
    return content[:place] + b"\xff\xff" + content[place + 2 :]


@pytest.mark.parametrize("kind", ["cut", "first half", "end only", "content", "offset"])
def test_damaged_archives_are_refused(kind: str, tmp_path: Path) -> None:
    content = write_zip(tmp_path / "a.zip", {"sea/1.jpg": JPEG, "sea/2.jpg": JPEG}, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "b.zip").write_bytes(damage(content, kind))
    with pytest.raises(ArchiveError) as raised:
        unpack(tmp_path / "b.zip")
    assert "\n" not in str(raised.value)


def test_every_changed_byte_is_an_error_of_one_line_or_harmless(tmp_path: Path) -> None:
    content = write_zip(tmp_path / "a.zip", {"sea/1.jpg": JPEG, "tree/2.jpg": JPEG * 3}).read_bytes()
    for place in range(len(content)):
        path = tmp_path / f"{place}.zip"
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            unpack(path)
        except FetchError as error:
            assert "\n" not in str(error)
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert {path.parent.parent.suffix for path in tmp_path.rglob("*.jpg")} <= {".out", ""}
