"""Answers as CSV, JSON lines and tables for a terminal.

Knows the columns and how much of them fits; does not know where the answers come from.
"""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from belvedere.errors import BelvedereError, find_named
from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.runtime.csv_files import CsvRows
from belvedere.runtime.files import always, atomic_text_writer
from belvedere.runtime.strict_json import dump_json
from belvedere.runtime.terminal import PrintableText, printable
from belvedere.types.data import NONE_OF_THESE, ModelId
from belvedere.types.evaluation import Evaluation
from belvedere.types.prediction import Prediction

if TYPE_CHECKING:  # rich is loaded by those who print a table: it takes longer than an answer
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FURTHER_COLUMNS = ("tags", "none_of_these", "none_of_these_score")  # empty where a model can't tell
FIRST_COLUMNS = ("image", "answer", "predicted_label", "confidence")
IMAGE_COLUMN_WIDTH = 16  # at least, where all classes are shown
NUMBER_WIDTH = 5  # "0.123"
ANSWER_WIDTH = 8  # at least: "not read", and "none of these" in two lines
NAME_WIDTH = 16  # a longer class name is folded
COLUMN_GAP = 2
TABLE_ROWS = 500  # printed at once
SUREST_SHARE = 0.8  # of the photographs, for which the accuracy is told
TOP = 3  # classes shown where the terminal is too narrow for all


def class_columns(class_names: Sequence[str]) -> list[str]:
    """Names a column for each class: one that is called as a column is gets a prefix, so that none stands twice."""
    taken = {*FIRST_COLUMNS, *FURTHER_COLUMNS, "error", "label", "prediction_set", "notes", "model"}
    named: list[str] = []
    for name in class_names:
        column = name
        while column in taken:
            column = f"class:{column}"
        taken.add(column)
        named.append(column)
    return named


class CsvWriter:
    """One row an image: image, label, answer, prediction, confidence, the classes, ..., error, model.

    There is a label where the images have one, and a model, the beginning of its hash, where that is given.
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
        self._classes = len(class_names)
        self._labels = labels
        self._model = [model.short] if model else []
        if header:
            image, *first = FIRST_COLUMNS
            label, last = ["label"] * labels, [*FURTHER_COLUMNS, "error", *["model"] * len(self._model)]
            self._rows.write([image, *label, *first, *class_columns(class_names), *last])

    def write(self, answer: Prediction) -> None:
        """Writes one answer; where there is none, all cells but image and error are empty."""
        cells: list[object] = [answer.image, *[answer.label] * self._labels, answer.answer, answer.predicted_label]
        if answer.error is None:
            cells += [_six(answer.confidence or 0.0), *map(_six, answer.probabilities)]
        else:
            cells += [None] * (1 + self._classes)
        self._rows.write([*cells, *_further_cells(answer), answer.error, *self._model])


def _further_cells(answer: Prediction) -> list[object]:
    """Tags as `sea:0.58|mountain:0.27`, a flag, and the score."""
    none = answer.none_of_these
    return [
        "|".join(f"{tag.name}:{tag.share:.2f}" for tag in answer.tags),
        None if none is None else str(none).lower(),
        None if answer.none_of_these_score is None else _six(answer.none_of_these_score),
    ]


class JsonLinesWriter:
    """One JSON object a line and picture."""

    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:
        self._file = file
        self._class_names = class_names
        self._model = model.short

    def write(self, answer: Prediction) -> None:
        """Writes one answer."""
        row = to_json(answer, self._class_names) | {"model": self._model}
        self._file.write(_json_text(row) + "\n")


class JsonWriter:
    """One JSON document: the model, the class names, and a list of the answers."""

    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:
        self._file = file
        self._class_names = class_names
        self._separator = "\n"
        head = _json_text({"model": asdict(model), "classes": list(class_names)})
        file.write(f'{head.removesuffix("}")}, "predictions": [')

    def write(self, answer: Prediction) -> None:
        """Writes one answer."""
        self._file.write(self._separator + _json_text(to_json(answer, self._class_names)))
        self._separator = ",\n"

    def close(self, error: str | None = None) -> None:
        """Ends the document; with `error`, which says why there are no more answers."""
        end = "" if error is None else f', "error": {dump_json(error)}'
        self._file.write(f"\n]{end}}}\n")


class TableWriter:
    """A table for a terminal, printed in pieces so that any number of answers fits in memory."""

    def __init__(self, file: TextIO, class_names: Sequence[str], model: ModelId) -> None:  # noqa: ARG002 - it is told
        from belvedere.runtime.console import PlainConsole

        self._console = PlainConsole(file=file)
        self._class_names = class_names
        self._answers: list[Prediction] = []

    def write(self, answer: Prediction) -> None:
        """Adds one answer."""
        self._answers.append(answer)
        if len(self._answers) == TABLE_ROWS:
            self.close()

    def close(self) -> None:
        """Prints what has not been printed yet."""
        if self._answers:
            show_predictions(self._console, self._answers, self._class_names)
            self._answers.clear()


Writer = CsvWriter | JsonLinesWriter | JsonWriter | TableWriter
FORMS: dict[str, Callable[[TextIO, Sequence[str], ModelId], Writer]] = {
    "table": TableWriter,
    "csv": CsvWriter,
    "jsonl": JsonLinesWriter,
    "json": JsonWriter,
}


def to_json(answer: Prediction, class_names: Sequence[str]) -> dict[str, object]:
    """Returns an answer as JSON holds it: what isn't known is null."""
    read = answer.error is None
    return {
        "image": answer.image,
        "answer": answer.answer,
        "predicted_label": answer.predicted_label,
        "confidence": answer.confidence,
        "probabilities": dict(zip(class_names, answer.probabilities, strict=True)) if read else None,
        "tags": [asdict(tag) for tag in answer.tags],
        "tag_probabilities": dict(zip(class_names, answer.tag_probabilities, strict=True))
        if answer.tag_probabilities
        else None,
        "prediction_set": list(answer.prediction_set),
        "none_of_these": answer.none_of_these,
        "none_of_these_score": answer.none_of_these_score,
        "notes": list(answer.notes),
        "error": answer.error,
    }


def _json_text(value: object) -> str:
    r"""Write JSON on one line; what a terminal may act on stands in it as ``\uXXXX``, which programs read as it was."""
    text = dump_json(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else dump_json(c)[1:-1] for c in text)


@contextmanager
def open_writer(
    form: str,
    out: Path | None,
    class_names: Sequence[str],
    model: ModelId,
    check: Callable[[], None] = always,
    *,
    spreadsheet: bool = False,
) -> Iterator[Writer]:
    """Opens what writes answers in one form: to a file, that appears when it is whole, or to stdout.

    Args:
        form: One of `FORMS`.
        out: The file; None for stdout.
        class_names: The K classes.
        model: Which one predicts.
        check: Is asked once more before the file takes its place.
        spreadsheet: Whether what a spreadsheet would take for a formula is escaped; for "csv" only.

    Yields:
        The writer.

    Raises:
        UnknownNameError: There is no such form.
        UsageError: The file can't be written.
    """
    create = find_named("form of answers", form, FORMS)
    with _stdout(form) if out is None else atomic_text_writer(out, check) as file:
        writer = (
            CsvWriter(file, class_names, model, spreadsheet=True) if spreadsheet else create(file, class_names, model)
        )
        try:
            yield writer
        except BelvedereError as error:
            if isinstance(writer, JsonWriter):
                writer.close(str(error))  # what was printed is a whole document, of what was answered
            raise
        if isinstance(writer, JsonWriter | TableWriter):
            writer.close()


@contextmanager
def _stdout(form: str) -> Iterator[TextIO]:
    """Stdout that takes any name of a file: UTF-8 for programs, escapes for what can't be written."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        yield sys.stdout
        return
    sys.stdout.flush()
    encoding = sys.stdout.encoding if form == "table" else "utf-8"
    kind = PrintableText if form == "csv" and sys.stdout.isatty() else io.TextIOWrapper
    file = kind(binary, encoding=encoding, errors="backslashreplace", newline="")
    try:
        yield file
    finally:
        file.detach()
    sys.stdout.flush()


def write_predictions(
    path: Path, predictions: Iterable[Prediction], class_names: Sequence[str], *, spreadsheet: bool = False
) -> None:
    """Writes predictions.csv, with the given labels."""
    with atomic_text_writer(path) as file:
        writer = CsvWriter(file, class_names, labels=True, spreadsheet=spreadsheet)
        for answer in predictions:
            writer.write(answer)


def show_predictions(console: "Console", predictions: Iterable[Prediction], class_names: Sequence[str]) -> None:
    """Prints answers and class probabilities with three decimals; those of the likeliest few if not all fit."""
    from rich.cells import cell_len

    names = [cell_len(printable(name)) for name in class_names]
    answer_width = min(max([ANSWER_WIDTH, *names]), NAME_WIDTH)
    widths = [min(max(NUMBER_WIDTH, length), NAME_WIDTH) for length in names]
    needed = IMAGE_COLUMN_WIDTH + sum(COLUMN_GAP + width for width in (answer_width, *widths))
    fits = needed <= console.width
    if fits:  # "none of these" in one line where there is room
        answer_width = max(answer_width, min(cell_len(NONE_OF_THESE), answer_width + console.width - needed))
    table = plain_table()
    table.add_column("image", overflow="fold", min_width=12)
    table.add_column("answer", overflow="fold", width=answer_width)
    if fits:
        for name, width in zip(class_names, widths, strict=True):
            table.add_column(plain_text(name), justify="right", overflow="fold", width=width)
    else:
        for place in range(min(TOP, len(class_names))):
            table.add_column(f"{place + 1}.", overflow="fold", min_width=ANSWER_WIDTH)
    notes = []
    for answer in predictions:
        if answer.error is not None:
            notes.append(f"{answer.image}: not read: {answer.error}")
            table.add_row(plain_text(answer.image), plain_text("not read", style="red"))
            continue
        notes += [f"{answer.image}: {note}" for note in (*describe_extras(answer), *answer.notes)]
        cells = _all_classes(answer, class_names) if fits else _likeliest(answer, class_names)
        style = "bold yellow" if answer.none_of_these else "bold green"
        table.add_row(plain_text(answer.image), plain_text(str(answer.answer), style), *cells)
    console.print(table)
    for note in notes:
        console.print(plain_text(note), style="dim")


def describe_extras(answer: Prediction) -> list[str]:
    """Says in lines what the probabilities don't: none of these, what else is in it, the prediction set."""
    if answer.none_of_these:
        strange = f"more unusual than {answer.none_of_these_score or 0:.0%} of the training images"
        return [f"{NONE_OF_THESE}: {strange}; most probable: {answer.predicted_label}"]
    lines = []
    if len(answer.tags) > 1:
        lines.append("also contains: " + ", ".join(f"{tag.name} {tag.share:.0%}" for tag in answer.tags))
    if len(answer.prediction_set) > 1:
        lines.append(f"prediction set ({COVERAGE:.0%}): " + ", ".join(answer.prediction_set))
    return lines


def show_evaluation(console: "Console", evaluation: Evaluation) -> None:
    """Prints figures of merit: the verdict, then a row a class, then the most confused pairs."""
    right = round(evaluation.accuracy * evaluation.images)
    console.print(f"accuracy {evaluation.accuracy:.4f} ({right:,} of {evaluation.images:,} right)")
    console.print(
        f"macro F1 {evaluation.macro_f1:.4f}   log loss {evaluation.log_loss:.4f}   "
        f"calibration error {evaluation.ece:.4f}",
        highlight=False,
    )
    if evaluation.unreadable:
        console.print(f"{evaluation.unreadable} could not be read and are not counted.", style="red")
    table = plain_table()
    table.add_column("class", overflow="fold")
    for title in ("precision", "recall", "F1", "images"):
        table.add_column(title, justify="right")
    for row in evaluation.per_class:
        shares = [f"{value:.3f}" if value is not None else "-" for value in (row.precision, row.recall, row.f1)]
        table.add_row(plain_text(row.name), *shares, f"{row.images:,}")
    console.print(table)
    for line in _describe_trust(evaluation):
        console.print(line)
    for pair in evaluation.confused_pairs[:5]:
        console.print(plain_text(f"{pair.label} predicted as {pair.predicted_label}: {pair.images} ({pair.share:.1%})"))


def _describe_trust(evaluation: Evaluation) -> list[str]:
    """Lines on abstaining, sets, tags and none of these; what was not measured is left out."""
    lines = [
        f"right on {point.accuracy:.1%} of the {point.share:.0%} it is surest of"
        for point in evaluation.abstaining
        if point.share == SUREST_SHARE
    ]
    if (sets := evaluation.sets) is not None:
        lines.append(f"label in the prediction set: {sets.coverage:.1%} (mean size {sets.mean_size:.2f})")
    if evaluation.none_of_these:
        lines.append(
            f"none of these: the answer to {evaluation.none_of_these:,}, which count as their likeliest class here"
        )
    if (tags := evaluation.tags) is not None:
        figures = {"micro F1": tags.micro_f1, "mean average precision": tags.mean_average_precision}
        told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
        lines.append(f"tags: {told}")
    if (outliers := evaluation.outliers) is not None:
        lines.append(
            f"none of these: AUROC {outliers.auroc:.3f}, {outliers.accepted:.1%} accepted at 95% kept "
            f"(by largest probability {outliers.baseline_auroc:.3f}, {outliers.baseline_accepted:.1%})"
        )
    return lines


def _six(value: float) -> str:
    return f"{value:.6f}"


def plain_table() -> "Table":
    """Makes a table without lines around it."""
    from rich.table import Table

    return Table(box=None, pad_edge=False)


def plain_text(text: str, style: str = "") -> "Text":
    """Makes a text of a table's cell: on one line, with escapes instead of what a terminal may act on."""
    from rich.text import Text

    return Text(printable(text), style=style)


def _all_classes(answer: Prediction, class_names: Sequence[str]) -> "list[Text]":
    return [
        plain_text(f"{value:.3f}", style=_style(answer, name))
        for name, value in zip(class_names, answer.probabilities, strict=True)
    ]


def _likeliest(answer: Prediction, class_names: Sequence[str]) -> "list[Text]":
    ranked = sorted(zip(answer.probabilities, class_names, strict=True), key=lambda pair: -pair[0])[:TOP]
    # The number first: a name that must be folded never takes it apart.
    return [plain_text(f"{value:.3f} {name}", style=_style(answer, name)) for value, name in ranked]


def _style(answer: Prediction, name: str) -> str:
    """How a class's probability is shown: that of the answer stands out, and all are dim beside "none of these"."""
    if answer.none_of_these:
        return "dim"
    return "bold green" if name == answer.predicted_label else ""
