"""Belvedere: from a folder of labelled photographs to an image classifier you can trust.

Importing this costs nothing: a name is loaded when it is first asked for, and torch only by `train`. It sets the
environment variables that keep the dependencies from sending data, where the user has not set them (`telemetry`).

    >>> import belvedere
    >>> run = belvedere.train("photographs", out="run")          # doctest: +SKIP
    >>> belvedere.load("run").predict("fjord.jpg")[0].answer  # doctest: +SKIP
    'sea'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from belvedere.telemetry import switch_off

if TYPE_CHECKING:
    from belvedere.auditing.records import Audit, Issue
    from belvedere.auditing.run import audit
    from belvedere.calibrating import calibrate
    from belvedere.comparing.runs import Comparison, compare
    from belvedere.dataset import Dataset, read_folder
    from belvedere.demo import run_demo
    from belvedere.errors import (
        BelvedereError,
        CacheError,
        CalibrationError,
        DatasetError,
        DownloadError,
        ExportError,
        FolderExists,
        MissingExtra,
        ScaleError,
        TrainingError,
        UnknownName,
        UnreadableImage,
        UnreadableModel,
        UnsupportedInputError,
        UsageError,
        WeightsError,
    )
    from belvedere.evaluation import evaluate
    from belvedere.exporting import export_model
    from belvedere.images import read_image
    from belvedere.journal import read_journal
    from belvedere.model import Model, load
    from belvedere.practice.folder import draw_practice_set
    from belvedere.records import Evaluation, Prediction
    from belvedere.review.serving import run_review
    from belvedere.serve.server import run_server
    from belvedere.training.config import print_recipe
    from belvedere.training.networks import describe_network, list_backbones
    from belvedere.training.run import Run, train

__version__ = "0.1.0"

switch_off()

_HOMES = {
    "calibrate": "calibrating",
    "Comparison": "comparing.runs",
    "compare": "comparing.runs",
    "audit": "auditing.run",
    "Dataset": "dataset",
    "read_folder": "dataset",
    "run_demo": "demo",
    "BelvedereError": "errors",
    "CacheError": "errors",
    "DatasetError": "errors",
    "DownloadError": "errors",
    "CalibrationError": "errors",
    "ExportError": "errors",
    "FolderExists": "errors",
    "MissingExtra": "errors",
    "ScaleError": "errors",
    "TrainingError": "errors",
    "UnknownName": "errors",
    "UnreadableImage": "errors",
    "UnreadableModel": "errors",
    "UnsupportedInputError": "errors",
    "UsageError": "errors",
    "WeightsError": "errors",
    "evaluate": "evaluation",
    "export_model": "exporting",
    "read_image": "images",
    "Model": "model",
    "load": "model",
    "draw_practice_set": "practice.folder",
    "read_journal": "journal",
    "run_review": "review.serving",
    "Audit": "auditing.records",
    "Evaluation": "records",
    "Issue": "auditing.records",
    "Prediction": "records",
    "run_server": "serve.server",
    "print_recipe": "training.config",
    "list_backbones": "training.networks",
    "describe_network": "training.networks",
    "Run": "training.run",
    "train": "training.run",
}

__all__ = [  # noqa: RUF022 - in the order of the work
    "read_folder",
    "audit",
    "train",
    "load",
    "evaluate",
    "calibrate",
    "compare",
    "run_server",
    "export_model",
    "read_image",
    "print_recipe",
    "list_backbones",
    "describe_network",
    "draw_practice_set",
    "run_demo",
    "run_review",
    "read_journal",
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
    "UnknownName",
    "FolderExists",
    "MissingExtra",
    "CacheError",
    "DatasetError",
    "UnreadableImage",
    "UnreadableModel",
    "DownloadError",
    "CalibrationError",
    "ExportError",
    "ScaleError",
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
        from belvedere.errors import MissingExtra

        if error.name in ("torch", "timm", "onnx", "onnxscript", "pydantic", "safetensors", "tomli_w"):
            raise MissingExtra("Training", error.name, "train") from error
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
