"""Writing files so that a reader never sees half of one: a file appears at once or not at all.

Knows temporary names, flushing and renaming; does not know what it writes. A temporary file is locked while it is
written, so that those of processes that were killed can be told and deleted.
"""

import io
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TextIO

from belvedere.errors import UsageError
from belvedere.runtime.locks import is_named, try_lock
from belvedere.runtime.strict_json import dump_json

TEMPORARY = ".belvedere-{}.tmp"  # beside the file that it will be; with 16 hexadecimal digits
_TEMPORARY_NAME = re.compile(r"\.belvedere-[0-9a-f]{16}\.tmp")


def always() -> None:
    """Check nothing."""


@contextmanager
def atomic_text_writer(path: Path, check: Callable[[], None] = always) -> Iterator[TextIO]:
    r"""Writes a UTF-8 text file bit by bit that appears, or takes the old one's place, only when it is whole.

    Args:
        path: The file; its folder must exist.
        check: Is asked once more before the file takes its place; what it raises leaves the file under another name.

    Yields:
        The file to write into, with line ends as they are given; surrogates become ``\udcXX``, as in `write_text`.

    Raises:
        UsageError: The place can't be written to.
    """
    with _replacement(path, check) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        yield file
        file.detach()


def write_bytes(path: Path, content: bytes, check: Callable[[], None] = always) -> None:
    """Writes a file at once: a reader finds the old content or the new, never a part.

    Args:
        path: The file; its folder must exist. A link is followed; a device or a pipe is written straight into.
        content: All of it.
        check: As `atomic_text_writer`.

    Raises:
        UsageError: The place can't be written to.
    """
    with _replacement(path, check) as file:
        file.write(content)


@contextmanager
def _replacement(path: Path, check: Callable[[], None]) -> Iterator[IO[bytes]]:
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as file:  # such as /dev/null, which must not be replaced by a file
                yield file
        else:
            with _temporary(target, check) as file:
                yield file
    except OSError as error:
        raise UsageError(f"Can't write {path}: {error.strerror or error}. Give another place.") from error


@contextmanager
def _temporary(target: Path, check: Callable[[], None]) -> Iterator[IO[bytes]]:
    clear_once(target.parent)
    temporary, file = _open_temporary(target.parent)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":
                file.close()  # an open file can't be renamed there; elsewhere it stays locked until it is in its place
            put_in_place(temporary, target, check)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _open_temporary(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        path = folder / TEMPORARY.format(secrets.token_hex(8))
        file = path.open("xb")
        if try_lock(file) is not False and is_named(file, path):
            return path, file
        file.close()  # another process took it for one that was left, at this very moment


def put_in_place(whole: Path, target: Path, check: Callable[[], None]) -> None:
    """Give a whole file its name; where that may not be, it gets a free one beside it.

    Raises:
        UsageError: The check failed; the message says where the file is.
    """
    try:
        check()
    except UsageError as error:
        kept = free_name(target)
        whole.rename(kept)
        raise UsageError(f"The results are whole, but are in {kept}: {error}") from error
    whole.replace(target)


def free_name(path: Path) -> Path:
    """Return the path, with a number where it is taken."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


@cache
def clear_once(folder: Path) -> None:
    """Delete as `clear_temporary`, once a process: a folder may be large, and get many files."""
    clear_temporary(folder)


def clear_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder that no living process writes."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _delete_unless_locked(Path(entry.path))


def _delete_unless_locked(path: Path) -> None:
    with suppress(OSError):
        if os.name == "nt":
            path.unlink()  # which fails while it is open
            return
        with path.open("r+b") as file:
            if try_lock(file):
                path.unlink()


def write_text(path: Path, content: str, check: Callable[[], None] = always) -> None:
    r"""Writes a UTF-8 text file at once, as `write_bytes` does.

    Bytes of a file name that are not UTF-8, which Python holds as lone surrogates, are written as ``\udcXX``.
    """
    write_bytes(path, content.encode(errors="backslashreplace"), check)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file at once, indented for people to read."""
    write_text(path, dump_json(content, indent=2, ensure_ascii=False) + "\n")
