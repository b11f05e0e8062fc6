"""Differences between operating systems. tests/test_layers.py finds uses of them in other modules."""

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

UNIX_SOCKETS: int | None = getattr(socket, "AF_UNIX", None)  # the family; None where there are none
RENAME_ATTEMPTS, RENAME_SECONDS = 6, 0.05  # on Windows; the wait doubles each time, to 1.55 s in all

_RESERVED = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "COM0", "LPT0"]
_RESERVED_NAMES = {*_RESERVED, *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³")}

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 62  # beyond the content: other processes cannot read or write a locked byte

    def lock(file: IO[bytes]) -> None:
        """Lock an open file until it is closed or the process ends.

        Raises:
            OSError: It cannot be locked; BlockingIOError or PermissionError if another process has locked it.
        """
        position = file.tell()
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(position)

    def allocate(file: IO[bytes], start: int, length: int) -> None:
        """Do nothing: Windows allocates when bytes are written."""

    def sync_folder(folder: Path) -> None:
        """Do nothing: Windows cannot open folders."""

    def copy_mode(path: Path, target: Path) -> None:
        """Do nothing: on Windows, a file inherits permissions from its folder."""

else:
    import fcntl

    def lock(file: IO[bytes]) -> None:
        """Lock an open file until it is closed or the process ends.

        Raises:
            OSError: It cannot be locked; BlockingIOError or PermissionError if another process has locked it.
        """
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def allocate(file: IO[bytes], start: int, length: int) -> None:
        """Allocate disk space for bytes that will be written.

        Raises:
            OSError: The disk is full, or its file system cannot.
        """
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), start, length)

    def sync_folder(folder: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def copy_mode(path: Path, target: Path) -> None:
        """Give a file the permissions of another one, if that exists and the disk has permissions."""
        with suppress(OSError):
            target.chmod(path.stat().st_mode & 0o777)


def count_cpus() -> int | None:
    """Return the number of CPUs that this process may use, without quotas; None where unknown."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        number: int | None = os.process_cpu_count()
        return number
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def call_at_fork(
    after_in_child: Callable[[], object],
    before: Callable[[], object] | None = None,
    after_in_parent: Callable[[], object] | None = None,
) -> None:
    """Register calls around each fork of the process; Windows has none."""
    if hasattr(os, "register_at_fork"):
        calls = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
        os.register_at_fork(**{name: call for name, call in calls.items() if call is not None})


def can_rename_open_files() -> bool:
    """Return whether open files, and folders that contain some, can be renamed and deleted."""
    return sys.platform != "win32"


def rename(path: Path, target: Path) -> None:
    """Rename a file or folder.

    On Windows, another program that has opened it, such as a virus scanner, prevents that for a moment. The call is
    repeated for 1.5 s.

    Raises:
        OSError: It cannot be renamed; on Windows also if the target exists.
    """
    _repeat_on_windows(lambda: path.rename(target))


def replace(path: Path, target: Path) -> None:
    """Rename a file as `rename`; another file of the target's name is replaced.

    Raises:
        OSError: It cannot be renamed.
    """
    _repeat_on_windows(lambda: path.replace(target))


def _repeat_on_windows(call: Callable[[], object]) -> None:
    for attempt in range(RENAME_ATTEMPTS - 1):
        try:
            call()
        except PermissionError:
            if can_rename_open_files():
                raise
            time.sleep(RENAME_SECONDS * 2**attempt)
        else:
            return
    call()


def problem_with_name(name: str) -> str:
    """Return why a file or folder cannot have a name, such as "it contains ':'"; empty if it can."""
    if name in ("", ".", ".."):
        return "it is empty" if not name else "it names another folder"
    if found := [each for each in name if each in "/\\\0"]:
        return f"it contains {found[0]!r}"
    return _problem_on_windows(name) if sys.platform == "win32" else ""


def _problem_on_windows(name: str) -> str:
    """Return what Windows refuses: https://learn.microsoft.com/windows/win32/fileio/naming-a-file."""
    if found := [each for each in name if each in '<>:"|?*' or each < " "]:
        return f"it contains {found[0]!r}"
    if name.partition(".")[0].rstrip(" ").upper() in _RESERVED_NAMES:
        return "Windows reserves it for a device"
    return "it ends in a dot or a space" if name[-1] in ". " else ""
