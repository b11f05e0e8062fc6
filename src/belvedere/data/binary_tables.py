"""Reads tables in binary files, Parquet and Excel; rejects small files that unpack to far more than their size."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
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
ROW_BYTES = 128  # counted per row beside its cells
BATCH_ROWS = 1024
MAX_CELL_BYTES = 1 << 16

Cells = Sequence[str | None]


class ParquetTable:
    """A Parquet file; only columns that are asked for are unpacked."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError as error:
            raise MissingDependencyError("A Parquet table", "pyarrow", "parquet") from error
        self._path = path
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
        if types.is_string(value) or types.is_large_string(value):
            return True
        if types.is_integer(value) or types.is_null(value) or types.is_boolean(value) or types.is_floating(value):
            return False
        if types.is_struct(value) or types.is_binary(value) or types.is_large_binary(value):
            raise DatasetError(
                f"{self._path} holds the images themselves (column {name[:80]}: {str(kind)[:80]}). Write them to files "
                "first: docs/datasets.md has a script."
            )
        raise DatasetError(f"Column {name[:80]} is not text in {self._path}: {str(kind)[:80]}. Save it as text.")


def _stated_bytes(file: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> int:
    """Return the unpacked size of columns that the file states."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    sizes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return int(sizes + ROW_BYTES * file.metadata.num_rows)


def _cells(path: Path, column: "pyarrow.Array") -> list[str | None]:
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        if types.is_string(column.type.value_type) or types.is_large_string(column.type.value_type):
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


class ExcelTable:
    """The first sheet of an Excel workbook."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.guesses: list[str] = []
        try:
            with zipfile.ZipFile(path) as archive:
                _check_expanded(path, sum(each.file_size for each in archive.infolist()), MAX_WORKBOOK_BYTES)
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f"Not an Excel workbook: {path} ({describe_error(error)}). Save it as CSV.") from error
        header = next(self._read(None), (0, ()))[1]
        self.columns = [each or "" for each in header]
        while self.columns and not self.columns[-1]:
            self.columns.pop()
        if len(self.columns) > MAX_WORKBOOK_COLUMNS:
            raise DatasetError(f"More than {MAX_WORKBOOK_COLUMNS:,} columns in {path}. Save it as CSV.")

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row that is not empty, and its cells of these columns."""
        rows = self._read(len(self.columns))
        next(rows, None)
        for number, cells in rows:
            yield f"row {number}", [cells[index] if index < len(cells) else None for index in indices]

    def _read(self, width: int | None) -> Iterator[tuple[int, Cells]]:
        """Yield the rows that are not empty, header included, as texts; a workbook's stated size is not trusted."""
        try:
            import openpyxl
        except ModuleNotFoundError as error:
            raise MissingDependencyError("An Excel table", "openpyxl", "excel") from error
        try:
            with closing(openpyxl.load_workbook(self._path, read_only=True, data_only=True)) as workbook:
                sheet = workbook.worksheets[0]
                if len(workbook.worksheets) > 1:
                    self.guesses = [f"sheet {sheet.title}"]
                sheet.reset_dimensions()
                for number, values in enumerate(sheet.iter_rows(max_col=width, values_only=True), 1):
                    if number > MAX_WORKBOOK_ROWS:
                        raise DatasetError(f"More than {MAX_WORKBOOK_ROWS:,} rows in {self._path}. Save it as CSV.")
                    cells = [cell_text(value) for value in values]
                    if any(cells):
                        yield number, cells
        except DatasetError:
            raise
        except Exception as error:
            raise DatasetError(
                f"Not an Excel workbook: {self._path} ({describe_error(error)}). Save it as CSV."
            ) from error
