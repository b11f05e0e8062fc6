"""Output files: existing files that may be replaced, and inputs that never are."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from belvedere.errors import BelvedereError, OutputExistsError, UsageError
from belvedere.runtime.terminal import describe_error

GIVE_ANOTHER = "Give another `out`, or set `overwrite` to replace it."
Input = Path | str | int  # a path, or a file descriptor
_Identity = tuple[int, int, int, int]  # device, inode, size, modification time


class OutputFile:
    """A file to write, checked before the work and, by `check`, before the file is replaced."""

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        inputs: Callable[[], Iterable[Input]] = tuple,
        is_older: Callable[[Path], bool] = lambda _: False,
    ) -> None:
        """Check the path.

        Args:
            path: The file; its folder must exist. A link is followed.
            overwrite: Whether any file that is no input may be replaced.
            inputs: Lists the files that are read, such as model, images and tables; folders are ignored.
            is_older: Returns whether a file is an older one of the same kind, which is replaced without asking.

        Raises:
            UsageError: The path is a folder, or its folder does not exist.
            OutputExistsError: The file exists and may not be replaced, or is an input.
        """
        self.path = path
        self._overwrite, self._inputs, self._is_older = overwrite, inputs, is_older
        self._checked: _Identity | None = None
        with self._path_errors():
            if path.is_dir() or not path.parent.is_dir():
                what = "is a folder" if path.is_dir() else f"is in {path.parent}, which is not a folder"
                raise UsageError(f"{path} {what}. Expected the name of a file to write.")
        self.check()

    def refuse_input(self, given: Input) -> None:
        """Check one more input.

        Raises:
            OutputExistsError: It is the file that would be replaced.
        """
        if self._checked is not None and _identify(given) == self._checked[:2]:
            hint = "It is read by this command, so it is never replaced. Give another `out`."
            raise OutputExistsError(self.path, hint, can_overwrite=False)

    def check(self) -> None:
        """Check again as the constructor, unless the existing file is unchanged."""
        found = self._find()
        if found is None or found == self._checked:
            return
        self._checked = found
        for each in self._inputs():
            self.refuse_input(each)
        if found[2] and not self._overwrite and not self._is_older(self.path):
            raise OutputExistsError(self.path, GIVE_ANOTHER, can_overwrite=True)

    def _find(self) -> _Identity | None:
        """Return which regular file exists; devices and pipes are written to, not replaced."""
        with self._path_errors():
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(found.st_mode):
                return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    @contextmanager
    def _path_errors(self) -> Iterator[None]:
        """Turn errors of the system, such as a name that is too long or a loop of links, into a UsageError."""
        try:
            yield
        except BelvedereError:
            raise
        except OSError as error:
            raise UsageError(f"Cannot write {self.path}: {describe_error(error)}. Give another `out`.") from error


def _identify(given: Input) -> tuple[int, int] | None:
    try:
        found = os.stat(given)  # noqa: PTH116 - takes a file descriptor
    except (OSError, ValueError):
        return None  # reading it fails with a message
    return found.st_dev, found.st_ino
