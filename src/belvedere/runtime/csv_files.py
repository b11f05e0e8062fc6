"""Rows as CSV, and cells that a spreadsheet would take for formulas.

Knows quoting and line ends; does not know what the columns are.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from belvedere.runtime.files import always, write_text

# How a formula begins, in the wide forms of East Asian keyboards too; before it apostrophes, which stand for an escape.
_FORMULA = re.compile("'*(?:\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n])")


def escape_formula(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would take for a formula, or that looks so escaped."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """Return what `escape_formula` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


class CsvRows:
    """Rows of cells as lines of CSV; None becomes an empty cell.

    Args:
        file: Where the lines go.
        spreadsheet: Whether texts that look like formulas are escaped, and all cells quoted, since some spreadsheets
            take a semicolon for the end of a cell.
    """

    def __init__(self, file: TextIO, *, spreadsheet: bool = False) -> None:
        self._file, self._line, self._spreadsheet = file, io.StringIO(), spreadsheet
        self._csv = csv.writer(
            self._line,
            lineterminator="\r\n",  # else Python leaves a \r in a cell unquoted
            quoting=csv.QUOTE_ALL if spreadsheet else csv.QUOTE_MINIMAL,
        )

    def write(self, cells: Iterable[object]) -> None:
        """Writes a row."""
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
    """Writes a CSV file at once: a header, then a row each; None becomes an empty cell; `check` as `write_bytes`."""
    text = io.StringIO()
    table = CsvRows(text, spreadsheet=spreadsheet)
    for row in (header, *rows):
        table.write(row)
    write_text(path, text.getvalue(), check)
