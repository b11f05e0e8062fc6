"""Trackers: what each one writes without a network is read back; trackers that are not installed are skipped."""

import importlib
import json
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import belvedere
from belvedere.errors import MissingDependencyError, TrainingError, UnknownNameError, UsageError
from belvedere.inference.model import load_model
from belvedere.runtime import dependencies
from belvedere.training.callbacks import TrainingContext
from belvedere.training.recipes import RECIPES
from belvedere.training.run import Run
from belvedere.training.trackers import TRACKERS, Tracker, make_trackers
from belvedere.types.evaluation import EpochMetrics
from command_line import assert_one_line
from command_line import belvedere as command

pytestmark = pytest.mark.filterwarnings("ignore")  # of the trackers' libraries

LOSSES = (0.9, 0.7, 0.8)
FILES = {"model.onnx", "report.html", "metrics.json", "config.toml", "history.csv"}


def row(epoch: int) -> EpochMetrics:
    loss = LOSSES[epoch - 1]
    return EpochMetrics(epoch, 1.5, 200.0, 0.001, loss + 1, 0.5, loss, 0.6, loss - 0.1)


@pytest.fixture(scope="module")
def finished(trained: Path) -> Run:
    """A finished run."""
    folder = trained / "run"
    evaluation = belvedere.evaluate(load_model(folder), trained / "images" / "test")
    return Run(folder, replace(evaluation, split="test"), json.loads((folder / "metrics.json").read_text()))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; the trackers' other folders are in it too."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TRACKIO_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return tmp_path


def open_tracker(name: str) -> Tracker:
    pytest.importorskip(TRACKERS[name.partition("=")[0]].package)
    [tracker] = make_trackers(name)
    return tracker


def log_run(tracker: Tracker, run: Run, *, resumed: bool = False, end: Callable[[], None] | None = None) -> None:
    """Log three epochs, the first of which belongs to an interrupted training if `resumed`."""
    folder = run.folder if end is None else Path("unfinished")
    counts = {"train": 40, "validation": 8, "test": 8}
    history = (row(1),) if resumed else ()
    context = TrainingContext(run.folder, folder, RECIPES["quick"], 7, "cpu", ("dark", "light"), counts, history)
    tracker.on_train_begin(context)
    for epoch in range(1 + len(history), 4):
        tracker.on_epoch_end(row(epoch))
    if end is None:
        tracker.on_train_end(run)
    else:
        end()


@pytest.mark.parametrize("resumed", [False, True])
def test_tensorboard(resumed: bool, finished: Run, here: Path) -> None:
    if resumed:  # what an interrupted training had logged
        log_run(open_tracker("tensorboard=events"), finished)
    log_run(open_tracker("tensorboard=events"), finished, resumed=resumed)
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(here / "events" / "run")).Reload()
    for name, values in (("validation/loss", LOSSES), ("train/loss", [loss + 1 for loss in LOSSES])):
        found = events.Scalars(name)
        assert [event.step for event in found] == [1, 2, 3]
        assert [event.value for event in found] == pytest.approx(values)
    assert events.Scalars("test/accuracy")[-1].value == pytest.approx(finished.evaluation.accuracy)
    assert "figures/confusion-counts" in events.Tags()["images"]
    assert b'network = "compact-small"' in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert b"report.html" in events.Tensors("files/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.parametrize("place", ["", "=file:store", "=store", "=sqlite:///{}/own.db"])
def test_mlflow(place: str, finished: Run, here: Path) -> None:
    if place in ("", "=sqlite:///{}/own.db"):
        pytest.importorskip("sqlalchemy")
    tracker: Any = open_tracker(f"mlflow{place.format(here)}")
    log_run(tracker, finished)
    client = tracker._connect()
    [run] = client.search_runs([client.get_experiment_by_name("belvedere").experiment_id])
    identity = run.info.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    curve = [(point.step, point.value) for point in client.get_metric_history(identity, "validation/loss")]
    assert sorted(curve) == [(1, 0.9), (2, 0.7), (3, 0.8)]
    assert run.data.metrics["test/accuracy"] == finished.evaluation.accuracy
    assert run.data.metrics["run/best_epoch"] == finished.metrics["best_epoch"]
    assert run.data.params["learning_rate"] == "0.004"
    assert (run.data.params["seed"], run.data.params["num_train_images"]) == ("7", "40")
    assert {file.path for file in client.list_artifacts(identity)} == FILES
    assert {path.name for path in here.iterdir()} <= {"mlflow.db", "mlruns", "store", "own.db"}


@pytest.mark.parametrize(("error", "status"), [(OSError(), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_mlflow_knows_how_a_training_ended(error: BaseException, status: str, finished: Run, here: Path) -> None:
    tracker: Any = open_tracker("mlflow=file:store")
    log_run(tracker, finished, end=lambda: tracker.on_exception(error))
    assert tracker._client.get_run(tracker._run_id).info.status == status
    assert list(here.iterdir()) == [here / "store"]


def wandb_records(file: Path) -> Iterator[Any]:
    """Yield the records of a file of Weights & Biases: the log format of LevelDB after a header of seven bytes."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content, position, pieces = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        pieces += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield messages.Record.FromString(pieces)
            pieces = b""


def values_of(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_wandb(finished: Run, here: Path) -> None:
    log_run(open_tracker("wandb"), finished)
    importlib.import_module("wandb").teardown()  # waits for its process, which writes the file
    [file] = here.glob("wandb/offline-run-*/run-*.wandb")
    records: dict[str, list[Any]] = {}
    for record in wandb_records(file):
        kind = record.WhichOneof("record_type")
        if kind:
            records.setdefault(kind, []).append(getattr(record, kind))
    [start] = records["run"]
    config = values_of(start.config.update)
    assert (start.project, start.display_name) == ("belvedere", "run")
    assert (config["network"], config["seed"], config["class_names"]) == ("compact-small", 7, "dark, light")
    curve = [values_of(each.item) for each in records["history"]]
    assert [(each["epoch"], each["validation/loss"]) for each in curve[:3]] == [(1, 0.9), (2, 0.7), (3, 0.8)]
    summary = {name: value for each in records["summary"] for name, value in values_of(each.update).items()}
    assert summary["test/accuracy"] == finished.evaluation.accuracy
    [artifact] = records["artifact"]
    assert {entry.path for entry in artifact.manifest.contents} == FILES
    [page] = file.parent.glob("files/media/html/*.html")
    assert page.read_bytes() == (finished.folder / "report.html").read_bytes()
    assert [each.exit_code for each in records["exit"]] == [0]


def test_trackio(finished: Run, here: Path) -> None:
    log_run(open_tracker("trackio=own"), finished)
    assert importlib.import_module("trackio.context_vars").current_run.get() is None
    with sqlite3.connect(here / "trackio_dir" / "own.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
        [(config,)] = database.execute("select config from configs").fetchall()
        [(manifest,)] = database.execute("select manifest from artifact_versions").fetchall()
    curve = [(name, step, json.loads(metrics)["validation/loss"]) for name, step, metrics in rows[:3]]
    assert curve == [("run", 1, 0.9), ("run", 2, 0.7), ("run", 3, 0.8)]
    assert json.loads(rows[3][2])["test/accuracy"] == finished.evaluation.accuracy
    assert json.loads(config)["network"] == "compact-small"
    assert {entry["path"] for entry in json.loads(manifest)} == FILES


def test_a_training_with_trackers(trained: Path, tmp_path: Path) -> None:
    """The event files move with the run folder; nothing but the result is on stdout."""
    pytest.importorskip("tensorboard")
    options = ("--recipe", "quick", "--epochs", 2, "--out", "run", "--json", "--track", "tensorboard")
    done = command("train", trained / "images", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_has_its_pip_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError) as caught:
        make_trackers(name)
    assert caught.value.extra == "track"
    assert "'belvedere[track]'" in str(caught.value)


@pytest.mark.parametrize(
    ("track", "error"),
    [
        ("tensorbord", UnknownNameError),
        ("", UnknownNameError),
        (["mlflow="], UsageError),
        (["mlflow", "mlflow=a"], UsageError),
    ],
)
def test_impossible_trackers(track: object, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("belvedere.training.trackers.require", lambda *_: None)
    with pytest.raises(error):
        make_trackers(track)  # type: ignore[arg-type]


def test_impossible_trackers_on_the_command_line(tmp_path: Path) -> None:
    done = command("train", tmp_path, "--track", "tensorbord")
    assert_one_line(done, 2, "tensorbord", "tensorboard")


class Broken(Tracker):
    """Its library fails, in two lines."""

    title, package = "Broken", "json"

    def start(self, context: TrainingContext) -> None:
        print("hello")
        raise ValueError("server\nport")

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Never reached."""

    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Never reached."""

    def abort(self) -> None:
        """Never reached."""


def test_an_error_of_a_tracker_is_one_line(finished: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError) as caught:
        log_run(Broken(), finished)
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert all(word in str(caught.value) for word in ("Broken", "server", "`track`"))
    assert capfd.readouterr().out == ""
