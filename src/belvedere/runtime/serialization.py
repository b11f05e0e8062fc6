"""CSV and JSON that every reader accepts."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from belvedere.runtime.files import always, write_text

# The start of a formula, full-width signs included. Apostrophes before it are counted as an escape.
_FORMULA = re.compile("'*(?:\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n])")


def escape_formula(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would run as a formula, or that looks escaped."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """Undo `escape_formula`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


class CsvRows:
    """Writes rows of cells as CSV; None becomes an empty cell.

    Args:
        file: The file to write to.
        spreadsheet: Whether texts that look like formulas are escaped and all cells quoted; some spreadsheets end
            unquoted cells at a semicolon.
    """

    def __init__(self, file: TextIO, *, spreadsheet: bool = False) -> None:
        self._file, self._line, self._spreadsheet = file, io.StringIO(), spreadsheet
        self._csv = csv.writer(
            self._line,
            lineterminator="\r\n",  # otherwise Python does not quote \r
            quoting=csv.QUOTE_ALL if spreadsheet else csv.QUOTE_MINIMAL,
        )

    def write(self, cells: Iterable[object]) -> None:
        """Write a row."""
        if self._spreadsheet:
            cells = [escape_formula(cell) if isinstance(cell, str) else cell for cell in cells]
        self._csv.writerow(cells)
        self._file.write(self._line.getvalue().removesuffix("\r\n") + "\n")
        self._line.seek(0)
        self._line.truncate()


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    check: Callable[[], None] = always,
    *,
    spreadsheet: bool = False,
) -> None:
    """Write a CSV file atomically: a header, then the rows; None becomes an empty cell."""
    text = io.StringIO()
    table = CsvRows(text, spreadsheet=spreadsheet)
    for row in (header, *rows):
        table.write(row)
    write_text(path, text.getvalue(), check)


def dump_json(content: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return strict JSON; NaN and infinity become null."""
    try:
        return json.dumps(content, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_replace_non_finite(content), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, dump_json(content, indent=2, ensure_ascii=False) + "\n")


def _replace_non_finite(content: object) -> object:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {key: _replace_non_finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_replace_non_finite(value) for value in content]
    return content
