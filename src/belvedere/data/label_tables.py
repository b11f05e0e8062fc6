"""Reads tables of images and labels, CSV or Parquet; rejects small files that unpack to far more than their size."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from belvedere.errors import DatasetError, MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    import pyarrow

REQUIRED, OPTIONAL, GROUP = ("image", "label"), ("split",), "group"
MAX_SHOWN_COLUMNS = 20  # in a message
# Parquet packs equal values: a million names in a row take half a megabyte. The larger of both limits applies.
MAX_EXPANDED_BYTES, MAX_EXPANSION = 256_000_000, 20
ROW_BYTES = 128  # counted per row beside its cells
BATCH_ROWS = 1024
MAX_CELL_BYTES = 1 << 16

Row = Mapping[str, str | None]


def read_rows(path: Path, group_column: str | None = None) -> Iterator[tuple[str, Row]]:
    """Read a table row by row.

    Args:
        path: Parquet file (by its suffix) or CSV file.
        group_column: Column that is needed besides; default: `group`, if there is one.

    Yields:
        The position of the row, such as "line 2", and its cells image, label and, if present, split and group column.

    Raises:
        DatasetError: The table is damaged, lacks a column, or unpacks to far more than its size.
        MissingDependencyError: The table is a Parquet file and pyarrow is not installed.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    yield from _parquet_rows(path, group_column) if is_parquet else _csv_rows(path, group_column)


def _csv_rows(path: Path, group_column: str | None) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # otherwise an unclosed quote would swallow all further rows
            header = next(reader, [])
            columns = [(name, header.index(name)) for name in _choose_columns(path, header, group_column)]
            for cells in filter(None, reader):
                if any(cells[len(header) :]):
                    raise DatasetError(
                        f"More cells than columns: {path}, line {reader.line_num}. Quote cells that contain commas."
                    )
                row = {name: cells[index] if index < len(cells) else None for name, index in columns}
                yield f"line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"Not a CSV table in UTF-8: {path} ({error}). Save it as one.") from error


def _parquet_rows(path: Path, group_column: str | None) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingDependencyError("A Parquet table", "pyarrow", "parquet") from error
    try:
        schema = pyarrow.parquet.read_schema(path)
        columns = _choose_columns(path, schema.names, group_column)
        texts = [name for name in columns if _is_text(path, schema.field(name))]
        limit = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
        # Dictionary encoding stores equal cells once, so that they are counted before they are expanded.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            _check_expanded(path, _stated_bytes(file, columns), limit)
            number = expanded = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                lists = [_cells(path, batch.column(name)) for name in columns]
                for cells in zip(*lists, strict=True):
                    number += 1
                    expanded += ROW_BYTES + sum(len(cell) for cell in cells if cell is not None)
                    _check_expanded(path, expanded, limit)
                    yield f"row {number}", dict(zip(columns, cells, strict=True))
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DatasetError(f"Not a Parquet table: {path} ({error}). Save it as one.") from error


def _choose_columns(path: Path, columns: Sequence[str], group_column: str | None) -> list[str]:
    if group_column is not None and columns.count(group_column) != 1:
        raise UnknownNameError(f"column of {path}", group_column, columns[:MAX_SHOWN_COLUMNS])
    if any(columns.count(name) != 1 for name in REQUIRED) or any(columns.count(name) > 1 for name in OPTIONAL):
        hidden = len(columns) - MAX_SHOWN_COLUMNS
        received = ", ".join(name[:80] for name in columns[:MAX_SHOWN_COLUMNS]) or "no columns"
        raise DatasetError(
            f"Wrong columns in {path}: {received}{f' and {hidden:,} more' if hidden > 0 else ''}. "
            "Expected image and label and, optionally, split, each once."
        )
    return [name for name in (*REQUIRED, *OPTIONAL, group_column or GROUP) if name in columns]


def _is_text(path: Path, field: "pyarrow.Field") -> bool:
    """Return whether a column holds text; integers are accepted as well, other types are not."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_null(kind)):
        raise DatasetError(f"Column {field.name} is not text in {path}: {str(field.type)[:80]}. Save it as text.")
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _stated_bytes(file: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> int:
    """Return the unpacked size of columns that the file states."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(group.num_columns))
    sizes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return int(sizes + ROW_BYTES * file.metadata.num_rows)


def _cells(path: Path, column: "pyarrow.Array") -> list[str | None]:
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        if not types.is_integer(column.type.value_type):
            longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
            if longest > MAX_CELL_BYTES:
                raise DatasetError(f"Cell too long in {path}: {longest:,} bytes. Give at most {MAX_CELL_BYTES:,}.")
        column = column.dictionary_decode()
    return [None if value is None else str(value) for value in column.to_pylist()]


def _check_expanded(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise DatasetError(
            f"{path} unpacks to more than {limit:,} bytes, far more than its size. Save its columns as CSV."
        )
