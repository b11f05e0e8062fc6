"""Predictions as CSV, JSON lines and JSON, to a file or stdout."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TextIO

from belvedere.errors import BelvedereError, UsageError
from belvedere.runtime.files import always, atomic_text_writer
from belvedere.runtime.registry import Registry
from belvedere.runtime.serialization import CsvRows, dump_json
from belvedere.runtime.terminal import PrintableText
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction

FIRST_COLUMNS = ("image", "answer", "predicted_label", "confidence")
LAST_COLUMNS = ("tags", "prediction_set", "none_of_these", "none_of_these_score", "error")
CLASS_PREFIX = "prob_"  # of the column of a class's probability


def class_columns(class_names: Sequence[str]) -> list[str]:
    """Return the names of the columns of the class probabilities."""
    return [f"{CLASS_PREFIX}{name}" for name in class_names]


class Writer(Protocol):
    """Writes predictions in one format."""

    def write(self, prediction: Prediction) -> None:
        """Write one prediction."""

    def close(self, error: str | None = None) -> None:  # noqa: ARG002 - most formats have no end
        """Write the end of the output; `error` is why there are no more predictions."""
        return


class CsvWriter(Writer):
    """Write one row an image: image, label?, answer, predicted_label, confidence, prob_*, ..., error, model?.

    Args:
        file: Text file without newline translation.
        class_names: K names.
        model: If given, the last column holds its short hash.
        labels: Whether there is a column for the true label.
        header: Whether to write the header.
        spreadsheet: Whether to escape cells that spreadsheets take for formulas.
    """

    def __init__(
        self,
        file: TextIO,
        class_names: Sequence[str],
        model: ModelId | None = None,
        *,
        labels: bool = False,
        header: bool = True,
        spreadsheet: bool = False,
    ) -> None:
        self._rows = CsvRows(file, spreadsheet=spreadsheet)
        self._num_classes = len(class_names)
        self._labels = labels
        self._model = [model.short] if model else []
        if header:
            image, *first = FIRST_COLUMNS
            last = [*LAST_COLUMNS, *["model"] * len(self._model)]
            self._rows.write([image, *["label"] * labels, *first, *class_columns(class_names), *last])

    def write(self, prediction: Prediction) -> None:
        """Write one row; for an unreadable image all cells but image, label and error are empty."""
        score, none = prediction.none_of_these_score, prediction.none_of_these
        cells: list[object] = [prediction.image, *[prediction.label] * self._labels]
        cells += [prediction.answer, prediction.predicted_label]
        if prediction.error is None:
            cells += [_six(prediction.confidence or 0.0), *map(_six, prediction.probability_values)]
        else:
            cells += [None] * (1 + self._num_classes)
        cells += ["|".join(f"{tag.name}:{tag.area_fraction:.2f}" for tag in prediction.tags)]
        cells += ["|".join(prediction.prediction_set)]
        cells += [None if none is None else str(none).lower(), None if score is None else _six(score)]
        self._rows.write([*cells, prediction.error, *self._model])


class JsonLinesWriter(Writer):
    """Write one JSON object a line and image."""

    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:  # noqa: ARG002
        self._file = file
        self._model = model.short

    def write(self, prediction: Prediction) -> None:
        """Write one line."""
        row = prediction.to_dict() | {"model": self._model}
        self._file.write(_json_text(row) + "\n")


class JsonWriter(Writer):
    """Write one JSON document: the model, the class names, and a list of predictions."""

    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:
        self._file = file
        self._separator = "\n"
        head = _json_text({"model": asdict(model), "class_names": list(class_names)})
        file.write(f'{head.removesuffix("}")}, "predictions": [')

    def write(self, prediction: Prediction) -> None:
        """Write one element of the list."""
        self._file.write(self._separator + _json_text(prediction.to_dict()))
        self._separator = ",\n"

    def close(self, error: str | None = None) -> None:
        """End the document, with the key "error" if there is one."""
        end = "" if error is None else f', "error": {dump_json(error)}'
        self._file.write(f"\n]{end}}}\n")


WriterFactory = Callable[[Any, Sequence[str], ModelId], Writer]  # a text or binary file, class names, model


@dataclass(frozen=True, slots=True)
class WriterSpec:
    """A format of predictions."""

    create: WriterFactory | None  # None: files only, by `open_resumable`
    is_binary: bool = False


WRITERS: Registry[WriterSpec] = Registry("format", "writers")
WRITERS.add("csv", WriterSpec(CsvWriter))
WRITERS.add("jsonl", WriterSpec(JsonLinesWriter))
WRITERS.add("json", WriterSpec(JsonWriter))
WRITERS.add("parquet", WriterSpec(None, is_binary=True))


def _json_text(value: object) -> str:
    r"""Return JSON on one line, with ``\uXXXX`` for characters that a terminal may act on."""
    text = dump_json(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else dump_json(c)[1:-1] for c in text)


@contextmanager
def open_writer(
    format: str,
    out: Path | None,
    class_names: Sequence[str],
    model: ModelId,
    check: Callable[[], None] = always,
    *,
    spreadsheet: bool = False,
) -> Iterator[Writer]:
    """Open a writer to stdout, or to a file that appears when it is complete.

    Args:
        format: A key of `WRITERS`.
        out: The file; None for stdout.
        class_names: K names.
        model: The model that predicts.
        check: Called again before the file gets its name.
        spreadsheet: Whether to escape cells that spreadsheets take for formulas; for "csv" only.

    Yields:
        The writer.

    Raises:
        UnknownNameError: The format is unknown.
        UsageError: The file cannot be written.
    """
    spec = WRITERS.find(format)
    create = partial(CsvWriter, spreadsheet=True) if spreadsheet else spec.create
    if create is None:
        raise UsageError(f"{format.capitalize()} needs a file. Give the name of a new file as `out`.")
    with _stdout(format) if out is None else atomic_text_writer(out, check) as file:
        target: Any = file.buffer if spec.is_binary else file
        writer = create(target, class_names, model)
        try:
            yield writer
        except BelvedereError as error:
            writer.close(str(error))
            raise
        writer.close()


@contextmanager
def _stdout(format: str) -> Iterator[TextIO]:
    """Yield stdout so that any file name can be written: in UTF-8 for programs, escaped for a terminal."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        yield sys.stdout
        return
    sys.stdout.flush()
    encoding = sys.stdout.encoding if format == "table" else "utf-8"
    kind = PrintableText if format == "csv" and sys.stdout.isatty() else io.TextIOWrapper
    file = kind(binary, encoding=encoding, errors="backslashreplace", newline="")
    try:
        yield file
    finally:
        file.detach()
    sys.stdout.flush()


def write_predictions(
    path: Path, predictions: Iterable[Prediction], class_names: Sequence[str], *, spreadsheet: bool = False
) -> None:
    """Write predictions.csv with labels."""
    with atomic_text_writer(path) as file:
        writer = CsvWriter(file, class_names, labels=True, spreadsheet=spreadsheet)
        for prediction in predictions:
            writer.write(prediction)


def _six(value: float) -> str:
    return f"{value:.6f}"
