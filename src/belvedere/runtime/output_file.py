"""A file that a command is told to write, and what it must not replace.

Knows which files are never replaced, whatever is asked for: those that the command reads. Knows that every other one
that is there needs the user's word, unless it is an older file of the same kind; does not know what kinds there are.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from belvedere.errors import OutputExistsError, UsageError

Input = Path | str | int  # a path, or the descriptor of an open file
_Identity = tuple[int, int, int, int]  # device, number, size and time of change


def nothing() -> Iterable[Input]:
    """Name no input."""
    return ()


def no_file(_path: Path) -> bool:
    """Take no file for an older one of the same kind."""
    return False


class OutputFile:
    """A place for a file, checked before the work and again, by `check`, before the file takes it."""

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        inputs: Callable[[], Iterable[Input]] = nothing,
        is_older: Callable[[Path], bool] = no_file,
    ) -> None:
        """Check a place.

        Args:
            path: The file; its folder must exist. A link is followed.
            overwrite: Whether any file that is there, but for the inputs, may be replaced.
            inputs: Lists what is read: the model, pictures, tables. Folders among them hold nothing against the file.
            is_older: Says whether a file is an older one of the same kind, which is replaced without asking.

        Raises:
            UsageError: It is a folder, its folder is not there, it is one of the inputs, or it can't be a file at all.
            OutputExistsError: A file is there that may not be replaced.
        """
        self.path = path
        self._overwrite, self._inputs, self._is_older = overwrite, inputs, is_older
        self._checked: _Identity | None = None
        self._check_place()
        self.check()

    @property
    def exists(self) -> bool:
        """Whether a file was there that will be replaced."""
        return self._checked is not None

    def refuse_input(self, given: Input) -> None:
        """Check one more input, which was not known before.

        Raises:
            UsageError: It is the file that is there.
        """
        if self._checked is not None and _identify(given) == self._checked[:2]:
            raise UsageError(f"{self.path} is read by this command, so it is never replaced. Give another place.")

    def check(self) -> None:
        """Check again, unless what is there is what was there.

        Raises:
            UsageError: As the constructor.
            OutputExistsError: As the constructor.
        """
        found = self._find()
        if found is None or found == self._checked:
            return
        self._checked = found
        for each in self._inputs():
            self.refuse_input(each)
        if found[2] and not self._overwrite and not self._is_older(self.path):
            raise OutputExistsError(self.path, "Give another --out, or add --overwrite to replace it.")

    def _check_place(self) -> None:
        path = self.path
        try:
            if path.is_dir() or not path.parent.is_dir():
                what = "is a folder" if path.is_dir() else f"is in {path.parent}, which is not a folder"
                raise UsageError(f"{path} {what}. Expected the name of a file to write.")
        except OSError as error:
            self._refuse(error)

    def _find(self) -> _Identity | None:
        """What is there, if it is a regular file: a device or a pipe is written into, not replaced."""
        try:
            if not self.path.is_file():
                return None
            found = self.path.stat()
        except OSError as error:  # such as a name that is too long
            self._refuse(error)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _refuse(self, error: OSError) -> NoReturn:
        raise UsageError(f"Can't write {self.path}: {error.strerror}. Give another place.") from error


def _identify(given: Input) -> tuple[int, int] | None:
    try:
        found = os.stat(given)  # noqa: PTH116 - a descriptor has no path
    except (OSError, ValueError):
        return None  # not there: reading it says so
    return found.st_dev, found.st_ino
