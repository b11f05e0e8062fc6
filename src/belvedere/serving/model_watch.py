"""The model in use, and a watch that replaces it when its file changes.

A request keeps the model it started with, so a reload drops no request. A file that cannot be used only sets `error`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from belvedere.errors import InvalidModelError
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import local_path, model_file, name_model
from belvedere.inference.providers import DeviceOptions
from belvedere.inference.session import Cancellation
from belvedere.runtime.parallel import BackgroundThread, call_with_timeout
from belvedere.types.prediction import Prediction

CHECK_SECONDS = 1.0  # between two checks of the file
STOP_SECONDS = 5.0
LOAD_SECONDS = 60.0
WARM_UP_SECONDS = 10.0  # for the prediction of a blank image
DEFAULT_NAME = "default"  # of a model that was given without a name
MISSING = "The model file is missing. The loaded model stays in use. Restore the file."

Signature = tuple[int, int, int]  # inode, modification time in ns, bytes
ReloadCallback = Callable[[str, "LoadedModel", str | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model in use."""

    model: Model
    name: str  # parent folder and file name; the full path is not exposed
    sha256: str  # of the file
    loaded: str  # UTC, ISO 8601
    blank: Prediction  # for a blank image: shows which predictions the model makes
    served_name: str = DEFAULT_NAME  # in the paths of the routes and in metrics

    def __repr__(self) -> str:
        return f"LoadedModel({self.name}, {self.sha256[:12]})"


class ModelWatch:
    """Holds the model in use, and loads a new file in its place."""

    def __init__(
        self,
        path: Path | str,
        on_reload: ReloadCallback,
        accept_rate: float | None = None,
        options: DeviceOptions | None = None,
        served_name: str = DEFAULT_NAME,
    ) -> None:
        """Load the model.

        Args:
            path: Model file or run folder.
            on_reload: Called with "loaded", "rejected" or "missing", the model in use, and the error or None.
            accept_rate: See `belvedere.load_model`; also applied to new files.
            options: Device, for new files too; default: that of `load_model`.
            served_name: Name of the model in the paths of the routes and in metrics.

        Raises:
            InvalidModelError: The model cannot be used.
            UsageError: The accept rate cannot be used with this model.
        """
        self.served_name = served_name
        self._path = local_path(path)
        self._on_reload = on_reload
        options = options or DeviceOptions()
        self._open = lambda: load_model(
            self._path, accept_rate=accept_rate, device=options.device, providers=options.providers
        )
        self.current, self._signature = _load(self._path, self._open, self.served_name)
        self.error: str | None = None  # why the present file is not in use
        self._rejected: Signature | None = None
        self._last: Signature | None = self._signature
        self._stop = threading.Event()
        self._thread = BackgroundThread(self._watch, "model-watch")

    def start(self) -> None:
        """Start to watch the file in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; wait at most `STOP_SECONDS`."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def check(self) -> None:
        """Load the file if it differs from the one in use and did not change since the last check."""
        signature = _signature(self._path)
        is_settled, self._last = signature == self._last, signature
        if signature == self._signature:
            self.error = None
        elif is_settled and signature is None:
            if self.error != MISSING:
                self.error, self._rejected = MISSING, None
                self._on_reload("missing", self.current, MISSING)
        elif is_settled and signature != self._rejected:
            self._reload(signature)

    def _reload(self, signature: Signature | None) -> None:
        try:
            loaded, self._signature = _load(self._path, self._open, self.served_name)
        except Exception as error:  # noqa: BLE001 - any failure rejects the file; the watch continues
            file = model_file(self._path)
            self.error, self._rejected = str(error).replace(str(file), name_model(file)), signature
            self._on_reload("rejected", self.current, self.error)
            return
        self.current, self._rejected, self.error = loaded, None, None
        self._on_reload("loaded", loaded, None)

    def _watch(self) -> None:
        while not self._stop.wait(CHECK_SECONDS):
            self.check()


def _load(path: Path, open_file: Callable[[], Model], served_name: str) -> tuple[LoadedModel, Signature]:
    """Load and try a model; its file must not change in the meantime."""
    signature = _signature(path)
    file = model_file(path)
    try:
        model = call_with_timeout(open_file, LOAD_SECONDS, "model-load")
    except TimeoutError:
        raise InvalidModelError(f"{file} was not loaded within {LOAD_SECONDS:g} s. Choose another model.") from None
    blank = _warm_up(model, file)
    if signature is None or signature != _signature(path):
        raise InvalidModelError(f"{file} changed while it was loaded. It is loaded again when it is complete.")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return LoadedModel(model, name_model(file), model.sha256, now, blank, served_name), signature


def _warm_up(model: Model, file: Path) -> Prediction:
    """Predict a blank image: the first prediction is slow, and shows whether the model can be run."""
    cancellation = Cancellation()

    def predict() -> Prediction:
        size = model.card.preprocess
        blank = np.zeros((1, size.height, size.width, 3), np.uint8)
        return model.to_predictions(model.forward_all(blank, cancellation), ["blank"], [()])[0]

    try:
        return call_with_timeout(predict, WARM_UP_SECONDS, "model-trial")
    except TimeoutError:
        reason = f"no prediction for a blank image within {WARM_UP_SECONDS:g} s"
        raise InvalidModelError(f"{file} cannot be used: {reason}. Choose another model.") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidModelError(f"{file} cannot be used: {reason}. Choose another model.") from error
    finally:
        cancellation.cancel()


def _signature(path: Path) -> Signature | None:
    try:
        status = model_file(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
