"""Tables of images and labels, CSV or Parquet, to rows; a small file that holds far more than its size is refused.

Knows columns and cells; does not know what a label means.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from belvedere.errors import DatasetError, MissingDependencyError

if TYPE_CHECKING:
    import pyarrow

REQUIRED, OPTIONAL = ("image", "label"), ("split",)
SHOWN_COLUMNS = 20  # in a message
# Parquet packs what is alike: a million names in a row take half a megabyte. A table may unpack to the first, or to so
# many times its size.
EXPANDED_BYTES, MAX_EXPANSION = 256_000_000, 20
ROW_BYTES = 128  # counted for a row beside its cells
BATCH_ROWS = 1024
MAX_CELL_BYTES = 1 << 16

Row = Mapping[str, str | None]


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Read a table row by row.

    Args:
        path: A Parquet file by its suffix, else CSV.

    Yields:
        Where the row is, such as "line 2", and its cells image, label and, where there is one, split.

    Raises:
        DatasetError: It is no such table, lacks a column, or holds far more than its size.
        MissingDependencyError: It is a Parquet table and pyarrow is not installed.
    """
    yield from _parquet_rows(path) if path.suffix.lower() in (".parquet", ".pq") else _csv_rows(path)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Strict: else a quote that is never closed would take all rows behind it for one cell.
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            columns = [(name, header.index(name)) for name in _choose_columns(path, header)]
            for cells in filter(None, reader):
                if any(cells[len(header) :]):
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: more cells than columns. Put a cell with a comma in quotes."
                    )
                row = {name: cells[place] if place < len(cells) else None for name, place in columns}
                yield f"line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV table in UTF-8: {error}. Save it as one.") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingDependencyError("A Parquet table", "pyarrow", "parquet") from error
    try:
        schema = pyarrow.parquet.read_schema(path)
        columns = _choose_columns(path, schema.names)
        texts = [name for name in columns if _is_text(path, schema.field(name))]
        limit = max(EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
        # Equal cells stay together in memory, too, until they have been counted.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            _check_expanded(path, _stated_bytes(file, columns), limit)
            number = spent = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                lists = [_cells(path, batch.column(name)) for name in columns]
                for cells in zip(*lists, strict=True):
                    number += 1
                    spent += ROW_BYTES + sum(len(cell) for cell in cells if cell is not None)
                    _check_expanded(path, spent, limit)
                    yield f"row {number}", dict(zip(columns, cells, strict=True))
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DatasetError(f"{path} is not a Parquet table: {error}. Save it as one.") from error


def _choose_columns(path: Path, columns: Sequence[str]) -> list[str]:
    if any(columns.count(name) != 1 for name in REQUIRED) or any(columns.count(name) > 1 for name in OPTIONAL):
        more = f" and {len(columns) - SHOWN_COLUMNS:,} more" if len(columns) > SHOWN_COLUMNS else ""
        received = ", ".join(name[:80] for name in columns[:SHOWN_COLUMNS]) or "no columns"
        raise DatasetError(
            f"{path} must have the columns image and label (and, if you like, split), each once. "
            f"Received: {received}{more}."
        )
    return [name for name in (*REQUIRED, *OPTIONAL) if name in columns]


def _is_text(path: Path, field: "pyarrow.Field") -> bool:
    """Whether a column is of text; numbers are taken too, and nothing else."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_null(kind)):
        raise DatasetError(f"{path}: the column {field.name} must hold text. Received: {str(field.type)[:80]}.")
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _stated_bytes(file: "pyarrow.parquet.ParquetFile", columns: Sequence[str]) -> int:
    """How large the columns are unpacked, by what the file says of itself."""
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    chunks = (group.column(place) for group in groups for place in range(group.num_columns))
    sizes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    return int(sizes + ROW_BYTES * file.metadata.num_rows)


def _cells(path: Path, column: "pyarrow.Array") -> list[str | None]:
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        if types.is_integer(column.type.value_type):
            return _cells(path, column.dictionary_decode())
        longest = compute.max(compute.binary_length(column.dictionary)).as_py() or 0
        if longest > MAX_CELL_BYTES:
            raise DatasetError(f"{path}: a cell of {longest:,} bytes, over the limit of {MAX_CELL_BYTES:,}.")
        column = column.dictionary_decode()
    return [None if value is None else str(value) for value in column.to_pylist()]


def _check_expanded(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise DatasetError(
            f"{path} unpacks to more than {limit:,} bytes, far more than its size. If it is meant so, save its columns "
            "image, label and split as CSV."
        )
