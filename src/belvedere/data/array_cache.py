"""Caches arrays of one shape on disk, by key.

A cache is a folder with the files `rows` (arrays one after the other), `index.jsonl` (one line per row, in the same
order) and `lock`, held by the process that appends. A line is written after its row, and a truncated last line is
ignored. Rows of earlier runs are checked against the CRC of their line. Rows are read rather than mapped, since the
kernel caches them either way and the process stays small.
"""

import errno
import json
import os
import secrets
import threading
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
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
from belvedere.runtime.operating_system import allocate
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import CacheStats

DOWNLOADS = "downloads"  # of the command `fetch`: other files, in folders of the same kind
GRAPHS = "graphs"  # of networks, without weights
KINDS = ("images", "embeddings", GRAPHS, DOWNLOADS)  # each in a folder
INDEX, ROWS, LOCK = "index.jsonl", "rows", "lock"
BATCH_SIZE = 64  # rows verified at once
POLL_SECONDS = 0.002  # between attempts to get the lock


@dataclass(frozen=True, slots=True)
class RowInfo:
    """Index entry of a row."""

    slot: int  # position in the file
    crc32: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to add."""

    key: str
    values: NDArray[Any]  # of the cache's shape and type, contiguous
    warnings: tuple[str, ...] = ()


class CachedArray:
    """Rows of a cache, (N, *shape); indexed like an array."""

    def __init__(self, file: FileIO, shape: tuple[int, ...], dtype: DTypeLike, slots: NDArray[np.int64]) -> None:
        self._file = file  # kept open, so that the rows outlive a cleared cache
        weakref.finalize(self, self._file.close)
        self._slots, self._shape, self._dtype = slots, shape, np.dtype(dtype)
        self._row_bytes = _row_bytes(shape, dtype)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return some rows, (n, *shape).

        Raises:
            CacheError: The file was truncated.
        """
        values = np.empty((len(rows), *self._shape), self._dtype)
        for row, slot in zip(values, self._slots[rows], strict=True):
            self._file.seek(int(slot) * self._row_bytes)
            if self._file.readinto(row.data) != self._row_bytes:
                raise CacheError("The cache was truncated while in use. Start again.")
        return values


def list_caches() -> list[CacheStats]:
    """List all caches, least recently used first."""
    found = []
    for kind in KINDS:
        for tag in (cache_folder() / kind).glob(f"*/{CACHE_TAG}"):
            folder = tag.parent
            files = {file.name: file.stat() for file in folder.iterdir()}
            count = (folder / INDEX).read_bytes().count(b"\n") if INDEX in files else 0
            last_used = files[LOCK].st_mtime if LOCK in files else max(file.st_atime for file in files.values())
            size = sum(file.st_size for file in files.values())
            found.append(CacheStats(folder, kind, folder.name, count, size, last_used))
    return sorted(found, key=lambda cache: cache.last_used)


def clear_cache() -> int:
    """Delete all caches. Running trainings that opened one continue undisturbed, except on Windows.

    Folders without a `CACHEDIR.TAG` stay, since BELVEDERE_CACHE may name any folder.

    Returns:
        Number of bytes freed.

    Raises:
        CacheError: A cache cannot be deleted.
    """
    caches = list_caches()
    try:
        for cache in caches:
            # Rename first: a process that adds rows would create the lock again.
            cleared = cache.folder.rename(cache.folder.with_name(f"cleared-{secrets.token_hex(8)}"))
            for file in cleared.iterdir():
                if file.name != CACHE_TAG:
                    file.unlink()
            (cleared / CACHE_TAG).unlink()  # last, so that the next call finds what an interrupted one left
            cleared.rmdir()
            with suppress(OSError):  # not empty
                cache.folder.parent.rmdir()
    except OSError as error:
        raise CacheError(f"Cannot clear {cache_folder()}: {describe_error(error)}. Delete it by hand.") from error
    return sum(cache.size_bytes for cache in caches)


class ArrayCache:
    """Rows of one shape and type; `index` holds the rows that are complete."""

    def __init__(self, kind: str, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Open or create a cache.

        Args:
            kind: One of `KINDS`.
            name: Configuration that, with the key, determines a row.
            shape: Shape of a row.
            dtype: Type of its values.

        Raises:
            CacheError: The folder cannot be written.
        """
        self.folder, self._shape, self._dtype = cache_folder() / kind / name, shape, dtype
        self.index: dict[str, RowInfo] = {}
        self._index_bytes = self._index_lines = 0  # read so far
        self._thread_lock = threading.Lock()  # the file lock only separates processes
        try:
            make_cache_folder(kind, name)
            for file in (INDEX, ROWS, LOCK):
                (self.folder / file).touch()
            self._rows = (self.folder / ROWS).open("r+b", buffering=0)  # nothing is left to write after the lock
            weakref.finalize(self, self._rows.close)
            self._read_new_lines()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def rows(self, keys: Iterable[str]) -> CachedArray:
        """Open the rows of keys that the cache holds, in the order of the keys."""
        slots = np.array([self.index[key].slot for key in keys], np.int64)
        try:
            file = (self.folder / ROWS).open("rb", buffering=0)
        except OSError as error:
            raise CacheError(
                f"Cannot read the cache in {self.folder}: {describe_error(error)}. Start again."
            ) from error
        return CachedArray(file, self._shape, self._dtype, slots)

    def ensure_not_cleared(self) -> None:
        """Check that no process has cleared the cache, and perhaps created it again, since it was opened.

        Raises:
            CacheError: It was cleared.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._rows.fileno()), (self.folder / ROWS).stat()):
                return
        raise CacheError(f"The cache in {self.folder} was cleared while in use. Start again.")

    def find_missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys whose rows are missing or damaged."""
        keys = list(keys)
        present = [key for key in keys if key in self.index]
        rows = self.rows(present)
        for start in range(0, len(present), BATCH_SIZE):
            batch = present[start : start + BATCH_SIZE]
            try:
                checksums = [zlib.crc32(row.data) for row in rows[np.arange(start, start + len(batch))]]
            except CacheError:
                checksums = [-1] * len(batch)
            for key, checksum in zip(batch, checksums, strict=True):
                if checksum != self.index[key].crc32:
                    del self.index[key]
        return [key for key in keys if key not in self.index]

    def add(self, rows: Sequence[NewRow]) -> None:
        """Append rows, then their index lines, except those that another process has added meanwhile.

        Raises:
            CacheError: The disk is full, or the cache was cleared.
        """
        checksums = {row.key: zlib.crc32(row.values.data) for row in rows}
        try:
            with self._thread_lock, FileLock(self.folder / LOCK).acquire(poll_interval=POLL_SECONDS):
                self.ensure_not_cleared()
                self._read_new_lines()
                new = [row for row in rows if row.key not in self.index]
                self._write_rows(new)
                self._write_lines(new, checksums)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _write_rows(self, rows: Sequence[NewRow]) -> None:
        row_bytes = _row_bytes(self._shape, self._dtype)
        start = self._index_lines * row_bytes
        if rows:
            with suppress(OSError):  # not supported by every file system
                allocate(self._rows, start, len(rows) * row_bytes)  # halves the time to write
        self._rows.seek(start)
        for row in rows:
            if self._rows.write(row.values.data) != row_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write_lines(self, rows: Sequence[NewRow], checksums: Mapping[str, int]) -> None:
        lines = [{"sha256": row.key, "crc32": checksums[row.key], "warnings": row.warnings} for row in rows]
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with (self.folder / INDEX).open("r+b") as file:
            file.truncate(self._index_bytes)  # drops a partial last line
            file.seek(self._index_bytes)
            file.write(content)
        for slot, row in enumerate(rows, self._index_lines):
            self.index[row.key] = RowInfo(slot, checksums[row.key], row.warnings)
        self._index_lines += len(rows)
        self._index_bytes += len(content)

    def _read_new_lines(self) -> None:
        with (self.folder / INDEX).open("rb") as file:
            file.seek(self._index_bytes)
            complete, end, _ = file.read().rpartition(b"\n")
        for line in complete.split(b"\n") if end else ():
            with suppress(ValueError, LookupError, TypeError, RecursionError):  # a damaged line
                values = json.loads(line)
                self.index[values["sha256"]] = RowInfo(self._index_lines, values["crc32"], tuple(values["warnings"]))
            self._index_lines += 1
        self._index_bytes += len(complete) + len(end)


def _row_bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _cannot_write(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"Cannot write the cache in {folder}: {describe_error(error)}. Free disk space, clear the cache, or name "
        f"another folder in the environment variable {CACHE_DIR_ENV}."
    )
