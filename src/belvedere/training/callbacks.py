"""Callbacks: functions of the user that are called during a training, and early stopping."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from belvedere.errors import StopTraining, TrainingError, UsageError, find_named
from belvedere.training.distributed import Distributed
from belvedere.training.recipes import Recipe
from belvedere.training.run import Run
from belvedere.types.evaluation import EpochMetrics

METRICS = {  # metric that early stopping may watch -> sign of an improvement
    "calibrated_validation_loss": -1,
    "validation_loss": -1,
    "validation_accuracy": 1,
}
METRIC_OF_CHECKPOINT = {"calibrated_log_loss": "calibrated_validation_loss", "accuracy": "validation_accuracy"}
CONTINUE, STOP, FAILED = range(3)  # decisions of the main process, for the others


@dataclass(frozen=True)
class TrainingContext:
    """Settings of a training."""

    out: Path  # run folder, which exists when the training is complete
    folder: Path  # unfinished run folder, with train.log, history.csv, weights.safetensors and the checkpoint
    recipe: Recipe  # effective values
    seed: int
    device: str  # such as "cpu (AMD EPYC, 2 threads)"
    class_names: tuple[str, ...]
    num_images: Mapping[str, int]  # by split: "train", "validation", "test"
    history: tuple[EpochMetrics, ...] = ()  # completed epochs of the training that is resumed


class Callback:
    """Base class of callbacks for `train`. Each method does nothing; override those you need.

    If several processes train together, the main one calls them. Raise `StopTraining` to end the training after
    the current epoch. Any other exception ends `train` with that exception; an unfinished run can be resumed.
    """

    def on_train_begin(self, context: TrainingContext) -> None:
        """Receive the settings of the training, before images are read.

        Args:
            context: Settings, and the completed epochs of a training that is resumed.
        """

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        """Receive the metrics of an epoch, after its checkpoint is written. A linear probe has no epochs.

        Args:
            metrics: Row of history.csv.
        """

    def on_checkpoint(self, path: Path) -> None:
        """Receive the path of the checkpoint that was written.

        Args:
            path: The checkpoint; history.csv and the best weights are beside it.
        """

    def on_train_end(self, run: Run) -> None:
        """Receive the finished run.

        Args:
            run: Run, whose folder is complete.
        """

    def on_exception(self, error: BaseException) -> None:
        """Receive the exception that ends the training, instead of `on_train_end`.

        Args:
            error: The exception; KeyboardInterrupt for Ctrl-C.
        """


class EarlyStopping(Callback):
    """Ends a training that has stopped improving; the best epoch is kept, as always.

    The recipe keys `patience` and `min_delta` add it to a training, with the metric that selects the checkpoint.

    Args:
        patience: Number of epochs in a row without an improvement after which the training ends, 1 or more.
        min_delta: Change of the metric that an improvement must exceed.
        metric: "calibrated_validation_loss", "validation_loss" (both nats) or "validation_accuracy".

    Raises:
        UsageError: An argument is invalid.
    """

    def __init__(self, patience: int, min_delta: float = 0.0, metric: str = "calibrated_validation_loss") -> None:
        if not (isinstance(patience, int) and patience >= 1):
            raise UsageError(f"`patience` must be an integer of 1 or more. Received: {patience!r}.")
        if not 0 <= min_delta < math.inf:
            raise UsageError(f"`min_delta` must be 0 or more. Received: {min_delta!r}.")
        self.patience, self.min_delta, self.metric = patience, min_delta, metric
        self._sign = find_named("metric", metric, METRICS)
        self._best, self._epochs_since_best = -math.inf, 0

    def on_train_begin(self, context: TrainingContext) -> None:
        """Start anew, or from the completed epochs of the training that is resumed."""
        self._best, self._epochs_since_best = -math.inf, 0
        for metrics in context.history:
            self._update(metrics)
        self._check()

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        """Compare an epoch with the best one.

        Raises:
            StopTraining: The metric has not improved for `patience` epochs.
        """
        self._update(metrics)
        self._check()

    def _update(self, metrics: EpochMetrics) -> None:
        value = getattr(metrics, self.metric)
        score = math.nan if value is None else self._sign * value
        if score > self._best + self.min_delta:  # False for NaN
            self._best, self._epochs_since_best = score, 0
        else:
            self._epochs_since_best += 1

    def _check(self) -> None:
        if self._epochs_since_best >= self.patience:
            raise StopTraining(f"no better {self.metric} in {self._epochs_since_best} epochs")


def early_stopping(recipe: Recipe) -> tuple[EarlyStopping, ...]:
    """Return the early stopping that a recipe asks for, if any."""
    if not recipe.patience:
        return ()
    return (EarlyStopping(recipe.patience, recipe.min_delta, METRIC_OF_CHECKPOINT[recipe.checkpoint_metric]),)


def check_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks as a tuple.

    Raises:
        UsageError: One is not an instance of `Callback`.
    """
    checked = tuple(callbacks)
    for each in checked:
        if not isinstance(each, Callback):
            raise UsageError(
                f"`callbacks` must be objects of subclasses of belvedere.Callback. Received: {each!r:.100}."
            )
    return checked


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Restore torch's random state after the block, so that a callback changes no weights."""
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        yield


class CallbackRunner:
    """Calls callbacks in their order, in the main process only."""

    def __init__(self, callbacks: Iterable[Callback] = (), distributed: Distributed | None = None) -> None:
        self._distributed = distributed or Distributed()
        self._callbacks = tuple(callbacks) if self._distributed.is_main else ()
        self._error: Exception | None = None  # to raise when the other processes can be notified
        self.stop_reason: str | None = None

    def on_train_begin(self, context: TrainingContext) -> None:
        """Call the callbacks; an exception is raised after the last call."""
        self._call(lambda callback: callback.on_train_begin(context))
        self._raise_error()

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        """Call the callbacks; `should_stop` has the result."""
        self._call(lambda callback: callback.on_epoch_end(metrics))

    def on_checkpoint(self, path: Path) -> None:
        """Call the callbacks; among several processes, `should_stop` raises their exception."""
        self._call(lambda callback: callback.on_checkpoint(path))
        if self._distributed.world_size == 1:
            self._raise_error()

    def on_train_end(self, run: Run) -> None:
        """Call the callbacks; an exception is raised after the last call."""
        self._call(lambda callback: callback.on_train_end(run))
        self._raise_error()

    def should_stop(self) -> bool:
        """Return, in all processes, whether a callback has raised `StopTraining`.

        Raises:
            Exception: A callback has raised it.
            TrainingError: A callback of the main process has raised an exception.
        """
        decision = FAILED if self._error is not None else CONTINUE if self.stop_reason is None else STOP
        decision = self._distributed.broadcast(decision)
        self._raise_error()
        if decision == FAILED:
            raise TrainingError("A callback of the main process failed. Its output has the reason.")
        return decision == STOP

    @contextmanager
    def reporting_exceptions(self) -> Iterator[None]:
        """Pass an exception of the block to the callbacks; what they raise then becomes a note of it."""
        try:
            yield
        except BaseException as error:
            for callback in self._callbacks:
                try:
                    callback.on_exception(error)
                except Exception as other:  # noqa: BLE001 - of the user's code
                    error.add_note(f"{type(callback).__name__}.on_exception failed: {type(other).__name__}: {other}")
            raise

    def _call(self, call: Callable[[Callback], None]) -> None:
        for callback in self._callbacks:
            try:
                with _same_random_state():
                    call(callback)
            except StopTraining as stop:
                self.stop_reason = self.stop_reason or str(stop) or type(callback).__name__
            except Exception as error:  # noqa: BLE001 - of the user's code, raised later
                self._error = self._error or error

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
