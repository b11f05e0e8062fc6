"""Parquet files with images, as Hugging Face exports them, and hostile ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from belvedere.errors import ArchiveError, FetchError, MissingDependencyError
from belvedere.fetching import parquet, unpacked_size
from belvedere.fetching.parquet import unpack_parquet
from belvedere.runtime.progress import Progress

JPEG, PNG = b"\xff\xd8\xff\xe0 a", b"\x89PNG\r\n\x1a\n b"
CLASSES: Mapping[str, Any] = {"_type": "ClassLabel", "names": ["sea", "tree"]}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_table(path: Path, columns: Mapping[str, tuple[object, pa.DataType]], features: object = None) -> Path:
    arrays = {name: pa.array(values, kind) for name, (values, kind) in columns.items()}
    path.parent.mkdir(exist_ok=True)
    metadata = None if features is None else {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), path)
    return path


def images(*contents: bytes | None) -> tuple[object, pa.DataType]:
    return [{"bytes": each, "path": "/etc/../x.jpg"} for each in contents], IMAGE


def unpack(*files: tuple[str, Path], max_bytes: int = 10**9) -> dict[str, bytes]:
    out = files[0][1].parent / "out"
    out.mkdir()
    unpack_parquet(files, out, max_bytes, Progress())
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_images_of_a_split_and_their_classes(tmp_path: Path) -> None:
    columns = {"image": images(JPEG, PNG), "label": ([1, 0], pa.int64())}
    path = write_table(tmp_path / "0.parquet", columns, {"label": CLASSES})
    assert unpack(("data/train-00000-of-00001.parquet", path)) == {
        "train/tree/000000.jpg": JPEG,
        "train/sea/000001.png": PNG,
    }


def test_splits_are_those_of_the_names(tmp_path: Path) -> None:
    columns = {"image": images(JPEG), "label": ([1], pa.int64())}
    path = write_table(tmp_path / "0.parquet", columns, {"label": CLASSES})
    names = ("default/test/0000.parquet", "validation-00000-of-00001.parquet", "data/other.parquet")
    assert sorted(unpack(*((name, path) for name in names))) == [
        "test/tree/000000.jpg",
        "train/tree/000002.jpg",  # as on the hub
        "val/tree/000001.jpg",
    ]


@pytest.mark.parametrize(
    ("labels", "kind", "folders"),
    [
        (["a b", "c"], pa.string(), ["a b", "c"]),
        ([7, 10], pa.int32(), ["10", "7"]),
        ([-1, None], pa.int64(), ["unlabeled"]),
        (["x", ""], pa.dictionary(pa.int32(), pa.string()), ["unlabeled", "x"]),
    ],
)
def test_labels_without_a_list_of_names(
    labels: list[object], kind: pa.DataType, folders: list[str], tmp_path: Path
) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG, PNG), "label": (labels, kind)})
    assert sorted({str(Path(name).parent) for name in unpack(("0.parquet", path))}) == folders


def test_other_names_of_columns(tmp_path: Path) -> None:
    columns = {"scan": ([JPEG], pa.binary()), "kind": ([0], pa.int64()), "id": ([5], pa.int64())}
    path = write_table(tmp_path / "0.parquet", columns, {"kind": {"_type": "ClassLabel", "names": {"0": "sea"}}})
    assert unpack(("0.parquet", path)) == {"sea/000000.jpg": JPEG}


def test_rows_without_an_image_are_counted(tmp_path: Path) -> None:
    columns = {"image": images(JPEG, None, b""), "label": ([0, 0, 0], pa.int64())}
    path = write_table(tmp_path / "0.parquet", columns)
    (tmp_path / "out").mkdir()
    [warning] = unpack_parquet([("0.parquet", path)], tmp_path / "out", 10**9, Progress())
    assert warning.message.startswith("2 rows")


@pytest.mark.parametrize(
    "name", ["../x", "..", "a/b", "a\\b", "/etc", ".git", "C:x", "a\0b", "x" * 300, "__MACOSX", "@eaDir"]
)
def test_classes_that_are_no_names_of_folders_are_refused(name: str, tmp_path: Path) -> None:
    columns = {"image": images(JPEG), "label": ([0], pa.int64())}
    path = write_table(tmp_path / "0.parquet", columns, {"label": {"_type": "ClassLabel", "names": [name]}})
    with pytest.raises(ArchiveError) as raised:
        unpack(("0.parquet", path))
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_classes_that_are_one_folder_on_some_disks_are_refused(tmp_path: Path) -> None:
    columns = {"image": images(JPEG, JPEG), "label": (["Sea", "sea"], pa.string())}
    with pytest.raises(ArchiveError, match=r"Sea.*sea"):
        unpack(("0.parquet", write_table(tmp_path / "0.parquet", columns)))


@pytest.mark.parametrize("labels", [["unlabeled", None], ["", "unlabeled"]])
def test_a_class_is_not_mixed_with_images_without_a_label(labels: list[str | None], tmp_path: Path) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG, PNG), "label": (labels, pa.string())})
    with pytest.raises(ArchiveError, match="unlabeled"):
        unpack(("0.parquet", path))
    (tmp_path / "out").rename(tmp_path / "other")
    assert sorted(unpack(("train-0.parquet", path))) in (
        ["train/unlabeled/000000.jpg", "unlabeled/000001.png"],
        ["train/unlabeled/000001.png", "unlabeled/000000.jpg"],
    )


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"text": (["a"], pa.string())}, "encoded"),
        ({"image": images(JPEG), "label": ([[0, 1]], pa.list_(pa.int64()))}, "class"),
        ({"image": images(JPEG), "label": ([0.5], pa.float64())}, "class"),
        ({"image": ([{"bytes": {"bytes": JPEG}}], pa.struct([("bytes", pa.struct([("bytes", pa.binary())]))]))}, "enc"),
        ({"image": images(JPEG), "label": ([2], pa.int64())}, "label 2"),
        ({"image": images(None), "label": ([1], pa.int64())}, "images"),
    ],
)
def test_other_tables_are_refused(columns: Any, word: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "0.parquet", columns, {"label": CLASSES})
    with pytest.raises(ArchiveError, match=word):
        unpack(("0.parquet", path))


def test_the_limit_holds_for_what_is_stated_and_what_is_there(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "0.parquet", {"image": images(*[JPEG * 1000] * 100), "label": ([0] * 100, pa.int64())}
    )
    assert path.stat().st_size < 500_000  # equal images are stored once
    with pytest.raises(FetchError, match="500,000 bytes"):
        unpack(("0.parquet", path), max_bytes=500_000)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_CHUNK_BYTES", 1_000_000)
    columns = {"image": images(JPEG), "label": (["x" * 2_000_000], pa.string())}
    with pytest.raises(ArchiveError, match="column"):
        unpack(("0.parquet", write_table(tmp_path / "0.parquet", columns)))
    monkeypatch.setattr(unpacked_size, "MIN_EXPANDED_BYTES", 10_000_000)
    columns = {"image": images(*[JPEG + bytes(500_000)] * 100), "label": ([0] * 100, pa.int64())}
    path = write_table(tmp_path / "b" / "0.parquet", columns)
    assert path.stat().st_size < 100_000  # equal images are stored once
    with pytest.raises(ArchiveError, match="50 times"):
        unpack(("0.parquet", path))
    written = sum(each.stat().st_size for each in (tmp_path / "b" / "out").rglob("*.jpg"))
    assert written <= 10_000_000


def test_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked_size, "MAX_ENTRIES", 4)
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG, None, None)})
    with pytest.raises(ArchiveError, match="6 rows"):
        unpack(("0.parquet", path), ("1.parquet", path))


def test_the_disk_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG)})
    monkeypatch.setattr("belvedere.fetching.unpacked_size.shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(FetchError, match="room"):
        unpack(("0.parquet", path))
    assert not list((tmp_path / "out").iterdir())


def test_every_changed_byte_is_an_error_of_one_line_or_harmless(tmp_path: Path) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG, PNG * 9), "label": (["a", "b"], pa.string())})
    content, kinds = path.read_bytes(), set[str]()
    for place in range(0, len(content), 2):
        path = tmp_path / str(place) / "0.parquet"
        path.parent.mkdir()
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            unpack(("0.parquet", path))
        except FetchError as error:
            kinds.add(type(error.__cause__).__name__)
            assert "\n" not in str(error)
    assert "OSError" in kinds  # a damaged page


def test_what_cannot_be_written_is_no_damaged_file(tmp_path: Path) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG), "label": (["a"], pa.string())})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()
    with pytest.raises(FileExistsError):
        unpack_parquet([("0.parquet", path)], tmp_path / "out", 10**9, Progress())


@pytest.mark.parametrize("left", [4, 100, -4, -1])
def test_damaged_files_are_refused(left: int, tmp_path: Path) -> None:
    path = write_table(tmp_path / "0.parquet", {"image": images(JPEG), "label": ([0], pa.int64())})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ArchiveError, match=r"0\.parquet"):
        unpack(("0.parquet", path))


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("belvedere.runtime.dependencies.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"belvedere\[parquet\]"):
        parquet.check_pyarrow()
