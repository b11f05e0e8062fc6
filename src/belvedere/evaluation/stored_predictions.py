"""predictions.csv read back: the answers that a run or an evaluation left.

Knows the columns that `tables` writes; does not know models or figures of merit.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from belvedere.errors import UsageError
from belvedere.runtime.csv_files import unescape_formula
from belvedere.types.prediction import Prediction

PREDICTIONS, METRICS = "predictions.csv", "metrics.json"
_AFTER_CLASSES = "tags"  # the first column behind those of the classes
_READ = ("image", "label", "predicted_label", "confidence", "none_of_these", "error")
_PREFIX = "class:"  # of a class that is called as a column is


@dataclass(frozen=True)
class Answers:
    """What a model answered for labeled photographs."""

    folder: Path
    class_names: tuple[str, ...]
    predictions: tuple[Prediction, ...]  # each with its label


def read_predictions(folder: Path | str) -> Answers:
    """Reads the answers of a folder of results.

    Args:
        folder: What `belvedere train` or `belvedere evaluate --out` wrote.

    Raises:
        UsageError: It is no such folder, or its tables are damaged.
    """
    file, metrics = Path(folder) / PREDICTIONS, _read_metrics(Path(folder))
    read_cell = unescape_formula if metrics.get("spreadsheet") is True else str
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
            reader = (list(map(read_cell, row)) for row in csv.reader(rows, strict=True))
            header = next(reader, [])
            end = header.index(_AFTER_CLASSES)
            places = {name: header.index(name) for name in _READ}
            class_names = _choose_class_names(metrics, header[places["confidence"] + 1 : end])
            answers = tuple(_read_row(row, len(class_names), places) for row in reader)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{folder} is no folder of results with answers for labeled photographs: {PREDICTIONS}: {reason}. Give "
            "one that belvedere train or belvedere evaluate --out wrote."
        ) from error
    return Answers(Path(folder), class_names, answers)


def candidate_paths(folder: Path, image: str) -> tuple[Path, Path]:
    """Returns where a photograph may be that a folder of results names: as it is written, or beside the folder."""
    return Path(image), folder.parent / image


def _read_row(row: list[str], classes: int, places: dict[str, int]) -> Prediction:
    cells = {name: row[place] for name, place in places.items()}
    image, label, error = cells["image"], cells["label"], cells["error"]
    if error:
        return Prediction(image, error=error, label=label)
    first = places["confidence"] + 1
    probabilities = tuple(float(cell) for cell in row[first : first + classes])
    none = {"true": True, "false": False}.get(cells["none_of_these"])
    return Prediction(
        image, cells["predicted_label"], float(cells["confidence"]), probabilities, label=label, none_of_these=none
    )


def _read_metrics(folder: Path) -> dict[str, Any]:
    """What metrics.json says; nothing where it can't be read: the table alone will do."""
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _choose_class_names(metrics: dict[str, Any], columns: list[str]) -> tuple[str, ...]:
    """The names in full: a column of the table may bear a prefix, which metrics.json does not."""
    named = metrics.get("classes")
    if isinstance(named, list) and len(named) == len(columns) and all(isinstance(name, str) for name in named):
        return tuple(named)
    return tuple(name.removeprefix(_PREFIX) for name in columns)
