"""Folders of results, which appear under their name only when they are whole.

Knows which folders may be replaced, and how the work on one is held against other processes; does not know what is in
them. The work is done in `FOLDER.partial`, whose mark is locked meanwhile.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from belvedere.errors import OutputExistsError, UsageError
from belvedere.runtime.files import clear_temporary
from belvedere.runtime.locks import is_locked, is_named, try_lock
from belvedere.runtime.output_file import Input

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
MARK = ".belvedere"  # an empty file in every folder of Belvedere's, locked while a process works there: only such a
# folder is ever replaced
PARTIAL, ASIDE = ".partial", ".replaced"  # behind a folder's name while it is in the making, and while it is replaced
NOT_OURS = "It was not made by Belvedere, so it is never replaced: give another --out."
AT_WORK = "Another process is at work in it. Wait for it, or give another --out."
CUT_OFF = (
    "It was left by a job that was cut off (the history.csv of a training says how far it came). Add --overwrite to "
    "start anew (a training goes on with --resume), or give another --out."
)


def check_output_folder(
    folder: Path, *, overwrite: bool, resume: bool = False, inputs: Iterable[Input | None] = ()
) -> None:
    """Checks that a folder of results may be made here, before any work is done for it.

    Args:
        folder: Where the results shall be.
        overwrite: Whether results of Belvedere's that are there may be replaced.
        resume: Whether an unfinished folder is taken up again.
        inputs: What the work reads: a folder that holds one of these is never replaced.

    Raises:
        OutputExistsError: Something is there that may not be replaced; the message names the ways out.
        UsageError: No folder can be made here.
    """
    target = _absolute(folder)
    try:
        _check_target(folder, target, overwrite, inputs)
        _check_partial(partial_path(target), overwrite, resume, inputs)
    except OSError as error:
        raise _cannot_make(folder, error) from error


@contextmanager
def create_output_folder(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Makes an empty folder of Belvedere's own, for several results beside each other, and holds it for the block.

    Args:
        folder: Where it shall be.
        overwrite: Whether an older one that Belvedere made may be emptied first.

    Raises:
        OutputExistsError: As `check_output_folder`.
        UsageError: The folder can't be made.
    """
    with atomic_folder(folder, overwrite=overwrite):
        pass  # whole as soon as it is there
    with hold(folder):
        yield


@contextmanager
def hold(folder: Path) -> Iterator[IO[bytes]]:
    """Makes a folder of Belvedere's own, if there is none, and holds it against other processes.

    Yields:
        The locked mark. Windows needs it closed before the folder is renamed or deleted; elsewhere it stays open.

    Raises:
        OutputExistsError: Another process holds it, or it was not made by Belvedere.
        OSError: It can't be made.
    """
    _check_ours(folder, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MARK).open("ab") as mark:
        locked = try_lock(mark)
        if locked is None:
            logging.getLogger(__name__).warning(
                "The disk of %s has no file locks: make sure that no other process works there.", folder
            )
        if locked is False or not is_named(mark, folder / MARK):
            raise OutputExistsError(folder, AT_WORK)
        yield mark


def let_go(mark: IO[bytes]) -> None:
    """Closes a mark where its folder could not be renamed or deleted otherwise."""
    if os.name == "nt":
        mark.close()


def empty_folder(folder: Path) -> None:
    """Deletes all but the mark."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


@contextmanager
def atomic_folder(
    folder: Path,
    *,
    overwrite: bool,
    keep_if: str = "",
    resume: bool = False,
    inputs: Iterable[Input | None] = (),
) -> Iterator[Path]:
    """Makes a folder of results that appears under its name only when it is whole.

    The work is done in `FOLDER.partial`, beside it. If the block ends well that is renamed to `folder`; if it raises,
    what `folder` held stays as it was.

    Args:
        folder: Where the results shall be.
        keep_if: A file whose presence makes an unfinished folder worth keeping when the block raises.
        overwrite: Whether results of Belvedere's that are there may be replaced. A folder that Belvedere did not
            write is never replaced.
        resume: Whether an unfinished folder that an earlier process left is taken up again, with what is in it.
        inputs: As `check_output_folder`.

    Yields:
        The folder to write into.

    Raises:
        OutputExistsError: As `check_output_folder`.
        UsageError: The folder can't be made.
    """
    inputs = list(inputs)
    check_output_folder(folder, overwrite=overwrite, resume=resume, inputs=inputs)
    target = _absolute(folder)
    partial = partial_path(target)
    with ExitStack() as stack:
        try:
            mark = stack.enter_context(hold(partial))
            if _restore(target):
                stack.callback(_delete_bare, partial)
                _check_target(folder, target, overwrite, inputs)
            if resume:
                clear_temporary(partial)
            else:
                empty_folder(partial)
        except OSError as error:
            raise _cannot_make(folder, error) from error
        with _kept_or_deleted(partial, mark, keep_if):
            yield partial
        let_go(mark)
        try:
            _check_target(folder, target, overwrite, inputs)
            _swap(partial, target)
        except (OSError, OutputExistsError) as error:
            reason = error.strerror or error if isinstance(error, OSError) else error
            raise UsageError(f"The results are whole, but stay in {partial}: {reason}") from error


@contextmanager
def _kept_or_deleted(partial: Path, mark: IO[bytes], keep_if: str) -> Iterator[None]:
    """Deletes an unfinished folder when the block raises, unless there is something in it that is worth keeping."""
    try:
        yield
    except BaseException as error:
        if keep_if and (partial / keep_if).exists():
            left = f" What was done so far is in {partial}."
            error.add_note(left.strip())
        else:
            left = ""
            let_go(mark)
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise UsageError(
                f"Can't write the results: {error.strerror}. Make room, or give another --out.{left}"
            ) from error
        raise


def _swap(partial: Path, target: Path) -> None:
    """Renames the new folder to its name; what was there goes only when the new one is in its place."""
    if not target.exists():
        partial.rename(target)
        return
    aside = _aside(target)
    target.rename(aside)
    try:
        partial.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _restore(target: Path) -> bool:
    """Puts back what a process put aside that was killed between two renames; deletes it if it was killed later.

    Returns:
        Whether something was put back.
    """
    aside = _aside(target)
    if not _is_ours(aside):
        return False
    if not target.exists():
        aside.rename(target)
        return True
    if _is_ours(target):
        shutil.rmtree(aside)
    return False


def _delete_bare(partial: Path) -> None:
    """Deletes an unfinished folder in which nothing was written."""
    if partial.is_dir() and [path.name for path in partial.iterdir()] == [MARK]:
        shutil.rmtree(partial, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}{ASIDE}")


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


def partial_path(folder: Path) -> Path:
    """Returns where the work on a folder of results is until it is whole."""
    target = _absolute(folder)
    return target.with_name(f"{target.name}{PARTIAL}")


def _is_ours(folder: Path) -> bool:
    return (folder / MARK).is_file()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_ours(shown: Path, folder: Path) -> None:
    if os.path.lexists(folder) and not _is_ours(folder) and not _is_empty(folder):
        raise OutputExistsError(shown, NOT_OURS)


def _check_target(folder: Path, target: Path, overwrite: bool, inputs: Iterable[Input | None]) -> None:
    if not target.exists() or _is_empty(target):
        return
    _check_ours(folder, target)
    _check_apart(folder, target, inputs)
    if not overwrite:
        raise OutputExistsError(folder, "Give another --out, or add --overwrite to replace it.")
    if is_locked(target / MARK):
        raise OutputExistsError(folder, AT_WORK)


def _check_partial(partial: Path, overwrite: bool, resume: bool, inputs: Iterable[Input | None]) -> None:
    if not os.path.lexists(partial):
        return
    _check_ours(partial, partial)
    if is_locked(partial / MARK):
        raise OutputExistsError(partial, AT_WORK)
    if not (overwrite or resume):
        raise OutputExistsError(partial, CUT_OFF)
    if not resume:
        _check_apart(partial, partial, inputs)


def _check_apart(shown: Path, folder: Path, inputs: Iterable[Input | None]) -> None:
    """Refuses to replace a folder that holds what is read."""
    for each in inputs:
        if each is not None and _is_in(each, folder):
            raise OutputExistsError(
                shown, f"It holds {each}, which this command reads, so it stays: give another --out."
            )


def _is_in(path: Input, folder: Path) -> bool:
    if isinstance(path, int):
        return False  # an open file has no place
    if Path(os.path.abspath(path)).is_relative_to(folder):  # noqa: PTH100 - without following links
        return True
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False  # such as a link to itself: reading it says so


def _cannot_make(folder: Path, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(f"Can't make the folder {folder}: {reason}. Give another --out.")
