"""Exceptions: one tree, each also a standard exception.

A message is one line: what failed, the value, how to fix it. It names arguments as in `out`, by their names in Python;
the command line shows them as options.

    BelvedereError
    ├── UsageError                 wrong call; ValueError                                 exit code 2
    │   ├── UnsupportedInputError  object that is no image; TypeError
    │   ├── UnknownNameError       no such recipe, network, class or key
    │   ├── OutputExistsError      a result would replace a file or folder; FileExistsError
    │   └── MissingDependencyError a package that is not installed; ImportError
    ├── CacheError                 cache cannot be written or read; RuntimeError           exit code 1
    ├── DatasetError               dataset cannot be read; ValueError
    ├── FetchError                 dataset cannot be downloaded or unpacked; RuntimeError
    │   └── ArchiveError           downloaded file is damaged or refused
    ├── InvalidImageError          image cannot be decoded; ValueError
    │   └── ImageTooLargeError     too many pixels
    ├── InvalidModelError          no model of Belvedere's, or damaged; ValueError
    ├── InferenceError             a model run failed; RuntimeError
    ├── WeightsError               pretrained weights cannot be used; ValueError
    ├── CalibrationError           calibration makes metrics worse; ValueError
    ├── ExportError                predictions of the export differ too much; ValueError
    ├── HubError                   the Hugging Face Hub refused, or cannot be reached; RuntimeError
    ├── DistributedError           work on several machines failed; RuntimeError
    ├── PluginError                code of a plug-in or of the user failed; RuntimeError
    └── TrainingError              training cannot continue; RuntimeError

`StopTraining` is no error: a callback raises it to end a training.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


class BelvedereError(Exception):
    """Base class of all errors.

    Attributes:
        exit_code: Exit code of the command line.
    """

    exit_code = 1


class UsageError(BelvedereError, ValueError):
    """The call is wrong: an argument has an impossible value, or arguments exclude each other."""

    exit_code = 2


class UnsupportedInputError(UsageError, TypeError):
    """An object is not a supported kind of image."""


class UnknownNameError(UsageError):
    """A name is not one of the choices; the message suggests the closest.

    Attributes:
        kind: Kind of the name, such as "recipe".
        name: The name, as it was given.
        choices: The names that exist, sorted.
        suggestion: The closest of them; None if none is close.
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.kind, self.name, self.choices = kind, name, tuple(sorted(choices))
        self.suggestion: str | None = next(iter(difflib.get_close_matches(name, self.choices, n=1)), None)
        hint = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        super().__init__(f"There is no {kind} {name!r}.{hint} Choose one of: {', '.join(self.choices)}.")


class OutputExistsError(UsageError, FileExistsError):
    """A result would replace an existing file or folder; nothing was changed.

    Attributes:
        path: The existing file or folder.
        can_overwrite: Whether the same call with `overwrite` replaces it. False for an input, a folder that is in use,
            and a folder that Belvedere did not write.
    """

    def __init__(self, path: Path, hint: str, *, can_overwrite: bool) -> None:
        super().__init__(f"{path} exists already and nothing was changed. {hint}")
        self.path, self.can_overwrite = path, can_overwrite


class MissingDependencyError(UsageError, ImportError):
    """An optional package is not installed; the message holds the pip command that installs it.

    Attributes:
        package: The package that is missing.
        extra: The extra of belvedere that installs it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'belvedere[{extra}]'"
        )
        self.package, self.extra = package, extra


class CacheError(BelvedereError, RuntimeError):
    """The cache of decoded images or embeddings cannot be written, or was deleted while it was in use."""


class DatasetError(BelvedereError, ValueError):
    """A folder or table cannot be read as a dataset."""


class FetchError(BelvedereError, RuntimeError):
    """A dataset cannot be downloaded or unpacked."""


class ArchiveError(FetchError):
    """An archive is damaged, or refused since it could do harm; nothing of it was unpacked."""


class InvalidImageError(BelvedereError, ValueError):
    """A file cannot be decoded as an image.

    Attributes:
        name: The file, as it was given.
        reason: The reason, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def detached(self) -> "InvalidImageError":
        """Return the same error without its traceback, which keeps file contents and pixels in memory."""
        return type(self)(self.name, self.reason)


class ImageTooLargeError(InvalidImageError):
    """An image has more pixels than the limit."""


class InvalidModelError(BelvedereError, ValueError):
    """A file is not a model of Belvedere's, or is damaged."""


class InferenceError(BelvedereError, RuntimeError):
    """A model run failed, or its outputs are invalid (such as NaN).

    Attributes:
        name: The model file.
        reason: The reason, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The model {name} failed: {reason}. Give another model, or train it again.")
        self.name = name
        self.reason = reason


class WeightsError(BelvedereError, ValueError):
    """Pretrained weights cannot be obtained or read, or do not match the network or the checksum."""


class ExportError(BelvedereError, ValueError):
    """Predictions of an exported model differ from the original's by more than the tolerance."""


class CalibrationError(BelvedereError, ValueError):
    """Calibration makes metrics worse on held-out images."""


class HubError(BelvedereError, RuntimeError):
    """The Hugging Face Hub refused a download or an upload, or cannot be reached."""


class DistributedError(BelvedereError, RuntimeError):
    """Work on several processes or machines failed."""


class PluginError(BelvedereError, RuntimeError):
    """Code of a plug-in or of the user raised an exception, which is the cause of this error."""

    def __init__(self, what: str, error: BaseException) -> None:
        import traceback  # here, since errors are imported at every start

        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        if isinstance(error, SyntaxError) and error.filename:
            place = f" ({Path(error.filename).name}, line {error.lineno})"
        reason = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        super().__init__(f"{what} failed: {type(error).__name__}: {reason}{place}. Correct it, or leave it out.")


class TrainingError(BelvedereError, RuntimeError):
    """Training cannot continue, or its result cannot be written."""


class StopTraining(Exception):  # noqa: N818 - no error
    """Raised by a callback of `train`: the training ends after the current epoch, and the best epoch is kept.

    Its message, the reason, is logged.
    """


def find_named(kind: str, name: str, choices: Mapping[str, Value]) -> Value:
    """Return the value of a name among choices.

    Raises:
        UnknownNameError: The name is not among them; the message suggests the closest.
    """
    if name not in choices:
        raise UnknownNameError(kind, name, choices)
    return choices[name]
