"""Writing results so that a reader never sees half of one: files and whole folders appear at once or not at all.

Knows temporary names, flushing and renaming; does not know what it writes.
"""

import errno
import glob
import io
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from belvedere.errors import FolderExists, UsageError
from belvedere.strict_json import dump_json

if TYPE_CHECKING:
    from filelock import FileLock

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
MARK = ".belvedere"  # a file in every folder of results, without which none is replaced; locked while it is written
TEMPORARY = ".belvedere-{}.tmp"
REPLACED = ".replaced"  # ending of a folder that holds older results until the new ones are in their place


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
    _clear_abandoned(target.parent)
    temporary = target.parent / TEMPORARY.format(secrets.token_hex(8))
    try:
        with temporary.open("xb") as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name == "posix":  # while it is locked: another process would take it for abandoned
                temporary.replace(target)
        if os.name != "posix":
            temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@cache
def _clear_abandoned(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder; once a process and folder."""
    with suppress(OSError):
        for path in folder.glob(TEMPORARY.format("*")):
            with suppress(OSError), path.open("rb") as file:
                if _lock(file):
                    path.unlink()


def _lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; return whether nobody else has locked it.

    Windows has no such lock and needs none here: a file that another process has open can't be deleted there.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or a file system without locks
        return False
    return True


def write_text(path: Path, content: str) -> None:
    r"""Writes a UTF-8 text file at once, as `write_bytes` does.

    Bytes of a file name that are not UTF-8, which Python holds as lone surrogates, are written as ``\udcXX``.
    """
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file at once, indented for people to read."""
    write_text(path, dump_json(content, indent=2, ensure_ascii=False) + "\n")


def claim_folder(folder: Path, *, overwrite: bool) -> None:
    """Makes an empty folder of Belvedere's own, for several results beside each other.

    Args:
        folder: Where it shall be.
        overwrite: Whether an older one that Belvedere made may be emptied first.

    Raises:
        FolderExists: Something is there that may not be replaced; the message names the ways out.
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
        FolderExists: Something is there that may not be replaced; the message names the ways out.
        UsageError: The folder can't be made.
    """
    target = _absolute(folder)
    partial = partial_of(target)
    try:
        _check_target(folder, target, overwrite)
        lock, left = claim_partial(partial)
    except OSError as error:
        raise _cannot_make(folder, error) from error
    try:
        if left and not (overwrite or resume):
            raise _left_over(partial)
        with _prepared(folder, partial, keep_if, empty=not resume):
            yield partial
        if os.name != "posix":
            lock.release()  # else the folder can't be renamed there
        _finish(folder, target, partial, overwrite)
    finally:
        lock.release()


@contextmanager
def _prepared(folder: Path, partial: Path, keep_if: str, *, empty: bool) -> Iterator[None]:
    """Empty an unfinished folder, if need be, before the block; delete or keep it where the block raises."""
    try:
        if empty:
            empty_partial(partial)
        for torn in partial.glob(TEMPORARY.format("*")):  # of a process that was killed while it wrote
            torn.unlink()
    except OSError as error:
        raise _cannot_make(folder, error) from error
    try:
        yield
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


def _finish(folder: Path, target: Path, partial: Path, overwrite: bool) -> None:
    try:
        _check_target(folder, target, overwrite)
        _clear_replaced(target)
        _swap(partial, target)
    except (OSError, FolderExists) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise UsageError(f"The results are whole, but stay in {partial}: {reason}") from error


def _swap(partial: Path, target: Path) -> None:
    """Renames the new folder to its name; what was there goes only when the new one is in its place."""
    if not target.exists():
        partial.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=_aside_prefix(target), suffix=REPLACED, dir=target.parent))
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


def _clear_replaced(target: Path) -> None:
    """Delete what a process that was killed between two renamings has left of older results; the target is there."""
    if target.exists():
        for aside in target.parent.glob(f"{glob.escape(_aside_prefix(target))}*{REPLACED}"):
            shutil.rmtree(aside, ignore_errors=True)


def _aside_prefix(target: Path) -> str:
    return f".{target.name[:100]}."


def claim_partial(partial: Path) -> tuple["FileLock", bool]:
    """Take an unfinished folder for this process, which holds it until it releases the lock or ends, however it does.

    A lock, since the number of a process means nothing in another container or on another machine.

    Args:
        partial: The folder; it is made if it is not there.

    Returns:
        The lock, on the file `MARK` in the folder, and whether an earlier process left the folder.

    Raises:
        FolderExists: Another process holds it, or it was not made by Belvedere.
        OSError: It can't be made or locked.
    """
    from filelock import FileLock, Timeout  # here, since most commands write no folder

    left = (partial / MARK).is_file()
    if os.path.lexists(partial) and not left and not _is_empty(partial):
        raise FolderExists(partial, "It was not made by Belvedere, so it is never replaced: give another --out.")
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        lock = FileLock(partial / MARK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FolderExists(
                partial, "Another process is at work in it. Wait for it, or give another --out."
            ) from None
        if (partial / MARK).is_file():
            return lock, left
        lock.release()  # the folder was renamed to its name just before: its maker is done
        left = False


def empty_partial(partial: Path) -> None:
    """Delete all that is in an unfinished folder but its mark."""
    for path in partial.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


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


def _left_over(partial: Path) -> FolderExists:
    return FolderExists(
        partial,
        "It was left by a job that was cut off (its history.csv says how far it came). Add --overwrite to start anew "
        "(a training goes on with --resume), or give another --out.",
    )


def _cannot_make(folder: Path, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(f"Can't make the folder {folder}: {reason}. Give another --out.")
