"""Detects files that `predict` wrote, by their first bytes."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from belvedere.errors import MissingDependencyError
from belvedere.inference.writers.text import FIRST_COLUMNS, LAST_COLUMNS
from belvedere.types.prediction import Prediction

CONTACT_SHEET_TITLE = "Contact sheet of Belvedere"  # in the metadata of a PNG
MAX_LINE_BYTES = 1 << 20  # of a first line: a column a class
_PNG_HEAD_BYTES = 1 << 10


def is_predictions_file(path: Path, format: str) -> bool:
    """Return whether `predict` wrote a file in a format: "csv", "jsonl", "json" or "parquet"."""
    try:
        if format == "parquet":
            from belvedere.inference.writers.parquet import has_columns  # here, since pyarrow is an extra

            return has_columns(path)
        if format not in _FIRST_LINE_CHECKS:  # registered by a plug-in
            return False
        with path.open("rb") as file:
            return _FIRST_LINE_CHECKS[format](file.readline(MAX_LINE_BYTES).decode())
    except (OSError, ValueError, csv.Error, RecursionError, MissingDependencyError):
        return False


def is_contact_sheet(path: Path) -> bool:
    """Return whether `predict` drew a contact sheet."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(b"\x89PNG") and CONTACT_SHEET_TITLE.encode() in head


def _is_csv(line: str) -> bool:
    cells = next(csv.reader([line]), [])
    last = [*LAST_COLUMNS, "model"]
    return cells[: len(FIRST_COLUMNS)] == list(FIRST_COLUMNS) and cells[-len(last) :] == last


def _is_json_lines(line: str) -> bool:
    row = json.loads(line)
    return isinstance(row, dict) and row.keys() == {*Prediction("", error="").to_dict(), "model"}


def _is_json(line: str) -> bool:
    document = json.loads(f"{line}]}}")
    return isinstance(document, dict) and {"class_names", "predictions"} <= document.keys()


_FIRST_LINE_CHECKS: Mapping[str, Callable[[str], bool]] = {"csv": _is_csv, "jsonl": _is_json_lines, "json": _is_json}
