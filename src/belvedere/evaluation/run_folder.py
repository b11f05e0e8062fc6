"""The results folder of a training run or an evaluation: written, and its predictions read back."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from belvedere.errors import UsageError
from belvedere.evaluation.run_results import RunResults
from belvedere.inference.writers.text import CLASS_PREFIX, write_predictions
from belvedere.runtime.serialization import unescape_formula, write_csv, write_json
from belvedere.runtime.terminal import count, describe_error
from belvedere.types.data import DataWarning, ModelId
from belvedere.types.evaluation import EpochMetrics, Evaluation
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction

PREDICTIONS, METRICS = "predictions.csv", "metrics.json"
_AFTER_CLASSES = "tags"  # first column after those of the classes
_COLUMNS = ("image", "label", "predicted_label", "confidence", "none_of_these", "none_of_these_score", "error")


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions of a results folder."""

    folder: Path
    class_names: tuple[str, ...]
    predictions: tuple[Prediction, ...]  # with labels


def unreadable_warning(evaluation: Evaluation) -> tuple[DataWarning, ...]:
    """Return a warning that names the images that could not be read, if any."""
    names = tuple(f"{each.image}: {each.error}" for each in evaluation.predictions if each.error is not None)
    return (DataWarning(f"{count(len(names), 'image')} not measured: cannot be read", names),) if names else ()


def write_results(folder: Path, results: RunResults) -> dict[str, object]:
    """Write metrics.json, predictions.csv, figures/ and report.html, and return the content of metrics.json."""
    from belvedere.evaluation.report.html import write_report  # matplotlib, which readers do not need

    metrics = collect_metrics(
        results.evaluation, results.model_id, results.card, results.total_seconds, results.spreadsheet
    )
    write_json(folder / METRICS, metrics)
    predictions = results.evaluation.predictions
    write_predictions(folder / PREDICTIONS, predictions, results.card.class_names, spreadsheet=results.spreadsheet)
    if results.history:
        write_history(folder / "history.csv", results.history)
    write_report(folder, results)
    return metrics


def collect_metrics(
    evaluation: Evaluation, model_id: ModelId, card: ModelCard, total_seconds: float, spreadsheet: bool
) -> dict[str, object]:
    """Return the content of metrics.json: the metrics, and the model's origin."""
    origin = card.provenance
    return {
        **evaluation.to_dict(),
        "model": asdict(model_id),
        "total_seconds": round(total_seconds, 3),
        "training_seconds": round(origin.training_seconds, 3),
        "epochs": origin.epochs,
        "best_epoch": origin.best_epoch,
        "interrupted": origin.interrupted,
        "device": origin.device,
        "precision": origin.precision,
        "recipe": origin.recipe,
        "seed": origin.seed,
        "onnx_max_relative_error": origin.onnx_max_relative_error,
        "num_images_by_split": dict(origin.num_images),
        "versions": dict(origin.versions),
        "spreadsheet": spreadsheet,  # for readers of predictions.csv
    }


def write_history(path: Path, history: Sequence[EpochMetrics]) -> None:
    """Write history.csv: one row per epoch."""
    write_csv(path, [field.name for field in fields(EpochMetrics)], [astuple(row) for row in history])


def read_history(path: Path) -> tuple[EpochMetrics, ...]:
    """Read history.csv; empty where there is none, as for a linear probe.

    Raises:
        UsageError: The file is damaged.
    """
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as rows:
            return tuple(
                EpochMetrics(int(row.pop("epoch")), **{name: float(cell) for name, cell in row.items()})
                for row in csv.DictReader(rows, strict=True)
            )
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UsageError(f"Cannot read {path}: {describe_error(error)}. Train again.") from error


def read_predictions(folder: Path | str) -> StoredPredictions:
    """Read predictions.csv of a results folder.

    Args:
        folder: Folder that `train` or `evaluate(out=...)` wrote.

    Raises:
        UsageError: It is not a results folder, or its table is damaged.
    """
    metrics = read_metrics(Path(folder))
    read_cell = unescape_formula if metrics.get("spreadsheet") is True else str
    try:
        with (Path(folder) / PREDICTIONS).open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
            reader = (list(map(read_cell, row)) for row in csv.reader(rows, strict=True))
            header = next(reader, [])
            end = header.index(_AFTER_CLASSES)
            positions = {name: header.index(name) for name in _COLUMNS}
            class_names = tuple(name.removeprefix(CLASS_PREFIX) for name in header[positions["confidence"] + 1 : end])
            predictions = tuple(_read_row(row, class_names, positions) for row in reader)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder} is not a results folder with predictions on labeled images: {PREDICTIONS}: {reason}. "
            "Give one that train or evaluate wrote."
        ) from error
    return StoredPredictions(Path(folder), class_names, predictions)


def candidate_paths(folder: Path, image: str) -> tuple[Path, Path]:
    """Return the possible paths of an image of a results folder: as written, and beside the folder."""
    return Path(image), folder.parent / image


def _read_row(row: list[str], class_names: tuple[str, ...], positions: dict[str, int]) -> Prediction:
    cells = {name: row[position] for name, position in positions.items()}
    image, label, error = cells["image"], cells["label"], cells["error"]
    if error:
        return Prediction(image, error=error, label=label, class_names=class_names)
    first = positions["confidence"] + 1
    probabilities = tuple(float(cell) for cell in row[first : first + len(class_names)])
    none = {"true": True, "false": False}.get(cells["none_of_these"])
    return Prediction(
        image,
        cells["predicted_label"],
        float(cells["confidence"]),
        probabilities,
        label=label,
        none_of_these=none,
        none_of_these_score=float(cells["none_of_these_score"]) if cells["none_of_these_score"] else None,
        class_names=class_names,
    )


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return metrics.json, empty where it cannot be read: the table suffices."""
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return metrics if isinstance(metrics, dict) else {}
