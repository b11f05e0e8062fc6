"""The cache of decoded images: what it holds, how it is shared, and that no damage comes out of it."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from belvedere.data import array_cache, image_cache
from belvedere.data.array_cache import INDEX, ROWS, ArrayCache, NewRow, clear_cache, list_caches
from belvedere.data.image_cache import ImageArray, open_image_cache, read_image_array
from belvedere.errors import CacheError
from belvedere.images import decode
from belvedere.images.decode import read_input
from belvedere.runtime.environment import CACHE_DIR_ENV, cache_folder
from belvedere.runtime.progress import Progress, Task
from belvedere.types.model import Preprocess
from conftest import COLORS, contents_of, write_image

SIZE = Preprocess(8, 8)
IMAGE_BYTES = 8 * 8 * 3


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIR_ENV, str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [write_image(tmp_path / "photos" / f"{number}.png", "red", number, 16) for number in range(5)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files are decoded, as it happens."""
    seen: list[Path] = []
    decode = image_cache.read_verified

    def watched(key: str, path: Path, sizes: list[Preprocess], **options: bool) -> object:
        seen.append(path)
        return decode(key, path, sizes, **options)

    monkeypatch.setattr(image_cache, "read_verified", watched)
    return seen


def read(paths: list[Path], preprocess: Preprocess = SIZE) -> ImageArray:
    return read_image_array(contents_of(paths), preprocess, Progress())


def assert_right(pixels: ImageArray, paths: list[Path], preprocess: Preprocess = SIZE) -> None:
    """Byte for byte what a prediction reads, in the given order."""
    assert [sample.path for sample in pixels.samples] == paths
    assert len(pixels.images) == len(paths)
    found = pixels.images[np.arange(len(paths))]
    assert found.dtype == np.uint8
    for image, path in zip(found, paths, strict=True):
        np.testing.assert_array_equal(image, read_input(path, preprocess).pixels)


def store(name: str = "") -> Path:
    """The file of that name in the one store."""
    [folder] = (cache_folder() / "images").iterdir()
    return folder / name


def index_lines() -> list[dict[str, object]]:
    return [json.loads(line) for line in store(INDEX).read_text().splitlines()]


def test_it_decodes_once(photos: list[Path], decoded: list[Path]) -> None:
    cold = read(photos)
    assert_right(cold, photos)
    assert sorted(decoded) == photos
    decoded.clear()
    assert_right(read(photos), photos)
    assert_right(read(photos[3:]), photos[3:])
    assert_right(read(photos[::-1]), photos[::-1])
    assert decoded == []


def test_rows_are_taken_in_any_order_and_more_than_once(photos: list[Path]) -> None:
    rows = read(photos).images
    np.testing.assert_array_equal(rows[np.array([4, 0, 4])], rows[np.arange(5)][[4, 0, 4]])
    assert rows[np.array([], np.intp)].shape == (0, 8, 8, 3)


def test_only_what_is_new_is_decoded(photos: list[Path], decoded: list[Path]) -> None:
    read(photos[:2])
    decoded.clear()
    assert_right(read(photos), photos)
    assert sorted(decoded) == photos[2:]


def test_images_are_known_by_their_content_and_not_by_their_name(photos: list[Path], decoded: list[Path]) -> None:
    read(photos)
    decoded.clear()
    renamed = [photo.rename(photo.with_name(f"renamed-{photo.name}")) for photo in photos]
    assert_right(read(renamed), renamed)
    assert decoded == []
    when = renamed[0].stat()
    write_image(renamed[0], "blue", 0, 16)
    os.utime(renamed[0], ns=(when.st_atime_ns, when.st_mtime_ns))
    assert_right(read(renamed), renamed)
    assert decoded == [renamed[0]]


def test_another_rule_of_reading_is_another_store(
    photos: list[Path], decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(photos)
    for preprocess in (Preprocess(8, 10), Preprocess(8, 8, "crop")):
        decoded.clear()
        assert_right(read(photos, preprocess), photos, preprocess)
        assert sorted(decoded) == photos
    decoded.clear()
    monkeypatch.setattr(image_cache, "DECODER_VERSION", decode.DECODER_VERSION + 1)
    assert_right(read(photos), photos)
    assert sorted(decoded) == photos
    assert len(list_caches()) == 4


def test_other_sizes_are_cached_too(photos: list[Path], decoded: list[Path]) -> None:
    photos[0] = photos[0].with_suffix(".jpg")
    noise = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos[0])  # at a reduced scale it would have other pixels
    unreadable = photos[0].with_name("none.png")
    unreadable.write_bytes(b"no image")
    larger, wider = Preprocess(12, 12), Preprocess(8, 20, "letterbox")
    read(photos[3:], larger)
    decoded.clear()
    sizes = [(contents_of([*photos[1:], unreadable]), larger), (contents_of(photos[:2]), wider)]
    contents = contents_of([*photos[:4], unreadable])
    assert_right(read_image_array(contents, SIZE, Progress(), draft=True, other_sizes=sizes), photos[:4])
    assert sorted(decoded) == sorted([*photos[:4], unreadable])
    decoded.clear()
    assert_right(read(photos[1:], larger), photos[1:], larger)
    assert_right(read(photos[:2], wider), photos[:2], wider)
    assert_right(read(photos[:4]), photos[:4])
    assert decoded == []
    assert_right(read(photos, larger), photos, larger)
    assert decoded == photos[:1]


def test_identical_files_are_decoded_and_kept_once(photos: list[Path], decoded: list[Path]) -> None:
    twice = [*photos, *(photo.with_name(f"copy-{photo.name}") for photo in photos)]
    for photo, copy in zip(twice, twice[5:], strict=False):
        copy.write_bytes(photo.read_bytes())
    assert_right(read(twice), twice)
    assert len(decoded) == len(index_lines()) == 5
    assert store(ROWS).stat().st_size == 5 * IMAGE_BYTES


def test_unreadable_files_are_named_and_asked_again_next_time(photos: list[Path], decoded: list[Path]) -> None:
    photos[1].write_bytes(photos[1].read_bytes()[:40])
    photos[3].write_bytes(b"no image")
    for _ in range(2):
        decoded.clear()
        pixels = read(photos)
        assert_right(pixels, [photos[0], photos[2], photos[4]])
        assert [sample.path for sample, _ in pixels.unreadable] == [photos[1], photos[3]]
        assert all(reason for _, reason in pixels.unreadable)
        assert set(decoded) >= {photos[1], photos[3]}
    assert sorted(decoded) == [photos[1], photos[3]]


def test_a_file_that_is_changed_after_it_was_hashed_is_not_taken_for_what_it_was(photos: list[Path]) -> None:
    contents = contents_of(photos)
    write_image(photos[0], "green", 0, 16)
    photos[1].unlink()
    pixels = read_image_array(contents, SIZE, Progress())
    assert [reason for _, reason in pixels.unreadable] == ["changed while it was read", "no such file"]
    assert len(index_lines()) == 3


def test_what_was_decided_in_reading_is_still_said_when_warm(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in COLORS.values()]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    cold, warm = read([path]), read([path])
    assert cold.with_warnings == warm.with_warnings == ((cold.samples[0], "first of 3 frames"),)


@pytest.mark.parametrize("torn", [b"{", b'{"sha256": "00', b"\xff\xfe", b"0" * 5000])
def test_a_torn_last_line_is_no_line(torn: bytes, photos: list[Path], decoded: list[Path]) -> None:
    read(photos[:3])
    with store(INDEX).open("ab") as file:
        file.write(torn)
    decoded.clear()
    assert_right(read(photos), photos)
    assert sorted(decoded) == photos[3:]
    assert len(index_lines()) == 5


def test_pixels_without_their_lines_are_overwritten(photos: list[Path]) -> None:
    """Killed between the one and the other."""
    read(photos[:3])
    with store(ROWS).open("ab") as file:
        file.write(b"?" * (IMAGE_BYTES + 7))
    assert_right(read(photos), photos)
    assert_right(read(photos), photos)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"no json", b"[]", b"1", b"{}", b"[" * 9999),
        *(b'{"sha256": [], "crc32": 1, "warnings": []}', b'{"sha256": "0"}'),
    ],
)
def test_a_damaged_line_costs_its_own_image_only(line: bytes, photos: list[Path], decoded: list[Path]) -> None:
    read(photos)
    lines = store(INDEX).read_bytes().split(b"\n")
    for place in (0, 2):
        changed = lines.copy()
        changed[place] = line
        store(INDEX).write_bytes(b"\n".join(changed))
        decoded.clear()
        assert_right(read(photos), photos)
        assert len(decoded) == 1
        decoded.clear()
        assert_right(read(photos), photos)
        assert decoded == []


def test_a_damaged_image_is_decoded_anew(photos: list[Path], decoded: list[Path]) -> None:
    read(photos)
    with store(ROWS).open("r+b") as file:
        file.seek(2 * IMAGE_BYTES + 5)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    decoded.clear()
    assert_right(read(photos), photos)
    assert len(decoded) == 1
    decoded.clear()
    assert_right(read(photos), photos)
    assert decoded == []


@pytest.mark.parametrize("left", [0, 1, IMAGE_BYTES - 1, 3 * IMAGE_BYTES + 1])
def test_pixels_that_were_cut_short_are_decoded_anew(left: int, photos: list[Path], decoded: list[Path]) -> None:
    read(photos)
    os.truncate(store(ROWS), left)
    decoded.clear()
    assert_right(read(photos), photos)
    assert len(decoded) >= 5 - left // IMAGE_BYTES
    decoded.clear()
    assert_right(read(photos), photos)
    assert decoded == []


def test_pixels_that_are_cut_short_while_they_are_in_use_are_no_pixels(photos: list[Path]) -> None:
    rows = read(photos).images
    os.truncate(store(ROWS), 5 * IMAGE_BYTES - 1)
    cut = []
    for row in range(5):
        try:
            assert rows[np.array([row])].shape == (1, 8, 8, 3)
        except CacheError as error:
            cut.append(str(error))
    assert len(cut) == 1
    assert "truncated" in cut[0]


def test_a_cache_that_is_cleared_while_it_is_opened_is_named(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_and_clear(*_: object) -> dict[str, str]:
        clear_cache()
        return {}

    read(photos)
    monkeypatch.setattr(image_cache, "_fill", fill_and_clear)
    with pytest.raises(CacheError, match=str(cache_folder())):
        read(photos)


@pytest.mark.skipif(os.name != "posix", reason="what is open cannot be deleted there")
@pytest.mark.parametrize("begun_anew", [False, True])
@pytest.mark.parametrize("missing", [0, 5])
def test_a_cache_that_is_cleared_while_it_is_filled_is_named(
    begun_anew: bool, missing: int, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another training has begun it anew since, whose places are others."""
    find_missing = ArrayCache.find_missing

    def find_and_clear(self: ArrayCache, keys: list[str]) -> list[str]:
        found = find_missing(self, keys)
        clear_cache()
        if begun_anew:
            monkeypatch.setattr(ArrayCache, "find_missing", find_missing)
            read(photos[::-1])
        return found

    read(photos[: 5 - missing])
    monkeypatch.setattr(ArrayCache, "find_missing", find_and_clear)
    with pytest.raises(CacheError):
        read_image_array(contents_of(photos), SIZE, Progress())
    monkeypatch.setattr(ArrayCache, "find_missing", find_missing)
    assert_right(read(photos), photos)


def test_index_that_is_gone_is_made_anew(photos: list[Path]) -> None:
    read(photos)
    store(INDEX).unlink()
    assert_right(read(photos), photos)


@given(st.binary(max_size=400), st.booleans())
def test_no_index_makes_it_fail(content: bytes, as_lines: bool) -> None:
    """Random bytes, whole or a JSON document each between line ends, are at worst an empty store."""
    made = open_image_cache(SIZE)
    lines = content if not as_lines else b"\n".join(json.dumps(list(part)).encode() for part in content.split(b"\0"))
    (made.folder / INDEX).write_bytes(lines)
    (made.folder / ROWS).write_bytes(content)
    again = open_image_cache(SIZE)
    assert again.find_missing(["0" * 64]) == ["0" * 64]
    list_caches()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda j: st.lists(j, max_size=3))


@given(st.fixed_dictionaries({"sha256": st.just("key") | JSON, "crc32": JSON, "warnings": JSON}))
def test_no_line_makes_an_image_of_nothing(values: dict[str, object]) -> None:
    made = open_image_cache(SIZE)
    (made.folder / INDEX).write_bytes(json.dumps(values).encode() + b"\n")
    (made.folder / ROWS).write_bytes(b"\x01" * IMAGE_BYTES)
    assert open_image_cache(SIZE).find_missing(["key"]) == ["key"]


READ = """

import sys
from pathlib import Path
import numpy as np
from belvedere.data import image_cache
from belvedere.images.decode import read_input
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess
from conftest import contents_of


image_cache.CHUNK_SIZE = 2
paths = sorted(Path(sys.argv[1]).iterdir(), reverse=len(sys.argv) > 2)
read = image_cache.read_image_array(contents_of(paths), Preprocess(8, 8), Progress())
found = read.images[np.arange(len(paths))]
for image, path in zip(found, paths, strict=True):
    assert np.array_equal(image, read_input(path, Preprocess(8, 8)).pixels)
"""


def start_reader(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", READ, str(folder), *arguments], env=environment)


def test_two_processes_fill_it_at_once(tmp_path: Path, decoded: list[Path]) -> None:
    """Each in its own order, a few images at a time: both get the right ones, and the next decodes none."""
    paths = [write_image(tmp_path / "photos" / f"{number:03}.png", "blue", number, 64) for number in range(150)]
    readers = [start_reader(tmp_path / "photos"), start_reader(tmp_path / "photos", "reverse")]
    assert [reader.wait(600) for reader in readers] == [0, 0]
    assert_right(read(paths), paths)
    assert decoded == []
    keys = [line["sha256"] for line in index_lines()]
    assert len(keys) == len(set(keys)) == 150


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_killed_while_it_fills_it_goes_on(tmp_path: Path, decoded: list[Path]) -> None:
    paths = [write_image(tmp_path / "photos" / f"{number:03}.png", "blue", number, 64) for number in range(150)]
    reader = start_reader(tmp_path / "photos")
    folder = tmp_path / "cache" / "images"
    while reader.poll() is None and not any(index.stat().st_size for index in folder.glob(f"*/{INDEX}")):
        time.sleep(0.001)
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    assert_right(read(paths), paths)
    assert len(decoded) < 150


class Interrupts(Progress):
    """Presses Ctrl-C when the first images are in."""

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        class Raises(Task):
            def advance(self, images: int, figures: str = "") -> None:
                if images:
                    raise KeyboardInterrupt

        yield Raises()


def test_what_was_decoded_stays_when_it_is_cut_off(
    photos: list[Path], decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "CHUNK_SIZE", 2)
    monkeypatch.setattr(image_cache, "num_usable_cpus", lambda: 1)
    monkeypatch.setattr("belvedere.runtime.thread_pool.num_usable_cpus", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        read_image_array(contents_of(photos), SIZE, Interrupts())
    decoded.clear()
    assert_right(read(photos), photos)
    assert 0 < len(decoded) < 5


def test_stores_are_listed_and_cleared(photos: list[Path]) -> None:
    assert list_caches() == []
    assert clear_cache() == 0
    open_rows = read(photos).images
    before = open_rows[np.arange(5)]
    read(photos[:2], Preprocess(10, 20, "crop"))
    for number, name in enumerate(("8x8-stretch", "10x20-crop")):
        lock = cache_folder() / "images" / f"{name}-{decode.DECODER_VERSION}" / array_cache.LOCK
        os.utime(lock, (1000 - number, 1000 - number))
    crop, stretch = list_caches()
    assert (crop.num_images, stretch.num_images) == (2, 5)
    assert stretch.size_bytes >= 5 * IMAGE_BYTES
    assert crop.last_used < stretch.last_used
    assert clear_cache() == crop.size_bytes + stretch.size_bytes
    assert list_caches() == []
    if os.name == "posix":
        np.testing.assert_array_equal(open_rows[np.arange(5)], before)
    assert_right(read(photos), photos)


def test_clearing_leaves_other_things_in_the_folder_alone(photos: list[Path]) -> None:
    read(photos)
    mine = [
        cache_folder() / name for name in ("other.txt", "weights/best.pt", "pixels/rows", "embeddings/a/index.jsonl")
    ]
    for file in mine:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    clear_cache()
    assert sorted(path for path in cache_folder().rglob("*") if path.is_file()) == sorted(mine)


@pytest.mark.parametrize("gone", [(), ("index.jsonl",), ("rows", "lock"), ("index.jsonl", "rows", "lock")])
def test_clearing_that_was_cut_off_is_gone_on_with(photos: list[Path], gone: tuple[str, ...]) -> None:
    read(photos)
    for name in gone:
        store(name).unlink()
    assert len(list_caches()) == 1
    clear_cache()
    assert list(cache_folder().iterdir()) == []


def test_clearing_does_not_meet_a_process_that_fills(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a process makes its lock anew, wherever the store still stands under its name."""
    read(photos)
    lock, unlink = store("lock"), Path.unlink

    def unlink_and_lock(path: Path) -> None:
        unlink(path)
        if lock.parent.exists():
            lock.touch()

    monkeypatch.setattr(Path, "unlink", unlink_and_lock)
    clear_cache()
    assert list(cache_folder().iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_with_the_ways_out(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(CacheError, match=r"(?s)cache.*BELVEDERE_CACHE"):
        read(photos)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="no folder is closed to root")
def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(CacheError, match="BELVEDERE_CACHE"):
        read(photos)


def test_a_full_disk_is_named_and_does_no_harm(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read(photos[:2])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("belvedere.data.array_cache.json.dumps", full)
        with pytest.raises(CacheError, match=os.strerror(errno.ENOSPC)):
            read(photos)
    assert_right(read(photos), photos)


def test_a_full_disk_leaves_nothing_that_is_written_later() -> None:
    resource = pytest.importorskip("resource")
    rows = [NewRow(f"{number:064}", np.full(64, number, np.uint8)) for number in range(6)]
    first, second = (ArrayCache("images", "x", (64,), np.uint8) for _ in range(2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # the second row is written in part
    try:
        with pytest.raises(CacheError, match=os.strerror(errno.ENOSPC)):
            first.add(rows[:3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    second.add(rows[3:])
    del first
    gc.collect()
    np.testing.assert_array_equal(second.rows(row.key for row in rows[3:])[np.arange(3)][:, 0], [3, 4, 5])
    assert second.find_missing(row.key for row in rows) == [row.key for row in rows[:3]]


def test_the_place_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(CACHE_DIR_ENV)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "belvedere"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "belvedere"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "belvedere"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "belvedere"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_cache_is_closed_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_DIR_ENV)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "belvedere").mkdir(mode=0o755)  # as an older version made it
    ArrayCache("images", "new", (2,), np.uint8)
    folders = [path for path in (tmp_path / "belvedere").rglob("*") if path.is_dir()]
    assert len(folders) == 2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "belvedere", *folders)} == {0o700}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_the_user_named_keeps_its_permissions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o750)
    monkeypatch.setenv(CACHE_DIR_ENV, str(shared))
    ArrayCache("images", "new", (2,), np.uint8)
    assert shared.stat().st_mode & 0o777 == 0o750
    assert (shared / "images").stat().st_mode & 0o777 == 0o700


def test_another_limit_of_pixels_has_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    key = image_cache.preprocess_key(SIZE)
    monkeypatch.setattr(image_cache, "default_max_pixels", lambda: 50_000_000)
    assert image_cache.preprocess_key(SIZE) == f"{key}-50000000"
