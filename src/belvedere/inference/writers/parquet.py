"""Predictions as Parquet: typed columns for millions of rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from belvedere.errors import MissingDependencyError
from belvedere.inference.writers.text import FIRST_COLUMNS, class_columns
from belvedere.runtime.files import write_bytes
from belvedere.runtime.terminal import escape_surrogates
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction, ResumedRow

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingDependencyError("Parquet", "pyarrow", "parquet") from error

ROWS_PER_PART = 4096  # in memory until a part is written: at most as many are computed again after a kill


def schema_of(class_names: Sequence[str], model: ModelId) -> pa.Schema:
    """Return the columns of the CSV, with lists of tags, prediction set and warnings; the metadata name the model."""
    tag = pa.struct([("name", pa.string()), ("area_fraction", pa.float64()), ("confidence", pa.float64())])
    return pa.schema(
        [
            ("image", pa.string()),
            ("answer", pa.string()),
            ("predicted_label", pa.string()),
            ("confidence", pa.float32()),
            *((column, pa.float32()) for column in class_columns(class_names)),
            ("tags", pa.list_(tag)),
            ("prediction_set", pa.list_(pa.string())),
            ("none_of_these", pa.bool_()),
            ("none_of_these_score", pa.float64()),
            ("warnings", pa.list_(pa.string())),
            ("error", pa.string()),
        ],
        {"belvedere.model.name": escape_surrogates(model.name), "belvedere.model.sha256": model.sha256},
    )


def has_columns(path: Path) -> bool:
    """Return whether a file has the columns of `schema_of` for any classes."""
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return False
    first: list[str] = list(FIRST_COLUMNS)
    last: list[str] = schema_of((), ModelId("", "")).names[len(first) :]
    return names[: len(first)] == first and names[-len(last) :] == last


def to_table(predictions: Sequence[Prediction], class_names: Sequence[str], model: ModelId) -> pa.Table:
    """Return predictions as a table; unknown values are null."""
    rows: list[list[object]] = [
        [
            escape_surrogates(each.image),
            each.answer,
            each.predicted_label,
            each.confidence,
            *(each.probability_values or [None] * len(class_names)),
            [asdict(tag) for tag in each.tags],
            list(each.prediction_set),
            each.none_of_these,
            each.none_of_these_score,
            list(each.warnings),
            None if each.error is None else escape_surrogates(each.error),
        ]
        for each in predictions
    ]
    schema = schema_of(class_names, model)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


class ResumableParquet:
    """Rows in parts, each written atomically, and joined into one file at the end."""

    def __init__(self, folder: Path, class_names: Sequence[str], model: ModelId) -> None:
        self._folder, self._class_names, self._model = folder, class_names, model
        self._waiting: list[Prediction] = []
        self._number = len(self._parts())

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def read(self) -> Iterator[ResumedRow]:
        """Yield the rows of all parts."""
        for part in self._parts():
            table = pq.read_table(part, columns=["image", "error"])
            for row in table.to_pylist():
                yield ResumedRow(row["image"], row["error"] is not None)

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        self._waiting.append(prediction)
        if len(self._waiting) == ROWS_PER_PART:
            self._write_part()

    def suspend(self) -> None:
        """Write the rows in memory as a part."""
        if self._waiting:
            self._write_part()

    def _write_part(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(to_table(self._waiting, self._class_names, self._model), sink)
        write_bytes(self._folder / f"part-{self._number:08}.parquet", sink.getvalue().to_pybytes())
        self._number += 1
        self._waiting.clear()

    def finish(self) -> Path:
        """Join the parts and return the file."""
        self.suspend()
        file_path = self._folder / "rows.parquet"
        with file_path.open("wb") as file:
            with pq.ParquetWriter(file, schema_of(self._class_names, self._model)) as writer:
                for part in self._parts():
                    writer.write_table(pq.read_table(part))
            file.flush()
            os.fsync(file.fileno())  # before the parts are deleted
        return file_path
