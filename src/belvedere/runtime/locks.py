"""File locks that end with the process that holds them.

Process numbers would not do: they mean nothing in another container or on another machine of a network disk, and are
reused. The cache waits for its locks with the package filelock, whose import takes 0.08 s: a third of the start of a
command (docs/experiments.md).
"""

import os
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 62  # beyond the content: other processes cannot read or write a locked byte

    def _lock(file: IO[bytes]) -> None:
        position = file.tell()
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(position)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(file: IO[bytes]) -> bool | None:
    """Lock an open file until it is closed or the process ends.

    Returns:
        Whether it is locked now; False if another process holds the lock, None if the disk has no locks.
    """
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # Linux, Windows
        return False
    except OSError:
        return None
    return True


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False where unknown."""
    try:
        with path.open("r+b") as file:
            return try_lock(file) is False
    except OSError:
        return False


def is_named(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file still has this path: another process may have deleted or renamed it."""
    if os.name == "nt":
        return True  # open files cannot be renamed
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
