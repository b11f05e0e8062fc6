"""Answers as Parquet: columns with types, for tools that work on millions of rows.

Knows the columns and how parts become one file; does not know where the answers come from.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from belvedere.errors import MissingDependencyError
from belvedere.inference.writers.text import FIRST_COLUMNS, class_columns
from belvedere.runtime.files import write_bytes
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction, ResumedRow

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingDependencyError("Parquet", "pyarrow", "parquet") from error

PART_ROWS = 4096  # kept in memory until they are written as a part: as many at most are worked out anew after a kill


def schema_of(class_names: Sequence[str], model: ModelId) -> pa.Schema:
    """Return the columns: those of the CSV, with tags, sets and notes as lists; the metadata name the model."""
    tag = pa.struct([("name", pa.string()), ("share", pa.float64()), ("confidence", pa.float64())])
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
            ("notes", pa.list_(pa.string())),
            ("error", pa.string()),
        ],
        {"belvedere.model.name": _writable(model.name), "belvedere.model.sha256": model.sha256},
    )


def is_answers(path: Path) -> bool:
    """Say whether a file has the columns of `schema_of`, whatever the classes are."""
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return False
    first: list[str] = list(FIRST_COLUMNS)
    last: list[str] = schema_of((), ModelId("", "")).names[len(first) :]
    return names[: len(first)] == first and names[-len(last) :] == last


def to_table(answers: Sequence[Prediction], class_names: Sequence[str], model: ModelId) -> pa.Table:
    """Puts answers into columns; what isn't known is null."""
    read = [answer.error is None for answer in answers]
    classes: list[list[object]] = [
        [answer.probabilities[k] if there else None for answer, there in zip(answers, read, strict=True)]
        for k in range(len(class_names))
    ]
    columns: list[list[object]] = [
        [_writable(answer.image) for answer in answers],
        [answer.answer for answer in answers],
        [answer.predicted_label for answer in answers],
        [answer.confidence for answer in answers],
        *classes,
        [[asdict(tag) for tag in answer.tags] for answer in answers],
        [list(answer.prediction_set) for answer in answers],
        [answer.none_of_these for answer in answers],
        [answer.none_of_these_score for answer in answers],
        [list(answer.notes) for answer in answers],
        [answer.error if answer.error is None else _writable(answer.error) for answer in answers],
    ]
    schema = schema_of(class_names, model)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


class ParquetRows:
    """Rows in parts, each written at once; one file of all of them in the end."""

    def __init__(self, folder: Path, class_names: Sequence[str], model: ModelId) -> None:
        self._folder, self._class_names, self._model = folder, class_names, model
        self._waiting: list[Prediction] = []
        self._number = len(self._parts())

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))

    def read(self) -> Iterator[ResumedRow]:
        """As `Rows`."""
        for part in self._parts():
            table = pq.read_table(part, columns=["image", "error"])
            for row in table.to_pylist():
                yield ResumedRow(row["image"], row["error"] is not None)

    def write(self, answer: Prediction) -> None:
        """As `Rows`."""
        self._waiting.append(answer)
        if len(self._waiting) == PART_ROWS:
            self._write_part()

    def _write_part(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(to_table(self._waiting, self._class_names, self._model), sink)
        write_bytes(self._folder / f"part-{self._number:08}.parquet", sink.getvalue().to_pybytes())
        self._number += 1
        self._waiting.clear()

    def finish(self) -> Path:
        """As `Rows`."""
        self.leave()
        whole = self._folder / "rows.parquet"
        with whole.open("wb") as file:
            with pq.ParquetWriter(file, schema_of(self._class_names, self._model)) as writer:
                for part in self._parts():
                    writer.write_table(pq.read_table(part))
            file.flush()
            os.fsync(file.fileno())  # the parts are deleted behind it
        return whole

    def leave(self) -> None:
        """As `Rows`."""
        if self._waiting:
            self._write_part()


def _writable(text: str) -> str:
    """Bytes of a name that are not UTF-8 as escapes, as in the other forms."""
    return text.encode(errors="backslashreplace").decode()
