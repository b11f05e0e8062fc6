"""Output folders, which get their name only when they are complete.

A folder is written as `FOLDER.partial`. It contains a marker file that is locked while a process writes there. Only
folders with a marker file are ever replaced.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from belvedere.errors import OutputExistsError, UsageError
from belvedere.runtime.files import clear_temporary
from belvedere.runtime.locks import is_locked, is_named, try_lock
from belvedere.runtime.operating_system import can_rename_open_files, rename
from belvedere.runtime.output_file import GIVE_ANOTHER, Input
from belvedere.runtime.terminal import describe_error

DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
MARKER_FILE = ".belvedere"
ANSWERS = ("*.labels.jsonl", "*.annotations.jsonl", "*.corrections.jsonl")  # of people, who may have put them there
PARTIAL, REPLACED = ".partial", ".replaced"  # suffixes: folder in progress, and old folder while it is replaced
NOT_OURS = "It was not made by Belvedere, so it is never replaced. Give another `out`."
IN_USE = "Another process is working in it. Wait for it, or give another `out`."
INTERRUPTED = (
    "It is from an interrupted job. Set `overwrite` to start over, `resume` to continue a training, or give another "
    "`out`."
)


def check_output_folder(
    folder: Path, *, overwrite: bool, resume: bool = False, inputs: Iterable[Input | None] = ()
) -> None:
    """Check, before any work, that an output folder may be made.

    Args:
        folder: The folder to make.
        overwrite: Whether a folder that Belvedere wrote may be replaced.
        resume: Whether an unfinished folder is continued.
        inputs: Files and folders that are read; a folder that contains one is never replaced.

    Raises:
        OutputExistsError: The folder exists and may not be replaced.
        UsageError: The folder cannot be made.
    """
    target = _absolute(folder)
    with _folder_errors(folder):
        _check_target(folder, target, overwrite, inputs)
        if target.exists():
            _check_ours(_replaced_path(target), _replaced_path(target))
        _check_partial(partial_path(target), overwrite, resume, inputs)


@contextmanager
def create_output_folder(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Make an empty output folder for several results, and lock it for the block; see `check_output_folder`."""
    with atomic_folder(folder, overwrite=overwrite):
        pass
    with lock_folder(folder):
        yield


@contextmanager
def lock_folder(folder: Path) -> Iterator[IO[bytes]]:
    """Make an output folder, unless it exists, and lock it.

    Yields:
        The locked marker file. On Windows it must be closed before the folder is renamed or deleted.

    Raises:
        OutputExistsError: Another process has locked it, or Belvedere did not make it.
        OSError: It cannot be made.
    """
    _check_ours(folder, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MARKER_FILE).open("ab") as marker:
        locked = try_lock(marker)
        if locked is None:
            logging.getLogger(__name__).warning(
                "The disk of %s has no file locks: make sure that no other process works there.", folder
            )
        if locked is False or not is_named(marker, folder / MARKER_FILE):
            raise OutputExistsError(folder, IN_USE, can_overwrite=False)
        yield marker


def close_on_windows(marker: IO[bytes]) -> None:
    """Close a marker file where an open file keeps its folder from being renamed or deleted."""
    if not can_rename_open_files():
        marker.close()


def empty_folder(folder: Path) -> None:
    """Delete everything but the marker file."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER_FILE:
            path.unlink()


def delete_folder(folder: Path) -> None:
    """Delete a folder that Belvedere made, its marker file last: what a killed process leaves is still known as ours.

    Raises:
        OSError: Something in it cannot be deleted.
    """
    empty_folder(folder)
    (folder / MARKER_FILE).unlink(missing_ok=True)
    folder.rmdir()


@contextmanager
def atomic_folder(
    folder: Path,
    *,
    overwrite: bool,
    keep_if: str = "",
    resume: bool = False,
    inputs: Iterable[Input | None] = (),
) -> Iterator[Path]:
    """Write an output folder in `FOLDER.partial`, which is yielded, and rename it after the block.

    Arguments and errors are those of `check_output_folder`. If the block raises, the folder stays as it was, and the
    unfinished one stays if it holds a file named `keep_if`.

    Raises:
        UsageError: The disk is full.
    """
    inputs = list(inputs)
    check_output_folder(folder, overwrite=overwrite, resume=resume, inputs=inputs)
    target = _absolute(folder)
    partial = partial_path(target)
    with ExitStack() as stack:
        with _folder_errors(folder):
            marker = stack.enter_context(lock_folder(partial))
            if _restore(target):
                stack.callback(_delete_bare, partial)
                _check_target(folder, target, overwrite, inputs)
            if resume:
                clear_temporary(partial)
            else:
                empty_folder(partial)
        with _delete_unfinished(partial, marker, keep_if):
            yield partial
        close_on_windows(marker)
        try:
            _check_target(folder, target, overwrite, inputs)
            _swap(partial, target)
        except OSError as error:  # an OutputExistsError too
            raise UsageError(f"The results are complete, but stay in {partial}: {describe_error(error)}") from error


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the system into a UsageError about the folder."""
    try:
        yield
    except OutputExistsError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise UsageError(f"Cannot make the folder {folder}: {describe_error(error)}. Give another `out`.") from error


@contextmanager
def _delete_unfinished(partial: Path, marker: IO[bytes], keep_if: str) -> Iterator[None]:
    """Delete an unfinished folder when the block raises, unless it contains `keep_if`."""
    try:
        yield
    except BaseException as error:
        note = ""
        if keep_if and (partial / keep_if).exists():
            note = f"Partial results are in {partial}."
            error.add_note(note)
        else:
            close_on_windows(marker)
            with suppress(OSError):
                delete_folder(partial)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            hint = f"Free some space, or give another `out`. {note}".rstrip()
            raise UsageError(f"Cannot write the results: {error.strerror}. {hint}") from error
        raise


def _swap(partial: Path, target: Path) -> None:
    """Rename the new folder; delete the old one afterwards."""
    if not target.exists():
        rename(partial, target)
        return
    replaced = _replaced_path(target)
    rename(target, replaced)
    try:
        rename(partial, target)
    except OSError:
        rename(replaced, target)
        raise
    with suppress(OSError):
        delete_folder(replaced)


def _restore(target: Path) -> bool:
    """Undo a `_swap` during which a process was killed; return whether the old folder was put back."""
    replaced = _replaced_path(target)
    if _is_empty(replaced):
        replaced.rmdir()  # the process was killed after it had deleted the marker file
    if not _is_ours(replaced):
        return False
    if not target.exists():
        rename(replaced, target)
        return True
    if _is_ours(target):
        delete_folder(replaced)
    return False


def _delete_bare(folder: Path) -> None:
    """Delete a folder that contains only the marker file."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == [MARKER_FILE]:
        shutil.rmtree(folder, ignore_errors=True)


def _replaced_path(target: Path) -> Path:
    return target.with_name(f".{target.name}{REPLACED}")


def _absolute(folder: Path) -> Path:
    """Return the full path; refuse mounts and the working folder."""
    with _folder_errors(folder):
        target, working_folder = folder.resolve(), Path.cwd()
        is_mount = os.path.ismount(target)
    if working_folder.is_relative_to(target):
        raise UsageError(f"{folder} is or contains the working folder. Give a folder of its own as `out`.")
    if is_mount:
        raise UsageError(f"{folder} is a mounted disk. Give a folder in it as `out`, such as {folder / 'results'}.")
    return target


def partial_path(path: Path) -> Path:
    """Return the path of the folder in which a file or folder is written."""
    return path.with_name(f"{path.name}{PARTIAL}")


def _is_ours(folder: Path) -> bool:
    return (folder / MARKER_FILE).is_file()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_ours(shown: Path, folder: Path) -> None:
    if os.path.lexists(folder) and not _is_ours(folder) and not _is_empty(folder):
        raise OutputExistsError(shown, NOT_OURS, can_overwrite=False)


def _check_target(folder: Path, target: Path, overwrite: bool, inputs: Iterable[Input | None]) -> None:
    if not target.exists() or _is_empty(target):
        return
    _check_ours(folder, target)
    _check_inputs(folder, target, inputs)
    if answers := next((path for pattern in ANSWERS for path in target.glob(pattern)), None):
        hint = f"It contains {answers}, with answers of a person. Move that file, or give another `out`."
        raise OutputExistsError(folder, hint, can_overwrite=False)
    if not overwrite:
        raise OutputExistsError(folder, GIVE_ANOTHER, can_overwrite=True)
    if is_locked(target / MARKER_FILE):
        raise OutputExistsError(folder, IN_USE, can_overwrite=False)


def _check_partial(partial: Path, overwrite: bool, resume: bool, inputs: Iterable[Input | None]) -> None:
    if not os.path.lexists(partial):
        return
    _check_ours(partial, partial)
    if is_locked(partial / MARKER_FILE):
        raise OutputExistsError(partial, IN_USE, can_overwrite=False)
    if not (overwrite or resume):
        raise OutputExistsError(partial, INTERRUPTED, can_overwrite=True)
    if not resume:
        _check_inputs(partial, partial, inputs)


def _check_inputs(shown: Path, folder: Path, inputs: Iterable[Input | None]) -> None:
    for each in inputs:
        if each is not None and _is_in(each, folder):
            hint = f"It contains {each}, which is read. Give another `out`."
            raise OutputExistsError(shown, hint, can_overwrite=False)


def _is_in(path: Input, folder: Path) -> bool:
    if isinstance(path, int):
        return False  # a file descriptor
    if Path(os.path.abspath(path)).is_relative_to(folder):  # noqa: PTH100 - does not follow links
        return True
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False  # reading it fails with a message
