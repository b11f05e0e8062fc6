"""File locks that end with the process that holds them.

Process numbers would not do: they mean nothing in another container or on another machine of a network disk, and are
reused. The cache waits for its locks with the package filelock, whose import takes 0.08 s: a third of the start of a
command (docs/experiments.md).
"""

import os
from pathlib import Path
from typing import IO

from belvedere.runtime.operating_system import can_rename_open_files, lock


def try_lock(file: IO[bytes]) -> bool | None:
    """Lock an open file until it is closed or the process ends.

    Returns:
        Whether it is locked now; False if another process holds the lock, None if the disk has no locks.
    """
    try:
        lock(file)
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
    if not can_rename_open_files():
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
