"""Arrays of one shape kept on disk, each by its key, so that nothing is worked out twice.

Knows how rows lie in a file and how several processes add to it at once; does not know what they mean. It is read, not
mapped: the kernel caches it all the same, and the process stays small.

A store is a folder: `rows`, arrays of one size one after the other, and `index.jsonl`, a line for each in the same
order. A line is only there when its row is; a torn last line is no line. Whoever adds holds `lock`. Rows are checked
against their line's CRC when another run takes them; a damaged one is no longer there.
"""

import json
import os
import secrets
import threading
import weakref
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from belvedere.errors import CacheError
from belvedere.runtime.environment import CACHE_DIR_ENV, CACHE_TAG, cache_folder, make_cache_folder
from belvedere.types.data import StoreFigures

STORES, WEIGHTS = ("pixels", "embeddings"), "weights"  # what is kept, each kind in a folder
INDEX, ROWS, LOCK = "index.jsonl", "rows", "lock"
CHECKED_TOGETHER = 64  # rows
POLL_SECONDS = 0.002  # for the lock, while another process adds


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a store."""

    slot: int  # its place in the file
    crc32: int
    notes: tuple[str, ...]  # what is known of it beside its values


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row on its way into a store."""

    key: str
    values: NDArray[Any]  # of the store's shape and type, contiguous
    crc32: int  # of its bytes
    notes: tuple[str, ...] = ()


class CachedArray:
    """Some rows of a store, N x its shape; indexed by rows, as an array is."""

    def __init__(self, file: FileIO, shape: tuple[int, ...], dtype: DTypeLike, slots: NDArray[np.int64]) -> None:
        self._file = file  # open, so that clearing the cache takes nothing from it; closed when nobody needs the rows
        weakref.finalize(self, self._file.close)
        self._slots, self._shape, self._dtype = slots, shape, np.dtype(dtype)
        self._size_bytes = _row_bytes(shape, dtype)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Returns some rows, (n, ...).

        Raises:
            CacheError: The file has been cut short.
        """
        taken = np.empty((len(rows), *self._shape), self._dtype)
        for row, slot in zip(taken, self._slots[rows], strict=True):
            self._file.seek(int(slot) * self._size_bytes)
            if self._file.readinto(row.data) != self._size_bytes:
                raise CacheError("The cache has been cut short while it was in use. Start again.")
        return taken


def list_stores() -> list[StoreFigures]:
    """Lists what the cache holds, the least recently used first."""
    found = []
    for kind in (*STORES, WEIGHTS):
        for tag in (cache_folder() / kind).glob(f"*/{CACHE_TAG}"):
            folder, index = tag.parent, tag.with_name(INDEX)
            files = {file.name: file.stat() for file in folder.iterdir()}
            images = _count_lines(index) if kind != WEIGHTS and INDEX in files else 0
            used = (
                files[LOCK].st_mtime
                if kind != WEIGHTS and LOCK in files
                else max(file.st_atime for file in files.values())
            )
            size = sum(file.st_size for file in files.values())
            found.append(StoreFigures(folder, kind, folder.name, images, size, used))
    return sorted(found, key=lambda store: store.used)


def clear_cache() -> int:
    """Deletes what the cache holds; a training that has opened it goes on undisturbed, but on Windows.

    Folders that were there before, and so have no `CACHEDIR.TAG`, stay: BELVEDERE_CACHE may name any folder.

    Returns:
        How many bytes were freed.

    Raises:
        CacheError: It can't be deleted.
    """
    stores = list_stores()
    try:
        for store in stores:
            # Aside first: a process that fills the store would make its lock anew.
            aside = store.folder.rename(store.folder.with_name(f"cleared-{secrets.token_hex(8)}"))
            for file in aside.iterdir():
                if file.name != CACHE_TAG:
                    file.unlink()
            (aside / CACHE_TAG).unlink()  # last: what was cut off is found again
            aside.rmdir()
            with suppress(OSError):  # others of its kind are there
                store.folder.parent.rmdir()
    except OSError as error:
        raise CacheError(f"Can't clear {cache_folder()}: {error.strerror}. Delete it by hand.") from error
    return sum(store.size_bytes for store in stores)


class Store:
    """Rows of one shape and type; `entries` holds those that are known to be whole."""

    def __init__(self, kind: str, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Opens a store, or begins it.

        Args:
            kind: One of `STORES`.
            name: Of all that decides the rows but their key.
            shape: Of a row.
            dtype: Of its values.

        Raises:
            CacheError: The folder can't be written.
        """
        self.folder, self._shape, self._dtype = cache_folder() / kind / name, shape, dtype
        self.entries: dict[str, Entry] = {}
        self._known_bytes = self._known_lines = 0  # of the index
        self._adding = threading.Lock()  # between threads; the lock of the file is between processes
        try:
            make_cache_folder(kind, name)
            for file in (INDEX, ROWS, LOCK):
                (self.folder / file).touch()
            self._rows = (self.folder / ROWS).open("r+b")
            weakref.finalize(self, self._rows.close)
            self._take_new_lines()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def rows(self, keys: Iterable[str]) -> CachedArray:
        """Opens the rows of some keys that are here, in the order of the keys."""
        slots = np.array([self.entries[key].slot for key in keys], np.int64)
        try:
            file = (self.folder / ROWS).open("rb", buffering=0)
        except OSError as error:
            raise CacheError(f"Can't read the cache in {self.folder}: {error.strerror}. Start again.") from error
        return CachedArray(file, self._shape, self._dtype, slots)

    def ensure_not_cleared(self) -> None:
        """Checks that the store has not been cleared since it was opened, and perhaps begun anew by another process.

        Raises:
            CacheError: It has.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._rows.fileno()), (self.folder / ROWS).stat()):
                return
        raise CacheError(f"The cache in {self.folder} was cleared while it was in use. Start again.")

    def find_missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys whose rows are not here, or not whole."""
        keys = list(keys)
        here = [key for key in keys if key in self.entries]
        missing = [key for key in keys if key not in self.entries]
        rows = self.rows(here)
        for start in range(0, len(here), CHECKED_TOGETHER):
            chosen = here[start : start + CHECKED_TOGETHER]
            try:
                taken = rows[np.arange(start, start + len(chosen))]
                whole = [
                    zlib.crc32(row.data) == self.entries[key].crc32 for key, row in zip(chosen, taken, strict=True)
                ]
            except CacheError:
                whole = [False] * len(chosen)
            for key, good in zip(chosen, whole, strict=True):
                if not good:
                    del self.entries[key]
                    missing.append(key)
        return missing

    def add(self, additions: Sequence[NewRow]) -> None:
        """Appends rows, then their lines, but for those that another process has added meanwhile.

        Raises:
            CacheError: The disk is full, or the store was cleared.
        """
        try:
            with self._adding, FileLock(self.folder / LOCK).acquire(poll_interval=POLL_SECONDS):
                self.ensure_not_cleared()
                self._take_new_lines()
                fresh = [item for item in additions if item.key not in self.entries]
                self._write_rows(fresh)
                self._write_lines(fresh)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _write_rows(self, fresh: Sequence[NewRow]) -> None:
        size_bytes = _row_bytes(self._shape, self._dtype)
        start = self._known_lines * size_bytes
        if fresh and hasattr(os, "posix_fallocate"):  # room for all of them at once: the writing takes half as long
            with suppress(OSError):  # not every file system can; a full disk is heard of in writing
                os.posix_fallocate(self._rows.fileno(), start, len(fresh) * size_bytes)
        self._rows.seek(start)
        for item in fresh:
            self._rows.write(item.values.data)
        self._rows.flush()

    def _write_lines(self, fresh: Sequence[NewRow]) -> None:
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


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _row_bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _cannot_write(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"Can't write the cache in {folder}: {error.strerror or error}. Make room there (belvedere cache --clear), or "
        f"name another folder with the environment variable {CACHE_DIR_ENV}."
    )
