"""The model that answers, and the watch over its file: a new one takes over between two batches.

Knows when a file has changed and is whole; does not know requests. A request keeps the model that it began with, so
that none is dropped; a new file that can't be used changes nothing but `error`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from belvedere.errors import InvalidModelError
from belvedere.inference.model import Model, load
from belvedere.inference.model_paths import find_model, name_model
from belvedere.inference.session import Cancellation
from belvedere.runtime.timeouts import BackgroundThread, call_with_timeout

LOOK_SECONDS = 1.0  # between two looks at the file
END_SECONDS = 5.0
LOAD_SECONDS = 60.0  # for a file to be read and opened
TRIAL_SECONDS = 10.0  # for its answer for a blank picture
GONE = "The model's file is gone; the model in memory goes on answering. Put a model in its place."

Signature = tuple[int, int, int]  # number of the file on its disk, time of its last change in ns, bytes


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in use."""

    model: Model
    name: str  # of its file and folder, without the path to them
    sha256: str  # of the file
    loaded: str  # UTC, ISO 8601

    def __repr__(self) -> str:
        return f"LoadedModel({self.name}, {self.sha256[:12]})"


class ModelWatch:
    """Holds the model in use, and puts a new file's in its place."""

    def __init__(
        self, path: Path | str, said: Callable[[str, LoadedModel, str | None], None], accept_rate: float | None = None
    ) -> None:
        """Opens the model; `said` hears "loaded", or "kept" or "gone" and why, and the model in use.

        Raises:
            InvalidModelError: As `load`.
            UsageError: As `load`.
        """
        self._path = Path(path)
        self._said = said
        self._accept_rate = accept_rate
        self.current, self._signature = _open(self._path, accept_rate)
        self.error: str | None = None  # why the file that is there now is not the one in use
        self._refused: Signature | None = None
        self._seen: Signature | None = self._signature
        self._end = threading.Event()
        self._thread = BackgroundThread(self._watch, "model-watch")

    def start(self) -> None:
        """Begins to look at the file, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch; where it is in the middle of opening a file, it is left behind after `END_SECONDS`."""
        self._end.set()
        self._thread.join(END_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether a new file would be seen."""
        return self._thread.is_alive()

    def look(self) -> None:
        """Takes the file if it is another than before and did not change since the last look."""
        signature = _signature(self._path)
        settled, self._seen = signature == self._seen, signature
        if signature == self._signature:
            self.error = None  # the file in use is in its place, perhaps again
        elif settled and signature is None:
            self._miss()
        elif settled and signature != self._refused:
            self._take(signature)

    def _miss(self) -> None:
        if self.error != GONE:
            self.error, self._refused = GONE, None
            self._said("gone", self.current, GONE)

    def _take(self, signature: Signature | None) -> None:
        try:
            served, opened = _open(self._path, self._accept_rate)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it: the watch goes on, and so does the model
            file = find_model(self._path)
            self.error, self._refused = str(error).replace(str(file), name_model(file)), signature
            self._said("kept", self.current, self.error)
            return
        self._signature, self._refused, self.error = opened, None, None
        self.current = served
        self._said("loaded", served, None)

    def _watch(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            self.look()


def _open(path: Path, accept_rate: float | None) -> tuple[LoadedModel, Signature]:
    """Opens a model, asks it about a blank picture, and says which file it was: the same before and after."""
    signature = _signature(path)
    file = find_model(path)
    try:
        model = call_with_timeout(partial(load, path, accept_rate=accept_rate), LOAD_SECONDS, "model-load")
    except TimeoutError:
        raise InvalidModelError(f"{file} was not opened within {LOAD_SECONDS:g} s. Give another model.") from None
    _try_out(model, file)
    if signature is None or signature != _signature(path):
        raise InvalidModelError(f"{file} changed while it was read. It is read again when it rests.")
    return LoadedModel(
        model, name_model(file), model.sha256, datetime.now(UTC).isoformat(timespec="seconds")
    ), signature


def _try_out(model: Model, file: Path) -> None:
    """Asks a model about a blank picture: the first answer is slow, and may fail or never come."""
    cancellation = Cancellation()

    def ask() -> None:
        size = model.card.preprocess
        blank = np.zeros((1, size.height, size.width, 3), np.uint8)
        model.to_predictions(model.forward_all(blank, cancellation), ["blank"], [()])

    try:
        call_with_timeout(ask, TRIAL_SECONDS, "model-trial")
    except TimeoutError:
        reason = f"no answer for a blank picture came within {TRIAL_SECONDS:g} s"
        raise InvalidModelError(f"{file} can't be used: {reason}. Give another model.") from None
    except Exception as error:  # whatever keeps it from answering keeps it from being used
        reason = " ".join(str(error).split())[:200]
        raise InvalidModelError(f"{file} can't be used: {reason}. Give another model.") from error
    finally:
        cancellation.cancel()


def _signature(path: Path) -> Signature | None:
    try:
        status = find_model(path).stat()
    except OSError:
        return None  # between two files, or gone: the model in use stays
    return status.st_ino, status.st_mtime_ns, status.st_size
