"""Atomic writing: a reader finds the old file or the new one, never an incomplete one.

A temporary file is locked while it is written, so that those of killed processes can be found and deleted.
"""

import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TextIO

from belvedere.errors import BelvedereError, UsageError
from belvedere.runtime.locks import is_named, try_lock
from belvedere.runtime.operating_system import can_rename_open_files, copy_mode, rename, replace
from belvedere.runtime.terminal import describe_error

TEMPORARY_NAME = ".belvedere-{}.tmp"  # beside the target; with 16 hexadecimal digits
_IS_TEMPORARY = re.compile(r"\.belvedere-[0-9a-f]{16}\.tmp")


def always() -> None:
    """Check nothing."""


@contextmanager
def atomic_text_writer(path: Path, check: Callable[[], None] = always) -> Iterator[TextIO]:
    r"""Open a UTF-8 text file that gets its name after the block.

    Args:
        path: The file; its folder must exist.
        check: Called before the file gets its name; if it raises, the file gets another name.

    Yields:
        The file to write into. Line ends are kept; lone surrogates become ``\udcXX``.

    Raises:
        UsageError: The file cannot be written.
    """
    with _atomic_writer(path, check) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        yield file
        file.detach()


def write_bytes(path: Path, content: bytes, check: Callable[[], None] = always) -> None:
    """Write a whole file atomically, as `atomic_text_writer`.

    A link is followed; a device or a pipe is written to directly.
    """
    with _atomic_writer(path, check) as file:
        file.write(content)


def write_text(path: Path, content: str, check: Callable[[], None] = always) -> None:
    r"""Write a UTF-8 text file atomically, as `write_bytes`; lone surrogates become ``\udcXX``."""
    write_bytes(path, content.encode(errors="backslashreplace"), check)


@contextmanager
def _atomic_writer(path: Path, check: Callable[[], None]) -> Iterator[IO[bytes]]:
    try:
        with suppress(FileNotFoundError):
            path.stat()  # raises OSError for a loop of links, for which `resolve` raises RuntimeError
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as file:  # a device, such as /dev/null, must not be replaced by a file
                yield file
        else:
            with _temporary_file(target, check) as file:
                yield file
    except BelvedereError:
        raise
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {describe_error(error)}. Choose another file.") from error


@contextmanager
def _temporary_file(target: Path, check: Callable[[], None]) -> Iterator[IO[bytes]]:
    clear_once(target.parent)
    temporary, file = _open_temporary(target.parent)
    copy_mode(target, temporary)  # before the content: the file may be private
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not can_rename_open_files():
                file.close()  # otherwise the lock is kept until the file has its name
            rename_checked(temporary, target, check)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _open_temporary(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        path = folder / TEMPORARY_NAME.format(secrets.token_hex(8))
        file = path.open("xb")
        if try_lock(file) is not False and is_named(file, path):
            return path, file
        file.close()  # another process has deleted it before it was locked


def rename_checked(temporary: Path, target: Path, check: Callable[[], None]) -> None:
    """Give a complete file its name, or a free name beside it if the check fails.

    Raises:
        UsageError: The check failed; the message names the file.
    """
    try:
        check()
    except UsageError as error:
        other = free_name(target)
        rename(temporary, other)
        raise UsageError(f"The results are complete, but are in {other}: {error}") from error
    replace(temporary, target)


def free_name(path: Path, numbers: dict[Path, int] | None = None) -> Path:
    """Return the path, with a number if it exists.

    Args:
        path: The path.
        numbers: Last number of each path, kept between calls, so that no name is tried twice.
    """
    numbers = {} if numbers is None else numbers
    free = path
    while os.path.lexists(free):
        numbers[path] = numbers.get(path, 1) + 1
        free = path.with_name(f"{path.stem}-{numbers[path]}{path.suffix}")
    return free


def beside(path: Path, suffix: str) -> Path:
    """Return the path with a suffix added to its name.

    Raises:
        UsageError: It has no name, as "/".
    """
    named = path.resolve() if path.name in ("", "..") else path
    if not named.name:
        raise UsageError(f"{path} is the root of a disk, and nothing can be written beside it. Give a folder in it.")
    return named.with_name(f"{named.name}{suffix}")


@cache
def clear_once(folder: Path) -> None:
    """Call `clear_temporary` once per process: a folder may be large and get many files."""
    clear_temporary(folder)


def clear_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder that no running process writes."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _IS_TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _delete_unless_locked(Path(entry.path))


def _delete_unless_locked(path: Path) -> None:
    with suppress(OSError):
        if not can_rename_open_files():
            path.unlink()  # fails while it is open
            return
        with path.open("r+b") as file:
            if try_lock(file):
                path.unlink()
