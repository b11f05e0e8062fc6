"""Reads tables in text files: CSV with any usual separator and encoding, and JSON lines."""

import csv
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from belvedere.errors import DatasetError

SEPARATORS = {",": "comma", ";": ";", "\t": "tab", "|": "|"}
CHUNK_BYTES = 1 << 20
MAX_COLUMNS = 100_000  # keys in a file of JSON lines
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\s*")  # the first line of some exports for Excel

Cells = Sequence[str | None]


def cell_text(value: object) -> str | None:
    """Return the text of a cell: whole numbers without decimals; None for a blank one and for NaN, a missing number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_missing = value is None or value != value  # NaN
    return None if is_missing or not str(value).strip() else str(value)


class CsvTable:
    """A text table with a header; its separator and encoding are detected."""

    def __init__(self, path: Path) -> None:
        self._path, self._encoding = path, _find_encoding(path)
        with self._open() as file:
            stated = _SEPARATOR_LINE.fullmatch(file.readline(10))
        self._num_skipped = 1 if stated else 0
        self._separator, self.columns = self._find_header([stated[1]] if stated else [*SEPARATORS])
        if not self.columns:
            raise DatasetError(f"Empty table: {path}. Expected a first line image,label and a line for each image.")
        self._separator_name = SEPARATORS[self._separator]
        self.guesses = [] if self._separator == "," else [f"separator {self._separator_name}"]
        if self._encoding == "cp1252":
            self.guesses.append("encoding cp1252")

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row that is not empty, and its cells of these columns."""
        rows = self._read(self._separator)
        next(rows, None)
        width = len(self.columns)
        for number, cells in rows:
            if any(cells[width:]):
                raise DatasetError(
                    f"More cells than columns: {self._path}, line {number}. "
                    f"Quote cells that contain the separator ({self._separator_name})."
                )
            yield f"line {number}", [cells[index] if index < len(cells) else None for index in indices]

    def _open(self) -> TextIO:
        return self._path.open(newline="", encoding=self._encoding)

    def _find_header(self, separators: Sequence[str]) -> tuple[str, list[str]]:
        """Return the separator with the most columns, the first of equals, and the columns."""
        headers, error = [], None
        for separator in separators:
            try:
                headers.append((separator, next(self._read(separator), (0, []))[1]))
            except DatasetError as failure:  # such as a quote before another separator
                error = error or failure
        if not headers and error is not None:
            raise error
        return max(headers, key=lambda each: len(each[1]))

    def _read(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that are not empty, header included, with the number of their last line."""
        try:
            with self._open() as file:
                for _ in range(self._num_skipped):
                    file.readline()
                # Strict: otherwise an unclosed quote would swallow all further rows.
                reader = csv.reader(file, delimiter=separator, strict=True)
                for cells in reader:
                    if "".join(cells).strip():
                        yield reader.line_num + self._num_skipped, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"Not a CSV table: {self._path} ({error}). Save it as one, in UTF-8.") from error


def _find_encoding(path: Path) -> str:
    """Return the encoding of a text file: UTF-8, UTF-16 if it begins so, else that of Windows in western countries."""
    decoder = getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.read(CHUNK_BYTES)
        if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            return "utf-16"
        if b"\0" in start:
            raise DatasetError(f"Not a table: {path} is a binary file. Give a folder of class folders, or a CSV table.")
        try:
            chunk = start
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(CHUNK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


class JsonLinesTable:
    """A text file with one JSON object per line, whose keys are the columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.guesses: list[str] = []
        self.columns = list(dict.fromkeys(key for _, row in self._read() for key in row))
        if len(self.columns) > MAX_COLUMNS:
            raise DatasetError(f"More than {MAX_COLUMNS:,} different keys in {path}. Use the same keys in every line.")

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row, and its cells of these columns."""
        names = [self.columns[index] for index in indices]
        for number, row in self._read():
            yield f"line {number}", [self._to_cell(row.get(name), name, number) for name in names]

    def _read(self) -> Iterator[tuple[int, dict[str, object]]]:
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise DatasetError(
                            f'{self._path}, line {number} is no JSON object. Expected {{"image": ..., "label": ...}}.'
                        )
                    yield number, row
        except DatasetError:
            raise
        except (ValueError, RecursionError) as error:  # JSON or its encoding
            raise DatasetError(f"Not a file of JSON lines: {self._path} ({error}). Save it as CSV.") from error

    def _to_cell(self, value: object, name: str, number: int) -> str | None:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return "|".join(value)
        if value is None or isinstance(value, str | int | float):
            return cell_text(value)
        raise DatasetError(
            f"{self._path}, line {number}: {name[:80]} must be a text or a number. Received: {str(value)[:80]}."
        )
