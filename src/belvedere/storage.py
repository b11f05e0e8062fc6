"""Writing results so that a reader never sees half of one: files and whole folders appear at once or not at all.

Knows temporary names, flushing and renaming; does not know what it writes.
"""

import csv
import errno
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from belvedere.errors import FolderExists, UsageError

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
MARK = ".belvedere"  # a file in every folder of results, with the number of the process that made it: only such a
# folder is ever replaced, and not while that process lives and the folder is unfinished
TEMPORARY = ".belvedere-{}.tmp"


def check_free_file(path: Path, *, overwrite: bool) -> None:
    """Checks before the work that a file may be written.

    Raises:
        UsageError: It is a folder, its folder is not there, it is there already and may not be replaced, or it can't be
            a file at all.
    """
    try:
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else f"is in {path.parent}, which is not a folder"
            raise UsageError(f"{path} {what}. Expected the name of a file to write.")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} is there already. Give another --out, or add --overwrite to replace it.")
    except OSError as error:  # such as a name that is too long
        raise UsageError(f"Can't write {path}: {error.strerror}. Give another place.") from error


@contextmanager
def replace_when_whole(path: Path) -> Iterator[TextIO]:
    r"""Writes a UTF-8 text file bit by bit that appears, or takes the old one's place, only when it is whole.

    Args:
        path: The file; its folder must exist.

    Yields:
        The file to write into, with line ends as they are given; surrogates become ``\udcXX``, as in `write_text`.

    Raises:
        UsageError: The place can't be written to.
    """
    with _replacement(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        yield file
        file.detach()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file at once: a reader finds the old content or the new, never a part.

    Args:
        path: The file; its folder must exist. A link is followed; a device or a pipe is written straight into.
        content: All of it.

    Raises:
        UsageError: The place can't be written to.
    """
    with _replacement(path) as file:
        file.write(content)


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as file:  # such as /dev/null, which must not be replaced by a file
                yield file
        else:
            with _temporary(target) as file:
                yield file
    except OSError as error:
        raise UsageError(f"Can't write {path}: {error.strerror or error}. Give another place.") from error


@contextmanager
def _temporary(target: Path) -> Iterator[BinaryIO]:
    temporary = target.parent / TEMPORARY.format(secrets.token_hex(8))
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, content: str) -> None:
    r"""Writes a UTF-8 text file at once, as `write_bytes` does.

    Bytes of a file name that are not UTF-8, which Python holds as lone surrogates, are written as ``\udcXX``.
    """
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file at once, indented for people to read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file at once: a header, then a row each; None becomes an empty cell."""
    text = io.StringIO()
    table = CsvRows(text)
    for row in (header, *rows):
        table.write(row)
    write_text(path, text.getvalue())


class CsvRows:
    """Rows of cells as lines of CSV; None becomes an empty cell."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._line = file, io.StringIO()
        self._csv = csv.writer(self._line, lineterminator="\r\n")  # else Python leaves a \r in a cell unquoted

    def write(self, cells: Iterable[object]) -> None:
        """Writes a row."""
        self._csv.writerow(cells)
        self._file.write(self._line.getvalue().removesuffix("\r\n") + "\n")
        self._line.seek(0)
        self._line.truncate()


def check_free(folder: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Checks that a folder of results may be made here, before any work is done for it.

    Args:
        folder: Where the results shall be.
        overwrite: Whether results of Belvedere's that are there may be replaced.
        resume: Whether an unfinished folder is taken up again.

    Raises:
        FolderExists: Something is there that may not be replaced; the message names the ways out.
        UsageError: No folder can be made here.
    """
    target = _absolute(folder)
    try:
        _check_target(folder, target, overwrite)
        _check_partial(partial_of(target), overwrite, resume)
    except OSError as error:
        raise _cannot_make(folder, error) from error


def claim_folder(folder: Path, *, overwrite: bool) -> None:
    """Makes an empty folder of Belvedere's own, for several results beside each other.

    Args:
        folder: Where it shall be.
        overwrite: Whether an older one that Belvedere made may be emptied first.

    Raises:
        FolderExists: As `check_free`.
        UsageError: The folder can't be made.
    """
    with new_folder(folder, overwrite=overwrite):
        pass  # whole as soon as it is there


@contextmanager
def new_folder(folder: Path, *, overwrite: bool, keep_if: str = "", resume: bool = False) -> Iterator[Path]:
    """Makes a folder of results that appears under its name only when it is whole.

    The work is done in `FOLDER.partial`, beside it. If the block ends well that is renamed to `folder`; if it raises,
    what `folder` held stays as it was.

    Args:
        folder: Where the results shall be.
        keep_if: A file whose presence makes an unfinished folder worth keeping when the block raises.
        overwrite: Whether results of Belvedere's that are there may be replaced. A folder that Belvedere did not
            write is never replaced.
        resume: Whether an unfinished folder that an earlier process left is taken up again, with what is in it.

    Yields:
        The folder to write into.

    Raises:
        FolderExists: As `check_free`.
        UsageError: The folder can't be made.
    """
    check_free(folder, overwrite=overwrite, resume=resume)
    target = _absolute(folder)
    partial = partial_of(target)
    try:
        if partial.exists() and not resume:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=resume)
        for torn in partial.glob(TEMPORARY.format("*")):  # of a process that was killed while it wrote
            torn.unlink()
        (partial / MARK).write_text(str(os.getpid()))
    except OSError as error:
        raise _cannot_make(folder, error) from error
    try:
        yield partial
    except BaseException as error:
        if keep_if and (partial / keep_if).exists():
            left = f" What was done so far is in {partial}."
            error.add_note(left.strip())
        else:
            left = ""
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise UsageError(
                f"Can't write the results: {error.strerror}. Make room, or give another --out.{left}"
            ) from error
        raise
    try:
        _check_target(folder, target, overwrite)
        _swap(partial, target)
    except (OSError, FolderExists) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise UsageError(f"The results are whole, but stay in {partial}: {reason}") from error


def _swap(partial: Path, target: Path) -> None:
    """Renames the new folder to its name; what was there goes only when the new one is in its place."""
    if not target.exists():
        partial.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".replaced", dir=target.parent))
    replaced = aside / "results"
    try:
        target.rename(replaced)
        try:
            partial.rename(target)
        except OSError:
            replaced.rename(target)
            raise
    finally:
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _absolute(folder: Path) -> Path:
    """The folder's full path, links and `..` followed; no working folder may be pulled from under the user's feet."""
    try:
        target, here = folder.resolve(), Path.cwd()
        is_mount = os.path.ismount(target)
    except (OSError, RuntimeError) as error:
        raise _cannot_make(folder, error) from error
    if here.is_relative_to(target):
        raise UsageError(
            f"{folder} is or holds the folder you are in: give --out a folder of its own, such as results."
        )
    if is_mount:
        raise UsageError(f"{folder} is a mounted disk: give --out a folder in it, such as {folder / 'results'}.")
    return target


def partial_of(folder: Path) -> Path:
    """Returns where the work on a folder of results is until it is whole."""
    target = _absolute(folder)
    return target.with_name(f"{target.name}.partial")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_target(folder: Path, target: Path, overwrite: bool) -> None:
    if not target.exists() or _is_empty(target):
        return
    if not (target / MARK).is_file():
        raise FolderExists(folder, "It was not made by Belvedere, so it is never replaced: give another --out.")
    if not overwrite:
        raise FolderExists(folder, "Give another --out, or add --overwrite to replace it.")


def _check_partial(partial: Path, overwrite: bool, resume: bool) -> None:
    if not os.path.lexists(partial):
        return
    if not (partial / MARK).is_file() and not _is_empty(partial):
        raise FolderExists(partial, "It was not made by Belvedere, so it is never replaced: give another --out.")
    if (overwrite or resume) and (process := _living_owner(partial)) is not None:
        raise FolderExists(
            partial,
            f"Process {process}, which made it or has its number now, is alive. Wait for it, delete the folder if it "
            "is not at work there, or give another --out.",
        )
    if not (overwrite or resume):
        raise FolderExists(
            partial,
            "It was left by a job that was cut off (its history.csv says how far it came), or belongs to one that is "
            "still running. Add --overwrite to start anew (a training goes on with --resume), or give another --out.",
        )


def _living_owner(partial: Path) -> int | None:
    """The process that is at work on a folder, if it is another than this one and still lives."""
    try:
        process = int((partial / MARK).read_text() or "0")
        if os.name != "posix" or process in (0, os.getpid()):
            return None  # elsewhere, asking a process for a sign of life would end it
        os.kill(process, 0)
    except (OSError, ValueError, OverflowError):
        return None
    return process


def _cannot_make(folder: Path, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(f"Can't make the folder {folder}: {reason}. Give another --out.")
