"""Files of answers that `predict` wrote, told from other files by their first bytes.

Knows what the beginning of each form looks like; reads no more than that. A file that somebody went on writing in is
told only where its columns or keys changed.
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from belvedere.errors import MissingDependencyError
from belvedere.inference.writers.text import FIRST_COLUMNS, FURTHER_COLUMNS, to_json
from belvedere.types.prediction import Prediction

SHEET_MARK = "Contact sheet of Belvedere"  # the title in the metadata of a PNG
LONGEST_HEAD = 1 << 20  # bytes of a first line: a column a class
_MARK_WITHIN = 1 << 10  # bytes, the first of a PNG


def is_answers(path: Path, form: str) -> bool:
    """Say whether a file holds answers that `predict` wrote in a form: "csv", "jsonl", "json" or "parquet"."""
    try:
        if form == "parquet":
            from belvedere.inference.writers.parquet import is_answers as is_parquet  # here, since pyarrow is an extra

            return is_parquet(path)
        with path.open("rb") as file:
            return _IS_HEAD[form](file.readline(LONGEST_HEAD).decode())
    except (OSError, ValueError, MissingDependencyError):
        return False


def is_sheet(path: Path) -> bool:
    """Say whether a file is a contact sheet that `predict` drew."""
    try:
        with path.open("rb") as file:
            head = file.read(_MARK_WITHIN)
    except OSError:
        return False
    return head.startswith(b"\x89PNG") and SHEET_MARK.encode() in head


def _is_csv(line: str) -> bool:
    cells = next(csv.reader([line]), [])
    last = [*FURTHER_COLUMNS, "error", "model"]
    return cells[: len(FIRST_COLUMNS)] == list(FIRST_COLUMNS) and cells[-len(last) :] == last


def _is_json_lines(line: str) -> bool:
    row = json.loads(line)
    return isinstance(row, dict) and row.keys() == {*to_json(Prediction("", error=""), ()), "model"}


def _is_json(line: str) -> bool:
    document = json.loads(f"{line}]}}")
    return isinstance(document, dict) and {"classes", "predictions"} <= document.keys()


_IS_HEAD: Mapping[str, Callable[[str], bool]] = {"csv": _is_csv, "jsonl": _is_json_lines, "json": _is_json}
