"""Reads tables in text files: CSV with any usual separator and encoding, and JSON lines."""

import csv
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from pathlib import Path
from typing import TextIO

from belvedere.errors import DatasetError

SEPARATORS = {",": "comma", ";": ";", "\t": "tab", "|": "|"}
CHUNK_BYTES = 1 << 20
MAX_COLUMNS = 100_000  # keys in a file of JSON lines
MIN_UTF16 = 8  # bytes from which text without a byte order mark is recognized
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\s*")  # the first line of some exports for Excel

Cells = Sequence[str | None]


def cell_text(value: object) -> str | None:
    """Return the text of a cell: whole numbers without decimals, dates without 00:00:00; None if it is blank or NaN."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    is_missing = value is None or value != value  # NaN
    return None if is_missing or not str(value).strip() else str(value)


class CsvTable:
    """A text table with a header; its separator and encoding are detected."""

    is_delimited = True

    def __init__(self, path: Path) -> None:
        self.title = str(path)
        self._path, self._encoding = path, _find_encoding(path)
        with self._open() as file:
            stated = _SEPARATOR_LINE.fullmatch(file.readline(10))
        self._num_skipped = 1 if stated else 0
        self._separator, self.columns = self._find_header([stated[1]] if stated else [*SEPARATORS])
        if not self.columns:
            raise DatasetError(f"Empty table: {path}. Expected a first line image,label and a line for each image.")
        self._separator_name = SEPARATORS[self._separator]
        self.guesses = [] if self._separator == "," else [f"separator {self._separator_name}"]
        if not self._encoding.startswith("utf-8") and self._encoding != "utf-16":
            self.guesses.append(f"encoding {self._encoding}")

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

    @contextmanager
    def _open(self) -> Iterator[TextIO]:
        try:
            with self._path.open(newline="", encoding=self._encoding) as file:
                yield file
        except UnicodeDecodeError as error:
            raise DatasetError(f"Not a CSV table: {self._path} ({error}). Save it as one, in UTF-8.") from error

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
        start = 1 + self._num_skipped
        try:
            with self._open() as file:
                for _ in range(self._num_skipped):
                    file.readline()
                # Strict: otherwise an unclosed quote would swallow all further rows.
                reader = csv.reader(file, delimiter=separator, strict=True)
                for cells in reader:
                    last = reader.line_num + self._num_skipped
                    if "".join(cells).strip():
                        yield last, cells
                    start = last + 1
        except csv.Error as error:
            raise DatasetError(
                f"Not a CSV table: {self._path}, line {start} ({_describe(error)}). Correct the quotes: a cell with "
                'quotes begins and ends with one, and each quote inside is doubled (""). Or save the table as Excel.'
            ) from error


def _describe(error: csv.Error) -> str:
    text = str(error)
    if text.startswith("unexpected end"):
        return "a quote is opened and never closed"
    if "expected after" in text:
        return "a quote is closed before the end of its cell"
    return f"{text}: perhaps a quote is opened and never closed" if "field limit" in text else text


def _find_encoding(path: Path) -> str:
    """Return the encoding of a text file: UTF-8, UTF-16 if it begins so, else that of Windows in western countries."""
    decoder, encoding, line = getincrementaldecoder("utf-8")(), "utf-8-sig", 1
    with path.open("rb") as file:
        start = chunk = file.read(CHUNK_BYTES)
        if found := _find_wide_encoding(start):
            return found
        while chunk:
            if (place := chunk.find(0)) >= 0:
                raise DatasetError(
                    f"Not a table: {path} is binary or damaged (a NUL byte in line "
                    f"{line + chunk.count(10, 0, place):,}). Save it again as CSV in UTF-8, or give a folder of class "
                    "folders."
                )
            line += chunk.count(10)
            following = file.read(CHUNK_BYTES)
            try:
                if encoding != "cp1252":
                    decoder.decode(chunk, final=not following)
            except UnicodeDecodeError:
                encoding = "cp1252"
            chunk = following
    return encoding


def _find_wide_encoding(start: bytes) -> str | None:
    """Return the encoding of UTF-16 or UTF-32: by its first bytes, or by the zeros beside all its first characters."""
    if start.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    first, second = start[:MIN_UTF16:2], start[1:MIN_UTF16:2]
    if len(start) < MIN_UTF16 or any(first) == any(second):
        return None
    return "utf-16-be" if any(second) and all(second) else "utf-16-le" if all(first) else None


class JsonLinesTable:
    """A text file with one JSON object per line, whose keys are the columns."""

    is_delimited = False

    def __init__(self, path: Path) -> None:
        self.title, self._path = str(path), path
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
        number = 0
        try:
            with self._path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, self._parse(line, number)
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"Not a file of JSON lines: {self._path}, after line {number} ({error}). Save it in UTF-8."
            ) from error

    def _parse(self, line: str, number: int) -> dict[str, object]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            where = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise self._no_object(f"line {number}{where} is no JSON ({reason})") from error
        if not isinstance(row, dict):
            raise self._no_object(f"line {number} is no JSON object")
        return row

    def _no_object(self, problem: str) -> DatasetError:
        return DatasetError(
            f"Not a file of JSON lines: {self._path}, {problem}. Write one object in each line: "
            '{"image": ..., "label": ...}.'
        )

    def _to_cell(self, value: object, name: str, number: int) -> str | None:
        if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
            return "|".join(map(str, value))
        if value is None or isinstance(value, str | int | float):
            return cell_text(value)
        raise DatasetError(
            f"{self._path}, line {number}: {name[:80]} must be a text or a number. Received: {str(value)[:80]}."
        )
