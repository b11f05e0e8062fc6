"""Belvedere: from a folder of labeled photographs to an image classifier you can trust.

Importing this costs nothing: a name is loaded when it is first asked for, and torch only by `train`. It sets the
environment variables that keep the dependencies from sending data, where the user has not set them (`telemetry`).

    >>> import belvedere
    >>> run = belvedere.train("photographs", out="run")          # doctest: +SKIP
    >>> belvedere.load("run").predict("fjord.jpg")[0].answer  # doctest: +SKIP
    'sea'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from belvedere.runtime.telemetry import switch_off

if TYPE_CHECKING:
    from belvedere.auditing.audit import audit
    from belvedere.data.corrections.journal import read_corrections
    from belvedere.data.dataset import Dataset, load_dataset
    from belvedere.demo.dataset import make_synthetic_dataset
    from belvedere.demo.demo import run_demo
    from belvedere.errors import (
        BelvedereError,
        CacheError,
        CalibrationError,
        DatasetError,
        DistributedError,
        DownloadError,
        ExportError,
        InvalidImageError,
        InvalidModelError,
        MissingDependencyError,
        OutputExistsError,
        TrainingError,
        UnknownNameError,
        UnsupportedInputError,
        UsageError,
        WeightsError,
    )
    from belvedere.evaluation.compare import Comparison, compare
    from belvedere.evaluation.evaluate import evaluate
    from belvedere.evaluation.tag_calibration import calibrate
    from belvedere.images.decode import read_image
    from belvedere.inference.export import export_model
    from belvedere.inference.model import Model, load
    from belvedere.review.server import run_review
    from belvedere.serving.server import run_server
    from belvedere.training.networks import describe_architecture, list_models
    from belvedere.training.recipe_config import recipe_to_toml
    from belvedere.training.train import Run, train
    from belvedere.types.audit import Audit, Issue
    from belvedere.types.evaluation import Evaluation
    from belvedere.types.prediction import Prediction

__version__ = "0.2.0"

switch_off()

_HOMES = {
    "calibrate": "evaluation.tag_calibration",
    "Comparison": "evaluation.compare",
    "compare": "evaluation.compare",
    "audit": "auditing.audit",
    "Dataset": "data.dataset",
    "load_dataset": "data.dataset",
    "run_demo": "demo.demo",
    "BelvedereError": "errors",
    "CacheError": "errors",
    "DatasetError": "errors",
    "DownloadError": "errors",
    "CalibrationError": "errors",
    "ExportError": "errors",
    "OutputExistsError": "errors",
    "MissingDependencyError": "errors",
    "DistributedError": "errors",
    "TrainingError": "errors",
    "UnknownNameError": "errors",
    "InvalidImageError": "errors",
    "InvalidModelError": "errors",
    "UnsupportedInputError": "errors",
    "UsageError": "errors",
    "WeightsError": "errors",
    "evaluate": "evaluation.evaluate",
    "export_model": "inference.export",
    "read_image": "images.decode",
    "Model": "inference.model",
    "load": "inference.model",
    "make_synthetic_dataset": "demo.dataset",
    "read_corrections": "data.corrections.journal",
    "run_review": "review.server",
    "Audit": "types.audit",
    "Evaluation": "types.evaluation",
    "Issue": "types.audit",
    "Prediction": "types.prediction",
    "run_server": "serving.server",
    "recipe_to_toml": "training.recipe_config",
    "list_models": "training.networks",
    "describe_architecture": "training.networks",
    "Run": "training.train",
    "train": "training.train",
}

__all__ = [  # noqa: RUF022 - in the order of the work
    "load_dataset",
    "audit",
    "train",
    "load",
    "evaluate",
    "calibrate",
    "compare",
    "run_server",
    "export_model",
    "read_image",
    "recipe_to_toml",
    "list_models",
    "describe_architecture",
    "make_synthetic_dataset",
    "run_demo",
    "run_review",
    "read_corrections",
    "Dataset",
    "Run",
    "Model",
    "Prediction",
    "Evaluation",
    "Comparison",
    "Audit",
    "Issue",
    "BelvedereError",
    "UsageError",
    "UnsupportedInputError",
    "UnknownNameError",
    "OutputExistsError",
    "MissingDependencyError",
    "CacheError",
    "DatasetError",
    "InvalidImageError",
    "InvalidModelError",
    "DownloadError",
    "CalibrationError",
    "ExportError",
    "DistributedError",
    "WeightsError",
    "TrainingError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'belvedere' has no attribute {name!r}")
    try:
        return getattr(import_module(f"belvedere.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from belvedere.errors import MissingDependencyError

        if error.name in ("torch", "timm", "onnx", "onnxscript", "pydantic", "safetensors", "tomli_w"):
            raise MissingDependencyError("Training", error.name, "train") from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
