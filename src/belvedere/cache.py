"""Decoded pictures kept on disk, each once, so that training does not decode them again.

Knows how pixels lie in a file, keyed by the SHA-256 of a picture's file and the reading rule, and how several
processes add to it at once; does not know labels or what is learnt. It is read, not mapped: the kernel caches it all
the same, and the process stays small.

A store is a folder for one reading rule: `pixels`, pictures of one size one after the other, and `index.jsonl`, a line
for each in the same order. A line is only there when its picture is; a torn last line is no line. Whoever adds holds
`lock`. Pictures are checked against their line's CRC when another run takes them; a damaged one is decoded anew.
"""

import hashlib
import json
import os
import shutil
import sys
import threading
import weakref
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from belvedere.errors import CacheError, UnreadableImage
from belvedere.images import READING_VERSION, read_content, read_input
from belvedere.progress import Progress, Task
from belvedere.records import Preprocess, Sample, StoreFigures
from belvedere.splits import Contents
from belvedere.threads import chunks_of, map_ahead

PLACE_VARIABLE = "BELVEDERE_CACHE"
INDEX, PIXELS, LOCK = "index.jsonl", "pixels", "lock"
TOGETHER = 64  # pictures that a thread decodes and then adds under one lock, at most
POLL_SECONDS = 0.002  # for the lock, while another process adds


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture in a store."""

    slot: int  # its place in the file of pixels
    crc32: int  # of its pixels
    notes: tuple[str, ...]  # what was decided in reading it


class PixelRows:
    """Pictures of one size, N x H x W x 3 bytes, in a store; indexed by rows, as an array is."""

    def __init__(self, file: Path, preprocess: Preprocess, slots: NDArray[np.int64]) -> None:
        try:
            self._file = file.open("rb", buffering=0)  # kept open: clearing the cache meanwhile takes nothing from us
        except OSError as error:
            raise CacheError(f"Can't read the cache in {file.parent}: {error.strerror}. Start again.") from error
        weakref.finalize(self, self._file.close)
        self._slots = slots
        self._shape = (preprocess.height, preprocess.width, 3)
        self._size_bytes = _picture_bytes(preprocess)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Returns the pictures of some rows, (n, H, W, 3).

        Raises:
            CacheError: The file has been cut short.
        """
        images = np.empty((len(rows), *self._shape), np.uint8)
        for image, slot in zip(images, self._slots[rows], strict=True):
            self._file.seek(int(slot) * self._size_bytes)
            if self._file.readinto(image.data) != self._size_bytes:
                raise CacheError("The cache of pixels has been cut short while it was in use. Start again.")
        return images


@dataclass(frozen=True)
class Pixels:
    """Photographs ready to learn from."""

    images: PixelRows
    samples: tuple[Sample, ...]  # N, one a row
    unreadable: tuple[tuple[Sample, str], ...]  # not among them, with the reason
    remarked: tuple[tuple[Sample, str], ...]  # among them, with what was decided in reading


def cache_folder() -> Path:
    """Returns where the cache is: $BELVEDERE_CACHE, else the user's folder for such files."""
    if place := os.environ.get(PLACE_VARIABLE):
        return Path(place)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "belvedere"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "belvedere"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belvedere"


def read_pixels(contents: Contents, preprocess: Preprocess, progress: Progress) -> Pixels:
    """Decodes the photographs that the cache does not hold yet, and opens it for all of them.

    What was decoded stays when this is cut off; other processes may do the same at the same time.

    Args:
        contents: The photographs with the hashes of their files.
        preprocess: The size and rule they are kept by.
        progress: Shows how far it is.

    Returns:
        The pixels of those that can be read, in the given order, and the others by name.

    Raises:
        CacheError: The cache can't be written, or the disk is full.
    """
    store = _Store(preprocess)
    paths = {key: sample.path for key, sample in zip(contents.hashes, contents.samples, strict=True)}
    with progress.task("Reading", len(paths)) as task:
        missing = store.find_missing(paths)
        task.advance(len(paths) - len(missing))
        reasons = store.fill([(key, paths[key]) for key in missing], preprocess, task)
    samples: list[Sample] = []
    slots: list[int] = []
    unreadable: list[tuple[Sample, str]] = []
    remarked: list[tuple[Sample, str]] = []
    for key, sample in zip(contents.hashes, contents.samples, strict=True):
        if key in reasons:
            unreadable.append((sample, reasons[key]))
        else:
            samples.append(sample)
            slots.append(store.entries[key].slot)
            remarked += [(sample, note) for note in store.entries[key].notes]
    rows = PixelRows(store.folder / PIXELS, preprocess, np.array(slots, np.int64))
    store.check_there()
    return Pixels(rows, tuple(samples), tuple(unreadable), tuple(remarked))


def list_stores() -> list[StoreFigures]:
    """Lists what the cache holds, the least recently used first."""
    found = []
    for index in _stores_folder().glob(f"*/{INDEX}"):
        folder = index.parent
        size = sum(file.stat().st_size for file in folder.iterdir())
        with index.open("rb") as lines:
            images = sum(1 for _ in lines)
        used = (folder / LOCK).stat().st_mtime if (folder / LOCK).exists() else index.stat().st_mtime
        found.append(StoreFigures(folder, folder.name, images, size, used))
    return sorted(found, key=lambda store: store.used)


def clear_cache() -> int:
    """Deletes what the cache holds; a training that has opened it goes on undisturbed, but on Windows.

    Returns:
        How many bytes were freed.

    Raises:
        CacheError: It can't be deleted.
    """
    freed = sum(store.size_bytes for store in list_stores())
    try:
        if _stores_folder().exists():
            shutil.rmtree(_stores_folder())
    except OSError as error:
        raise CacheError(f"Can't clear {_stores_folder()}: {error.strerror}.") from error
    return freed


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture on its way into a store."""

    key: str
    pixels: NDArray[np.uint8]  # (H, W, 3)
    crc32: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lost:
    """A picture that can't be read."""

    key: str
    reason: str


def _decode(key: str, path: Path, preprocess: Preprocess) -> _Decoded | _Lost:
    try:
        content = read_content(path)
        if hashlib.sha256(content).hexdigest() != key:
            return _Lost(key, "was changed while it was read")
        decoded = read_input(content, preprocess)
    except UnreadableImage as error:
        return _Lost(key, error.reason)
    pixels = np.ascontiguousarray(decoded.pixels)
    return _Decoded(key, pixels, zlib.crc32(pixels.data), decoded.notes)


class _Store:
    """The pictures of one reading rule; `entries` holds those that are known to be whole."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        name = f"{preprocess.height}x{preprocess.width}-{preprocess.resize}-{READING_VERSION}"
        self.folder = _stores_folder() / name
        self.entries: dict[str, Entry] = {}
        self._known_bytes = self._known_lines = 0  # of the index
        self._adding = threading.Lock()  # between threads; the lock of the file is between processes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for file in (INDEX, PIXELS, LOCK):
                (self.folder / file).touch()
            self._pixels = (self.folder / PIXELS).open("r+b")
            weakref.finalize(self, self._pixels.close)
            self._take_new_lines()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def check_there(self) -> None:
        """Checks that the store has not been cleared since it was opened, and perhaps begun anew by another process.

        Raises:
            CacheError: It has.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._pixels.fileno()), (self.folder / PIXELS).stat()):
                return
        raise CacheError(f"The cache in {self.folder} was cleared while it was in use. Start again.")

    def find_missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys whose pixels are not here, or not whole."""
        keys = list(keys)
        here = [key for key in keys if key in self.entries]
        missing = [key for key in keys if key not in self.entries]
        slots = np.array([self.entries[key].slot for key in here], np.int64)
        rows = PixelRows(self.folder / PIXELS, self._preprocess, slots)
        for start in range(0, len(here), TOGETHER):
            chosen = here[start : start + TOGETHER]
            try:
                images = rows[np.arange(start, start + len(chosen))]
                whole = [
                    zlib.crc32(image.data) == self.entries[key].crc32 for key, image in zip(chosen, images, strict=True)
                ]
            except CacheError:
                whole = [False] * len(chosen)
            for key, good in zip(chosen, whole, strict=True):
                if not good:
                    del self.entries[key]
                    missing.append(key)
        return missing

    def fill(self, wanted: Sequence[tuple[str, Path]], preprocess: Preprocess, task: Task) -> dict[str, str]:
        """Decodes pictures and adds them, in threads; returns the reasons of those that can't be read, by key."""
        reasons: dict[str, str] = {}
        threads = os.cpu_count() or 1
        chunks = chunks_of(wanted, min(TOGETHER, -(-len(wanted) // (2 * threads))))  # something for every thread

        def decode_and_add(chunk: list[tuple[str, Path]]) -> tuple[int, list[_Lost]]:
            outcomes = [_decode(key, path, preprocess) for key, path in chunk]
            self._add([outcome for outcome in outcomes if isinstance(outcome, _Decoded)])
            return len(chunk), [outcome for outcome in outcomes if isinstance(outcome, _Lost)]

        for count, lost in map_ahead(decode_and_add, chunks, 2 * threads):
            reasons |= {outcome.key: outcome.reason for outcome in lost}
            task.advance(count)
        return reasons

    def _add(self, decoded: Sequence[_Decoded]) -> None:
        """Appends pictures, then their lines, but for those that another process has added meanwhile."""
        try:
            with self._adding, FileLock(self.folder / LOCK).acquire(poll_interval=POLL_SECONDS):
                self.check_there()
                self._take_new_lines()
                fresh = [item for item in decoded if item.key not in self.entries]
                self._write_pixels(fresh)
                self._write_lines(fresh)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _write_pixels(self, fresh: Sequence[_Decoded]) -> None:
        size_bytes = _picture_bytes(self._preprocess)
        start = self._known_lines * size_bytes
        if fresh and hasattr(os, "posix_fallocate"):  # room for all of them at once: the writing takes half as long
            with suppress(OSError):  # not every file system can; a full disk is heard of in writing
                os.posix_fallocate(self._pixels.fileno(), start, len(fresh) * size_bytes)
        self._pixels.seek(start)
        for item in fresh:
            self._pixels.write(item.pixels.data)
        self._pixels.flush()

    def _write_lines(self, fresh: Sequence[_Decoded]) -> None:
        lines = [{"sha256": item.key, "crc32": item.crc32, "notes": item.notes} for item in fresh]
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with (self.folder / INDEX).open("r+b") as file:
            file.truncate(self._known_bytes)  # a torn last line is no line
            file.seek(self._known_bytes)
            file.write(content)
        for slot, item in enumerate(fresh, self._known_lines):
            self.entries[item.key] = Entry(slot, item.crc32, item.notes)
        self._known_lines += len(fresh)
        self._known_bytes += len(content)

    def _take_new_lines(self) -> None:
        with (self.folder / INDEX).open("rb") as file:
            file.seek(self._known_bytes)
            whole, end, _ = file.read().rpartition(b"\n")
        for line in whole.split(b"\n") if end else ():
            with suppress(ValueError, LookupError, TypeError, RecursionError):  # a damaged line is no line
                values = json.loads(line)
                self.entries[values["sha256"]] = Entry(self._known_lines, values["crc32"], tuple(values["notes"]))
            self._known_lines += 1
        self._known_bytes += len(whole) + len(end)


def _stores_folder() -> Path:
    return cache_folder() / "pixels"


def _picture_bytes(preprocess: Preprocess) -> int:
    return preprocess.height * preprocess.width * 3


def _cannot_write(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"Can't write the cache of decoded pictures in {folder}: {error.strerror or error}. Make room there "
        f"(belvedere cache --clear), or name another folder with the environment variable {PLACE_VARIABLE}."
    )
