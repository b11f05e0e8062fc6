"""Everything that can go wrong in a way a user can mend, as one tree.

Knows the kinds of failure; does not know how they are shown: the command line turns them into one line and an exit
code, and says nothing else.

    BelvedereError
    ├── UsageError              the call itself is wrong                               exit code 2
    │   ├── UnsupportedInputError  an object that is no image; also a TypeError
    │   ├── UnknownNameError         no such recipe, network or key; the nearest is named
    │   ├── OutputExistsError        a result would replace something that is there
    │   └── MissingDependencyError        a part of Belvedere that is not installed
    ├── CacheError              decoded pictures can't be kept or found again          exit code 1
    ├── DatasetError            the photographs can't be read as a data set            exit code 1
    ├── InvalidImageError         one file is not a picture that can be read             exit code 1
    ├── InvalidModelError         a file is not a model of ours, or a damaged one        exit code 1
    ├── InferenceError          a model failed when it was run, or returned NaN        exit code 1
    ├── DownloadError           a file could not be had from the internet             exit code 1
    ├── WeightsError            pretrained weights can't be had, or are not right     exit code 1
    ├── CalibrationError        fitted to photographs, a model's tags get worse        exit code 1
    ├── ExportError             another form of a model answers otherwise than it      exit code 1
    ├── DistributedError              work on several machines failed                        exit code 1
    └── TrainingError           training can't go on, or gave nothing to keep          exit code 1
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

Thing = TypeVar("Thing")


class BelvedereError(Exception):
    """The root of the tree: one clear line that says what was expected, what came and what to do."""

    exit_code = 1


class UsageError(BelvedereError):
    """The call itself is wrong: an argument that can't be what was meant."""

    exit_code = 2


class UnsupportedInputError(UsageError, TypeError):
    """An object was given for an image that is none of what is taken."""


class UnknownNameError(UsageError):
    """A name that is not among the ones that exist; the nearest is suggested."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        known = sorted(choices)
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"There is no {kind} {name!r}.{hint} Choose one of: {', '.join(known)}.")


class OutputExistsError(UsageError):
    """A result would take the place of something that is there; `ways_out` is a sentence that says what to do."""

    def __init__(self, folder: Path, ways_out: str) -> None:
        super().__init__(f"{folder} exists already and nothing was changed. {ways_out}")


class MissingDependencyError(UsageError):
    """A part of Belvedere that is not installed; the message holds the line that installs it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'belvedere[{extra}]'"
        )


class CacheError(BelvedereError):
    """Decoded pictures can't be kept on disk, or are gone from it."""


class DatasetError(BelvedereError):
    """The photographs can't be read as a data set."""


class InvalidImageError(BelvedereError):
    """One file is not a picture that can be read.

    Attributes:
        name: The file, as it was given or found.
        reason: Why it can't be read, without the file's name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def detached(self) -> "InvalidImageError":
        """Return the same error without its traceback, which keeps the bytes and pixels that were read in memory."""
        return type(self)(self.name, self.reason)


class ImageTooLargeError(InvalidImageError):
    """One file is a picture of more pixels than may be decoded."""


class InvalidModelError(BelvedereError):
    """A file is not a model of Belvedere's, or is damaged."""


class InferenceError(BelvedereError):
    """A model failed when it was run, or returned what is no prediction, such as NaN.

    Attributes:
        name: The model's file.
        reason: What happened, without the file's name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The model {name} failed: {reason}. Give another model, or make this one again.")
        self.name = name
        self.reason = reason


class DownloadError(BelvedereError):
    """A file could not be had from the internet; the message is the reason."""


class WeightsError(BelvedereError):
    """Pretrained weights can't be had, can't be read, or are not what they should be."""


class ExportError(BelvedereError):
    """Another form of a model answers otherwise than the model, by more than its bound."""


class CalibrationError(BelvedereError):
    """Fitted to photographs with all their labels, a model's tags get worse on others of them."""


class DistributedError(BelvedereError):
    """Work that was spread over processes or machines failed."""


class TrainingError(BelvedereError):
    """Training can't go on, or gave nothing worth keeping."""


def find_named(kind: str, name: str, table: Mapping[str, Thing]) -> Thing:
    """Returns what stands under a name in a table of choices.

    Raises:
        UnknownNameError: Nothing does; the nearest name is suggested.
    """
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]
