"""Experiment trackers: callbacks that log a training to TensorBoard, MLflow, Weights & Biases or Trackio.

Everything stays on this machine unless the user names a server, in the environment or as the URI of a tracker.
"""

import io
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from belvedere.errors import BelvedereError, TrainingError, UsageError, find_named
from belvedere.images.decode import read_image
from belvedere.runtime.dependencies import require
from belvedere.training.callbacks import Callback, TrainingContext
from belvedere.training.recipe_config import to_toml
from belvedere.training.run import Run
from belvedere.types.evaluation import EpochMetrics

PROJECT = "belvedere"  # default name of an experiment or project
FILES = ("model.onnx", "report.html", "metrics.json", "config.toml", "history.csv")  # logged as artifacts
CURVES = {  # name of a curve -> field of EpochMetrics
    "train/loss": "loss",
    "train/accuracy": "accuracy",
    "train/learning_rate": "learning_rate",
    "train/images_per_second": "images_per_second",
    "train/seconds": "seconds",
    "validation/loss": "validation_loss",
    "validation/accuracy": "validation_accuracy",
    "validation/calibrated_loss": "calibrated_validation_loss",
}
FINAL_METRICS = ("accuracy", "macro_f1", "log_loss", "ece")  # of an Evaluation
RUN_METRICS = ("epochs", "best_epoch", "training_seconds", "total_seconds")  # of metrics.json
MAX_PARAMETER_LENGTH = 500  # characters; MLflow accepts 6,000

Parameters = dict[str, str | int | float | bool]


class Tracker(Callback, ABC):
    """Base class of trackers: collects parameters, curves, metrics and files, and explains errors in one line."""

    title: ClassVar[str]
    package: ClassVar[str]  # module of the tracker

    def __init__(self, location: str | None = None) -> None:
        """Check that the package is installed.

        Args:
            location: Folder, URI or project of the tracker; None for its default.

        Raises:
            MissingDependencyError: The package is not installed.
        """
        self._location = location
        require("track", f"Tracking with {self.title}", self.packages())
        self._started = False
        self.interrupted = False  # by Ctrl-C

    def packages(self) -> list[str]:
        """Return the modules that must be installed."""
        return [self.package]

    @abstractmethod
    def start(self, context: TrainingContext) -> None:
        """Begin a run of the tracker with the parameters of the training."""

    @abstractmethod
    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log a point of each curve."""

    @abstractmethod
    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Log final metrics and the files of the run folder, and end the run of the tracker."""

    @abstractmethod
    def abort(self) -> None:
        """End the run of the tracker as failed, or as `interrupted`."""

    def on_train_begin(self, context: TrainingContext) -> None:
        """Begin a run; of a training that is resumed, log the completed epochs."""
        with self._explaining_errors():
            self.start(context)
            self._started = True
            for metrics in context.history:
                self.log_epoch(metrics.epoch, curve_values(metrics))

    def on_epoch_end(self, metrics: EpochMetrics) -> None:
        """Log an epoch."""
        with self._explaining_errors():
            self.log_epoch(metrics.epoch, curve_values(metrics))

    def on_train_end(self, run: Run) -> None:
        """Log the result, and end the run."""
        with self._explaining_errors(f" The run in {run.folder} is complete."):
            self.finish(run.folder, final_values(run))

    def on_exception(self, error: BaseException) -> None:
        """End the run as failed."""
        if self._started:
            self.interrupted = isinstance(error, KeyboardInterrupt)
            with self._explaining_errors():
                self.abort()

    @contextmanager
    def _explaining_errors(self, note: str = "") -> Iterator[None]:
        """Turn errors of the tracker into one line, and drop what it prints: stdout is for results."""
        try:
            with redirect_stdout(io.StringIO()):
                yield
        except BelvedereError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].removesuffix(".")
            raise TrainingError(
                f"{self.title} failed: {reason}. Correct its settings, or leave out `track`.{note}"
            ) from error


class TensorBoardTracker(Tracker):
    """Writes event files: into the run folder, or into a subfolder of another one."""

    title, package = "TensorBoard", "tensorboard"

    def start(self, context: TrainingContext) -> None:
        """Open an event file; after a resume, it replaces the curves of the earlier ones."""
        self._parameters = parameters(context)
        folder = self._folder(context.folder, context.out.name)
        self._writer = self._open(folder, purge_step=1 if context.history else None)
        self._writer.add_text("config", "    " + to_toml(context.recipe).replace("\n", "\n    "))
        self._writer.flush()

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add a scalar for each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Add final scalars, hyperparameters, figures of the report, and the paths of the files."""
        from torch.utils.tensorboard.summary import hparams

        self._writer.close()  # its file was moved with the run folder
        writer = self._open(self._folder(folder, folder.name))
        for summary in hparams(dict(self._parameters), dict(values)):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        for name, value in values.items():
            writer.add_scalar(name, value, 0)
        for figure in sorted((folder / "figures").glob("*.png")):
            writer.add_image(f"figures/{figure.stem}", read_image(figure), 0, dataformats="HWC")
        writer.add_text("files", "\n".join(f"- {file.absolute()}" for file in list_files(folder)))
        writer.close()

    def abort(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _folder(self, run_folder: Path, name: str) -> Path:
        return run_folder / "tensorboard" if self._location is None else Path(self._location) / name

    @staticmethod
    def _open(folder: Path, purge_step: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=purge_step)


class MLflowTracker(Tracker):
    """Logs to MLflow: to `$MLFLOW_TRACKING_URI`, or to its local database mlflow.db in the working folder."""

    title, package = "MLflow", "mlflow"

    def packages(self) -> list[str]:
        """Return the modules that must be installed: a database needs two more."""
        uri = self._location or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
        return [self.package, "sqlalchemy", "alembic"] if uri.startswith("sqlite:") else [self.package]

    def start(self, context: TrainingContext) -> None:
        """Create a run in the experiment `$MLFLOW_EXPERIMENT_NAME`, or "belvedere"."""
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        self._client = self._connect()
        experiment = self._client.get_experiment_by_name(name)
        identity = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self._run_id = self._client.create_run(identity, run_name=context.out.name).info.run_id
        values = parameters(context).items()
        self._client.log_batch(self._run_id, params=[Param(key, str(value)) for key, value in values])

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log metrics with the epoch as their step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run_id, metrics=[Metric(key, value, now, epoch) for key, value in values.items()])

    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Log final metrics and artifacts."""
        self.log_epoch(0, values)
        for file in list_files(folder):
            self._client.log_artifact(self._run_id, str(file))
        self._client.set_terminated(self._run_id, "FINISHED")

    def abort(self) -> None:
        """Set the status of the run."""
        self._client.set_terminated(self._run_id, "KILLED" if self.interrupted else "FAILED")

    def _connect(self) -> Any:
        from mlflow import MlflowClient

        uri = self._location
        if uri is not None and (":" not in uri or uri.startswith("file:")):
            uri = Path(uri.removeprefix("file://").removeprefix("file:")).absolute().as_uri()
        with _environment("MLFLOW_ALLOW_FILE_STORE", "true"):  # otherwise a folder as the store is an error
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)  # opens the store
            return client


class WandbTracker(Tracker):
    """Logs to Weights & Biases: into the folder wandb/, without a connection unless `$WANDB_MODE` asks for one."""

    title, package = "Weights & Biases", "wandb"

    def start(self, context: TrainingContext) -> None:
        """Start a run in the project `$WANDB_PROJECT`, or "belvedere"."""
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        self._run = wandb.init(
            project=self._location or os.environ.get("WANDB_PROJECT") or PROJECT,
            name=context.out.name,
            config=parameters(context),
            mode=os.environ.get("WANDB_MODE") or "offline",
            reinit="create_new",
            settings=settings,
        )
        self._run.define_metric("*", step_metric="epoch")

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log a row of the history."""
        self._run.log({"epoch": epoch, **values})

    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Log the summary, the report as a page, and the files as an artifact."""
        import wandb

        self._run.summary.update(dict(values))
        self._run.log({"report": wandb.Html(str(folder / "report.html"), inject=False)})
        artifact = wandb.Artifact(f"run-{self._run.id}", type="run")
        for file in list_files(folder):
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)
        self._run.finish()

    def abort(self) -> None:
        """Finish the run with an exit code."""
        self._run.finish(exit_code=130 if self.interrupted else 1)


class TrackioTracker(Tracker):
    """Logs to Trackio: into its local database, or where `$TRACKIO_SPACE_ID` or `$TRACKIO_SERVER_URL` say."""

    title, package = "Trackio", "trackio"

    def start(self, context: TrainingContext) -> None:
        """Start a run in the project."""
        import trackio

        self._run = trackio.init(
            project=self._location or os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=context.out.name,
            config=parameters(context),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log metrics with the epoch as their step."""
        self._run.log(dict(values), step=epoch)

    def finish(self, folder: Path, values: Mapping[str, float]) -> None:
        """Log final metrics, and the files as an artifact."""
        import trackio

        self._run.log(dict(values))
        artifact = trackio.Artifact(f"run-{self._run.id}", type="run")
        for file in list_files(folder):
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)
        trackio.finish()

    def abort(self) -> None:
        """Finish the run."""
        import trackio

        trackio.finish()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}


def make_trackers(track: str | Sequence[str]) -> tuple[Tracker, ...]:
    """Return trackers by their names, or "NAME=FOLDER", "NAME=URI" or "NAME=PROJECT".

    Raises:
        UnknownNameError: There is no such tracker.
        UsageError: A tracker is named twice, or nothing comes after the "=".
        MissingDependencyError: The package of a tracker is not installed.
    """
    found: dict[str, Tracker] = {}
    for each in [track] if isinstance(track, str) else track:
        name, separator, location = each.partition("=")
        kind = find_named("tracker", name, TRACKERS)
        if name in found:
            raise UsageError(f"`track` has {name!r} twice. Give each tracker once.")
        if separator and not location:
            raise UsageError(f"`track` needs a folder, URI or project after '='. Received: {each!r}.")
        found[name] = kind(location or None)
    return tuple(found.values())


def list_files(folder: Path) -> list[Path]:
    """Return the files of a run folder that are logged."""
    return [folder / name for name in FILES if (folder / name).exists()]


def parameters(context: TrainingContext) -> Parameters:
    """Return the settings of a training: the keys of the recipe that are set, and its data."""
    found: Parameters = {}
    for field in fields(context.recipe):
        value = getattr(context.recipe, field.name)
        if value is not None and value != "":
            found[field.name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    counts = {f"num_{name}_images": number for name, number in context.num_images.items()}
    names = ", ".join(context.class_names)
    found |= {"seed": context.seed, "device": context.device, "num_classes": len(context.class_names)}
    return found | counts | {"class_names": names[:MAX_PARAMETER_LENGTH]}


def curve_values(metrics: EpochMetrics) -> dict[str, float]:
    """Return the metrics of an epoch by the names of their curves."""
    values = {name: getattr(metrics, field) for name, field in CURVES.items()}
    return {name: value for name, value in values.items() if value is not None}


def final_values(run: Run) -> dict[str, float]:
    """Return the metrics of a finished run, those of the evaluation under the name of its split."""
    evaluation = run.evaluation
    values: dict[str, float] = {f"{evaluation.split}/{name}": getattr(evaluation, name) for name in FINAL_METRICS}
    for name in RUN_METRICS:
        if isinstance(value := run.metrics.get(name), int | float):
            values[f"run/{name}"] = value
    return values


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
