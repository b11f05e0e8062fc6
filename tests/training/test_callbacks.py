"""Callbacks: what is called, in which order, how they stop a training, and what their errors leave behind."""

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import belvedere
from belvedere import Callback, EarlyStopping, Run, StopTraining, TrainingContext, UsageError
from belvedere.errors import TrainingError
from belvedere.evaluation.report import html
from belvedere.training.callbacks import CallbackRunner, early_stopping
from belvedere.training.distributed import Distributed
from belvedere.training.recipes import RECIPES
from belvedere.types.evaluation import EpochMetrics
from conftest import write_classes

TINY = {"batch_size": 8, "image_size_schedule": [[0, 16]], "cached_image_size": 16, "min_steps": 0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _short_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an empty report: its figures would take most of the time."""
    monkeypatch.setattr(html, "write_report", lambda folder, _: (folder / "report.html").touch())


def row(epoch: int, loss: float | None = 1.0, accuracy: float = 0.5) -> EpochMetrics:
    return EpochMetrics(epoch, 1.0, 100.0, 0.001, 1.0, 0.5, 2.0, accuracy, loss)


def context(history: tuple[EpochMetrics, ...] = ()) -> TrainingContext:
    return TrainingContext(Path("run"), Path("run.partial"), RECIPES["quick"], 0, "cpu", ("a", "b"), {}, history)


class Recorder(Callback):
    """Records the calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def on_train_begin(self, context: TrainingContext) -> None:
        assert context.folder.name == f"{context.out.name}.partial"
        self.calls.append(("begin", context.recipe.name, len(context.history)))

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        self.calls.append(metrics.epoch)

    def on_checkpoint(self, path: Path) -> None:
        assert path.exists()
        self.calls.append("checkpoint")

    def on_train_end(self, run: Run) -> None:
        assert (run.folder / "report.html").exists()
        self.calls.append(("end", run.folder.name))

    def on_exception(self, error: BaseException) -> None:
        self.calls.append(type(error))


class RaisingAt(Callback):
    """Raises an exception after an epoch."""

    def __init__(self, epoch: int, error: Exception) -> None:
        self._epoch, self._error = epoch, error

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        if metrics.epoch == self._epoch:
            raise self._error


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("callbacks")
    write_classes(folder / "train", 8)
    write_classes(folder / "val", 3)
    write_classes(folder / "test", 3)
    return folder


def train(data: Path, out: Path, *callbacks: Callback, epochs: int = 3, **options: object) -> Run:
    return belvedere.train(data, out=out, recipe="quick", epochs=epochs, callbacks=callbacks, **TINY | options)  # type: ignore[arg-type]


def test_order_of_the_calls(data: Path, tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    train(data, tmp_path / "run", first, second, epochs=2)
    assert first.calls == [("begin", "quick", 0), "checkpoint", 1, "checkpoint", 2, ("end", "run")]
    assert second.calls == first.calls


def test_callbacks_change_no_weights(data: Path, tmp_path: Path) -> None:
    runs = [train(data, tmp_path / "plain", epochs=2), train(data, tmp_path / "watched", EarlyStopping(9), epochs=2)]
    first, other = ((run.folder / "weights.safetensors").read_bytes() for run in runs)
    assert first == other


def test_random_numbers_of_a_callback_change_no_others() -> None:
    class Drawing(Callback):
        def on_epoch_end(self, metrics: EpochMetrics) -> None:
            torch.rand(metrics.epoch)

    before = torch.random.get_rng_state()
    CallbackRunner([Drawing()]).on_epoch_end(row(7))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_callback_stops_the_training_and_the_others_are_called(data: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    run = train(data, tmp_path / "run", RaisingAt(2, StopTraining("enough")), recorder, epochs=5)
    assert recorder.calls[-3:] == ["checkpoint", 2, ("end", "run")]
    assert run.metrics["epochs"] == 2
    assert run.metrics["interrupted"] is False
    log = (run.folder / "train.log").read_text()
    assert "enough" in log
    assert "Stopped early" in log


def test_a_stop_after_the_last_epoch_is_no_early_stop(data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", RaisingAt(2, StopTraining("enough")), epochs=2)
    assert "Stopped early" not in (run.folder / "train.log").read_text()


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_error_ends_the_training_which_can_be_resumed(epoch: int, data: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError):
        train(data, tmp_path / "run", RaisingAt(epoch, ZeroDivisionError()), recorder)
    assert recorder.calls[-1] is ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]
    resumed = Recorder()
    run = train(data, tmp_path / "run", resumed, resume=True)
    assert resumed.calls[0] == ("begin", "quick", epoch)
    assert [call for call in resumed.calls if isinstance(call, int)] == list(range(epoch + 1, 4))
    straight = train(data, tmp_path / "straight")
    assert (run.folder / "weights.safetensors").read_bytes() == (straight.folder / "weights.safetensors").read_bytes()


def test_an_error_before_the_first_epoch_leaves_nothing(data: Path, tmp_path: Path) -> None:
    class Failing(Callback):
        def on_train_begin(self, context: TrainingContext) -> None:
            raise OSError("full")

    recorder = Recorder()
    with pytest.raises(OSError, match="full"):
        train(data, tmp_path / "run", Failing(), recorder)
    assert recorder.calls == [("begin", "quick", 0), OSError]
    assert list(tmp_path.iterdir()) == []


def test_an_error_at_the_end_leaves_the_run(data: Path, tmp_path: Path) -> None:
    class Failing(Callback):
        def on_train_end(self, run: Run) -> None:
            raise OSError("full")

    recorder = Recorder()
    with pytest.raises(OSError, match="full"):
        train(data, tmp_path / "run", Failing(), recorder, epochs=1)
    assert recorder.calls[-1] == ("end", "run")
    assert (tmp_path / "run" / "model.onnx").exists()


@pytest.mark.parametrize("wrong", [EarlyStopping, print, "wandb"])
def test_other_objects_are_refused(wrong: object, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="callbacks"):
        belvedere.train(data, out=tmp_path / "run", callbacks=[wrong])  # type: ignore[list-item]


def test_patience_stops_and_a_resumed_training_too(data: Path, tmp_path: Path) -> None:
    options = {"patience": 2, "min_delta": 100.0, "epochs": 9}  # no epoch is an improvement by 100 nats
    run = train(data, tmp_path / "run", **options)  # type: ignore[arg-type]
    assert (run.metrics["epochs"], run.metrics["interrupted"]) == (3, False)
    recipe = tomllib.loads((run.folder / "config.toml").read_text())["recipe"]
    assert (recipe["patience"], recipe["min_delta"]) == (2, 100.0)
    with pytest.raises(ZeroDivisionError):
        train(data, tmp_path / "again", RaisingAt(2, ZeroDivisionError()), **options)  # type: ignore[arg-type]
    again = train(data, tmp_path / "again", resume=True, **options)  # type: ignore[arg-type]
    assert again.metrics["epochs"] == 3
    first, other = ((each.folder / "weights.safetensors").read_bytes() for each in (run, again))
    assert first == other


def test_a_training_that_was_killed_after_its_early_stop_trains_no_further(data: Path, tmp_path: Path) -> None:
    options = {"patience": 1, "min_delta": 100.0, "epochs": 9}
    with pytest.raises(ZeroDivisionError):
        train(data, tmp_path / "run", RaisingAt(2, ZeroDivisionError()), **options)  # type: ignore[arg-type]
    recorder = Recorder()
    run = train(data, tmp_path / "run", recorder, resume=True, **options)  # type: ignore[arg-type]
    assert recorder.calls == [("begin", "quick", 2), ("end", "run")]
    assert run.metrics["epochs"] == 2


def feed(stopping: EarlyStopping, *values: float | None) -> int | None:
    """Return the epoch after which the training stops."""
    for epoch, value in enumerate(values, 1):
        try:
            stopping.on_epoch_end(row(epoch, value, 0.0 if value is None else value))
        except StopTraining:
            return epoch
    return None


@pytest.mark.parametrize(
    ("patience", "min_delta", "losses", "epoch"),
    [
        (1, 0.0, (3.0, 2.0, 1.0), None),
        (1, 0.0, (3.0, 3.0), 2),
        (2, 0.0, (3.0, 4.0, 2.0, 2.5, 2.4), 5),
        (1, 0.5, (3.0, 2.5), 2),  # better by exactly min_delta is no improvement
        (1, 0.5, (3.0, 2.4, 1.8), None),
        (2, 0.5, (3.0, 2.7, 2.4), None),  # compared with the best epoch, not with the last one
        (2, 0.0, (math.nan, math.nan), 2),
        (2, 0.0, (math.nan, 3.0, math.nan, 2.0), None),
        (1, 0.0, (None,), 1),
        (1, 0.0, (math.inf, 3.0), 1),
    ],
)
def test_patience_counts_epochs_without_an_improvement(
    patience: int, min_delta: float, losses: tuple[float | None, ...], epoch: int | None
) -> None:
    assert feed(EarlyStopping(patience, min_delta), *losses) == epoch


def test_accuracy_improves_upwards() -> None:
    assert feed(EarlyStopping(1, metric="validation_accuracy"), 0.5, 0.6, 0.6) == 3


def test_state_follows_from_the_history() -> None:
    stopping = EarlyStopping(3)
    stopping.on_train_begin(context((row(1, 1.0), row(2, 2.0), row(3, 2.0))))
    with pytest.raises(StopTraining):
        stopping.on_epoch_end(row(4, 1.5))
    with pytest.raises(StopTraining):
        stopping.on_train_begin(context((row(1, 1.0), row(2, 2.0), row(3, 2.0), row(4, 2.0))))
    stopping.on_train_begin(context())  # another training
    assert feed(stopping, 9.0, 8.0) is None


@pytest.mark.parametrize(
    "arguments", [(0,), (-1,), (1.5,), (1, -0.1), (1, math.nan), (1, 0.0, "loss"), (True, math.inf)]
)
def test_impossible_limits(arguments: tuple[object, ...]) -> None:
    with pytest.raises(UsageError):
        EarlyStopping(*arguments)  # type: ignore[arg-type]


def test_recipe_keys() -> None:
    assert early_stopping(RECIPES["quick"]) == ()
    [stopping] = early_stopping(replace(RECIPES["quick"], patience=4, min_delta=0.1))
    assert (stopping.patience, stopping.min_delta, stopping.metric) == (4, 0.1, "calibrated_validation_loss")
    [stopping] = early_stopping(replace(RECIPES["article"], patience=4))
    assert stopping.metric == "validation_accuracy"


@pytest.mark.parametrize("change", [{"patience": -1}, {"min_delta": -1.0}, {"patience": 3, "recipe": "probe"}])
def test_impossible_recipe_keys(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        belvedere.recipe_to_toml(**{"recipe": "quick", **change})  # type: ignore[arg-type]


def test_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def broadcast(self: Distributed, value: int) -> int:
        if self.is_main:
            sent.append(value)
        return sent[-1]

    monkeypatch.setattr(Distributed, "broadcast", broadcast)
    main, other = Distributed(0, 2), Distributed(1, 2)
    recorder = Recorder()
    runners = [
        CallbackRunner([recorder, RaisingAt(2, StopTraining()), RaisingAt(3, ZeroDivisionError())], each)
        for each in (main, other)
    ]
    decisions = []
    for epoch in (1, 2):
        for runner in runners:
            runner.on_epoch_end(row(epoch))
            decisions.append(runner.should_stop())
    assert decisions == [False, False, True, True]
    assert recorder.calls == [1, 2]  # of the main process only
    for runner in runners:
        runner.on_epoch_end(row(3))
    with pytest.raises(ZeroDivisionError):
        runners[0].should_stop()
    with pytest.raises(TrainingError):
        runners[1].should_stop()


def test_an_error_while_an_error_is_reported_is_a_note() -> None:
    class Failing(Callback):
        def on_exception(self, error: BaseException) -> None:
            raise OSError("gone")

    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt) as caught, CallbackRunner([Failing(), recorder]).reporting_exceptions():
        raise KeyboardInterrupt
    assert "gone" in "".join(caught.value.__notes__)
    assert recorder.calls == [KeyboardInterrupt]
