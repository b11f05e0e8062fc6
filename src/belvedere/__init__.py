"""From a folder of labeled images to an image classifier you can trust.

Names are loaded on first use, so the import is cheap; torch is imported by `train` only. The import sets environment
variables that keep dependencies from sending telemetry, unless the user has set them (docs/privacy.md).

    >>> import belvedere
    >>> run = belvedere.train("images", out="run")          # doctest: +SKIP
    >>> belvedere.predict(run.load(), "fjord.jpg")[0].answer  # doctest: +SKIP
    'sea'
"""

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from belvedere.runtime.environment import disable_telemetry
from belvedere.runtime.version import VERSION
from belvedere.types.result import register_html

if TYPE_CHECKING:
    from belvedere.auditing.audit import audit
    from belvedere.auditing.register import register_check
    from belvedere.data.corrections.corrections_file import read_corrections
    from belvedere.data.dataset import Dataset, load_dataset
    from belvedere.demo.dataset import make_synthetic_dataset
    from belvedere.demo.demo import run_demo
    from belvedere.errors import (
        ArchiveError,
        BelvedereError,
        CacheError,
        CalibrationError,
        DatasetError,
        DistributedError,
        ExportError,
        FetchError,
        HubError,
        ImageTooLargeError,
        InferenceError,
        InvalidImageError,
        InvalidModelError,
        MissingDependencyError,
        OutputExistsError,
        PluginError,
        StopTraining,
        TrainingError,
        UnknownNameError,
        UnsupportedInputError,
        UsageError,
        WeightsError,
    )
    from belvedere.evaluation.calibrate import Calibration, calibrate
    from belvedere.evaluation.compare import compare
    from belvedere.evaluation.comparison import Comparison
    from belvedere.evaluation.evaluate import evaluate
    from belvedere.evaluation.monitoring.monitor import monitor
    from belvedere.evaluation.monitoring.result import DriftReport
    from belvedere.fetching.fetch import fetch
    from belvedere.images.decode import read_image
    from belvedere.inference.export import export
    from belvedere.inference.model import Model, load_model
    from belvedere.inference.predict import predict
    from belvedere.inference.predictions import Predictions
    from belvedere.inference.push import Push, push
    from belvedere.inference.writers.register import register_writer
    from belvedere.reviewing.assessing.server import assess
    from belvedere.reviewing.exploring.server import explore
    from belvedere.reviewing.labeling.server import label
    from belvedere.reviewing.server import review
    from belvedere.runtime.progress import Progress, console_progress
    from belvedere.serving.server import serve
    from belvedere.training.callbacks import Callback, EarlyStopping, TrainingContext
    from belvedere.training.networks import describe_architecture, list_models, register_network
    from belvedere.training.optimizers import register_optimizer
    from belvedere.training.recipe_config import recipe_to_toml, register_recipe
    from belvedere.training.run import Run
    from belvedere.training.train import train
    from belvedere.types.assessment import Assessment
    from belvedere.types.audit import Audit, Issue
    from belvedere.types.evaluation import EpochMetrics, Evaluation
    from belvedere.types.prediction import Prediction

__version__ = VERSION

disable_telemetry()

_HOMES = {
    "calibrate": "evaluation.calibrate",
    "Calibration": "evaluation.calibrate",
    "Comparison": "evaluation.comparison",
    "compare": "evaluation.compare",
    "audit": "auditing.audit",
    "Dataset": "data.dataset",
    "load_dataset": "data.dataset",
    "run_demo": "demo.demo",
    "BelvedereError": "errors",
    "CacheError": "errors",
    "DatasetError": "errors",
    "FetchError": "errors",
    "ArchiveError": "errors",
    "CalibrationError": "errors",
    "ExportError": "errors",
    "HubError": "errors",
    "OutputExistsError": "errors",
    "MissingDependencyError": "errors",
    "DistributedError": "errors",
    "PluginError": "errors",
    "TrainingError": "errors",
    "UnknownNameError": "errors",
    "InferenceError": "errors",
    "ImageTooLargeError": "errors",
    "InvalidImageError": "errors",
    "InvalidModelError": "errors",
    "UnsupportedInputError": "errors",
    "UsageError": "errors",
    "WeightsError": "errors",
    "evaluate": "evaluation.evaluate",
    "DriftReport": "evaluation.monitoring.result",
    "monitor": "evaluation.monitoring.monitor",
    "fetch": "fetching.fetch",
    "predict": "inference.predict",
    "Predictions": "inference.predictions",
    "export": "inference.export",
    "push": "inference.push",
    "Push": "inference.push",
    "read_image": "images.decode",
    "Model": "inference.model",
    "load_model": "inference.model",
    "make_synthetic_dataset": "demo.dataset",
    "read_corrections": "data.corrections.corrections_file",
    "assess": "reviewing.assessing.server",
    "explore": "reviewing.exploring.server",
    "label": "reviewing.labeling.server",
    "review": "reviewing.server",
    "Progress": "runtime.progress",
    "console_progress": "runtime.progress",
    "Assessment": "types.assessment",
    "Audit": "types.audit",
    "Evaluation": "types.evaluation",
    "Issue": "types.audit",
    "Prediction": "types.prediction",
    "serve": "serving.server",
    "recipe_to_toml": "training.recipe_config",
    "list_models": "training.networks",
    "describe_architecture": "training.networks",
    "Run": "training.run",
    "Callback": "training.callbacks",
    "EarlyStopping": "training.callbacks",
    "TrainingContext": "training.callbacks",
    "EpochMetrics": "types.evaluation",
    "StopTraining": "errors",
    "register_network": "training.networks",
    "register_optimizer": "training.optimizers",
    "register_recipe": "training.recipe_config",
    "register_check": "auditing.register",
    "register_writer": "inference.writers.register",
    "train": "training.train",
}

__all__ = [  # noqa: RUF022 - in the order of the work
    "fetch",
    "load_dataset",
    "audit",
    "train",
    "load_model",
    "evaluate",
    "assess",
    "calibrate",
    "compare",
    "predict",
    "serve",
    "monitor",
    "export",
    "push",
    "read_image",
    "recipe_to_toml",
    "list_models",
    "describe_architecture",
    "make_synthetic_dataset",
    "run_demo",
    "explore",
    "label",
    "review",
    "read_corrections",
    "register_network",
    "register_recipe",
    "register_optimizer",
    "register_check",
    "register_writer",
    "Dataset",
    "Run",
    "Model",
    "Predictions",
    "Prediction",
    "Evaluation",
    "Assessment",
    "Comparison",
    "Calibration",
    "DriftReport",
    "Push",
    "Audit",
    "Issue",
    "Callback",
    "EarlyStopping",
    "TrainingContext",
    "EpochMetrics",
    "StopTraining",
    "Progress",
    "console_progress",
    "BelvedereError",
    "UsageError",
    "UnsupportedInputError",
    "UnknownNameError",
    "OutputExistsError",
    "MissingDependencyError",
    "CacheError",
    "DatasetError",
    "FetchError",
    "ArchiveError",
    "InvalidImageError",
    "ImageTooLargeError",
    "InvalidModelError",
    "InferenceError",
    "CalibrationError",
    "ExportError",
    "HubError",
    "DistributedError",
    "WeightsError",
    "PluginError",
    "TrainingError",
    "__version__",
]


_HTML = {  # of results in notebooks
    "Architecture": "training.notebook.architecture_html",
    "Dataset": "evaluation.report.notebook.dataset_html",
    "Evaluation": "evaluation.report.notebook.evaluation_html",
    "Assessment": "evaluation.report.notebook.assessment_html",
    "Comparison": "evaluation.report.notebook.comparison_html",
    "Calibration": "evaluation.report.notebook.calibration_html",
    "Audit": "auditing.notebook.audit_html",
    "Run": "training.notebook.run_html",
    "Demo": "demo.notebook.demo_html",
}


def _to_html(path: str, result: object) -> str:
    module, _, function = path.rpartition(".")
    return str(getattr(import_module(f"belvedere.{module}"), function)(result))


for _name, _path in _HTML.items():
    register_html(_name, partial(_to_html, _path))


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'belvedere' has no attribute {name!r}")
    return getattr(import_module(f"belvedere.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
