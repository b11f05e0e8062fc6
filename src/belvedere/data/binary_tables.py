"""Reads tables in binary files, Parquet and Excel; rejects small files that unpack to far more than their size."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from belvedere.data.text_tables import cell_text
from belvedere.errors import DatasetError, MissingDependencyError
from belvedere.runtime.terminal import describe_error

if TYPE_CHECKING:
    import pyarrow

# Parquet packs equal values: a million names in a row take half a megabyte. The larger of both limits applies.
MAX_EXPANDED_BYTES, MAX_EXPANSION = 256_000_000, 20
MAX_WORKBOOK_BYTES = 64_000_000  # unpacked; all texts of a workbook are in memory at once
MAX_WORKBOOK_COLUMNS = 1000
MAX_WORKBOOK_ROWS = 1_048_576  # those of Excel; openpyxl yields each row before the one that a file numbers
MAX_SHEETS = 5  # names in a message
ROW_BYTES = 128  # counted per row beside its cells
BATCH_ROWS = 1024
MAX_CELL_BYTES = 1 << 16

Cells = Sequence[str | None]


class ParquetTable:
    """A Parquet file; only columns that are asked for are unpacked."""

    is_delimited = False

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError as error:
            raise MissingDependencyError("A Parquet table", "pyarrow", "parquet") from error
        self.title, self._path = str(path), path
        self.guesses: list[str] = []
        try:
            self._schema = pyarrow.parquet.read_schema(path)
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            raise self._damaged(error) from error
        self.columns = list(self._schema.names)
        if twice := next((name for name, number in Counter(self.columns).items() if number > 1), None):
            raise DatasetError(f"Two columns {twice[:80]!r} in {path}. Rename one of them.")

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row, and its cells of these columns."""
        import pyarrow
        import pyarrow.parquet

        columns = [self.columns[index] for index in indices]
        texts = [name for name in columns if self._is_text(name)]
        limit = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * self._path.stat().st_size)
        try:
            # Dictionary encoding stores equal cells once, so that they are counted before they are expanded.
            with pyarrow.parquet.ParquetFile(self._path, read_dictionary=texts) as file:
                _check_expanded(self._path, _stated_bytes(file, columns), limit)
                number = expanded = 0
                for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                    lists = [_cells(self._path, batch.column(name)) for name in columns]
                    for cells in zip(*lists, strict=True):
                        number += 1
                        expanded += ROW_BYTES + sum(len(cell) for cell in cells if cell is not None)
                        _check_expanded(self._path, expanded, limit)
                        yield f"row {number}", cells
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DatasetError:
        return DatasetError(f"Not a Parquet table: {self._path} ({describe_error(error)}). Save it as one.")

    def _is_text(self, name: str) -> bool:
        """Return whether a column holds text; numbers are accepted as well, other types are not."""
        from pyarrow import types

        kind = self._schema.field(name).type
        value = kind.value_type if types.is_dictionary(kind) else kind
        if _is_string(value):
            return True
        if types.is_integer(value) or types.is_null(value) or types.is_boolean(value) or types.is_floating(value):
            return False
        if types.is_struct(value) or types.is_binary(value) or types.is_large_binary(value):
            raise DatasetError(
                f"{self._path} holds the images themselves (column {name[:80]}: {str(kind)[:80]}). Write them to files "
                f"first, with: belvedere fetch {self._path} --out FOLDER"
            )
        raise DatasetError(f"Column {name[:80]} is not text in {self._path}: {str(kind)[:80]}. Save it as text.")


def _is_string(kind: "pyarrow.DataType") -> bool:
    return str(kind) in ("string", "large_string", "string_view")  # not every PyArrow has the function for the last


def _stated_bytes(file: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> int:
    """Return the unpacked size of columns that the file states."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    sizes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return int(sizes + ROW_BYTES * file.metadata.num_rows)


def _cells(path: Path, column: "pyarrow.Array") -> list[str | None]:
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        if _is_string(column.type.value_type):
            longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
            if longest > MAX_CELL_BYTES:
                raise DatasetError(f"Cell too long in {path}: {longest:,} bytes. Give at most {MAX_CELL_BYTES:,}.")
        column = column.dictionary_decode()
    return [cell_text(value) for value in column.to_pylist()]


def _check_expanded(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise DatasetError(
            f"{path} unpacks to more than {limit:,} bytes, far more than its size. Save its columns as CSV."
        )


def _is_formula(value: object) -> bool:
    is_array = type(value).__module__.startswith("openpyxl")  # a formula for several cells is an object
    return is_array or (isinstance(value, str) and value.startswith("="))


class ExcelTable:
    """The first visible sheet of an Excel workbook."""

    is_delimited = False

    def __init__(self, path: Path) -> None:
        self.title, self._path = str(path), path
        self.guesses: list[str] = []
        self._place = ""  # of a row, if there are several sheets
        try:
            with zipfile.ZipFile(path) as archive:
                _check_expanded(path, sum(each.file_size for each in archive.infolist()), MAX_WORKBOOK_BYTES)
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f"Not an Excel workbook: {path} ({describe_error(error)}). Save it as CSV.") from error
        values = next((values for _, values in self._read() if any(map(cell_text, values))), ())
        self.columns = [cell_text(value) or "" for value in values]
        while self.columns and not self.columns[-1]:
            self.columns.pop()
        if len(self.columns) > MAX_WORKBOOK_COLUMNS:
            raise DatasetError(f"More than {MAX_WORKBOOK_COLUMNS:,} columns in {path}. Save it as CSV.")

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row, and its cells of these columns.

        Raises:
            DatasetError: A cell has a formula, and the workbook does not hold its value.
        """
        formulas: frozenset[tuple[int, int]] | None = None
        is_header = True
        for number, values in self._read(len(self.columns)):
            if is_header:
                is_header = not any(map(cell_text, values))
                continue
            chosen = [values[index] if index < len(values) else None for index in indices]
            if None in chosen:
                formulas = self._find_formulas(indices) if formulas is None else formulas
            for index, value in zip(indices, chosen, strict=True):
                if value is None and formulas and (number, index) in formulas:
                    raise DatasetError(
                        f"{self._path}, {self._place}row {number}: the cell {self.columns[index][:80]} has a formula "
                        "without its value. Open the workbook in Excel or LibreOffice and save it, or save it as CSV."
                    )
                if isinstance(value, datetime) and not any(each.startswith("dates") for each in self.guesses):
                    self.guesses.append(f"dates written as {cell_text(value)}")
            yield f"{self._place}row {number}", [cell_text(value) for value in chosen]

    def _find_formulas(self, indices: Sequence[int]) -> frozenset[tuple[int, int]]:
        """Return row and column of each formula in these columns."""
        rows = self._read(len(self.columns), formulas=True)
        return frozenset(
            (number, index)
            for number, values in rows
            for index in indices
            if index < len(values) and _is_formula(values[index])
        )

    def _read(self, width: int | None = None, *, formulas: bool = False) -> Iterator[tuple[int, tuple[object, ...]]]:
        """Yield the number and the values of each row, header included; a workbook's stated size is not trusted."""
        try:
            import openpyxl
        except ModuleNotFoundError as error:
            raise MissingDependencyError("An Excel table", "openpyxl", "excel") from error
        try:
            with closing(openpyxl.load_workbook(self._path, read_only=True, data_only=not formulas)) as workbook:
                sheets = workbook.worksheets
                sheet = next((each for each in sheets if each.sheet_state == "visible"), sheets[0])
                self._name_sheets(sheet.title, [each.title for each in sheets if each is not sheet])
                sheet.reset_dimensions()
                for number, values in enumerate(sheet.iter_rows(max_col=width, values_only=True), 1):
                    if number > MAX_WORKBOOK_ROWS:
                        raise DatasetError(f"More than {MAX_WORKBOOK_ROWS:,} rows in {self._path}. Save it as CSV.")
                    yield number, values
        except DatasetError:
            raise
        except Exception as error:
            raise DatasetError(
                f"Not an Excel workbook: {self._path} ({describe_error(error)}). Save it as CSV."
            ) from error

    def _name_sheets(self, sheet: str, others: Sequence[str]) -> None:
        if others and not self._place:
            more = f" and {len(others) - MAX_SHEETS} more" if len(others) > MAX_SHEETS else ""
            unread = f"not {', '.join(others[:MAX_SHEETS])}{more}"
            self.title = f"the first sheet, {sheet} ({unread}), of {self._path}"
            self.guesses, self._place = [f"the first sheet, {sheet} ({unread})"], f"sheet {sheet}, "
