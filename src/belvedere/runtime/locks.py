"""Locks on open files, which end with the process that holds them, however it ends.

Knows how to ask the system for one without waiting; does not know what it protects. Process numbers would not do: they
mean nothing in another container or on another machine of a network disk, and are given out again. (The package
filelock waits for locks in the cache; importing it takes longer than an answer.)
"""

import os
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 62  # the byte that is locked: others can't read or write a locked one

    def try_lock(file: IO[bytes]) -> bool | None:
        """Lock an open file until it is closed or its process ends.

        Returns:
            Whether it is locked now; False where another holder has it, None where the disk has no locks.
        """
        place = file.tell()
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return None
        finally:
            file.seek(place)
        return True

else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool | None:
        """Lock an open file until it is closed or its process ends.

        Returns:
            Whether it is locked now; False where another holder has it, None where the disk has no locks.
        """
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None  # such as on some network disks
        return True


def is_locked(path: Path) -> bool:
    """Say whether somebody holds a lock on a file; False where that can't be told."""
    try:
        with path.open("r+b") as file:
            return try_lock(file) is False
    except OSError:
        return False


def is_named(file: IO[bytes], path: Path) -> bool:
    """Say whether an open file still has this name: another process may have deleted or renamed it."""
    if os.name == "nt":
        return True  # an open file can't be
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
