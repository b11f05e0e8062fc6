"""Answers as CSV, JSON lines and tables for a terminal.

Knows the columns and how much of them fits; does not know where the answers come from.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from belvedere.errors import find_named
from belvedere.records import CuratedBackbone, Evaluation, Layer, ModelCard, Prediction, StoreFigures
from belvedere.storage import replace_when_whole

# Empty where the model does not say them: this version's models know neither tags nor "none of these".
ANSWERS_TO_COME = ("tags", "none_of_these", "none_score")
IMAGE_COLUMN_WIDTH = 18  # at least, where all classes are shown
NUMBER_WIDTH = 8  # "0.123 *" and "not read"
NAME_WIDTH = 16  # a longer class name is folded
COLUMN_GAP = 2
TABLE_ROWS = 500  # printed at once
TOP = 3  # classes shown where the terminal is too narrow for all


class CsvWriter:
    """One row a picture: image, prediction, confidence, a column a class, tags, none-of-these, error, label."""

    def __init__(self, file: TextIO, class_names: Sequence[str], *, labels: bool = False) -> None:
        self._file, self._line = file, io.StringIO()
        self._csv = csv.writer(self._line, lineterminator="\r\n")  # else Python leaves a \r in a cell unquoted
        self._classes = len(class_names)
        self._labels = labels
        fixed = ("image", "prediction", "confidence")
        last = (*ANSWERS_TO_COME, "error", *(("label",) if labels else ()))
        taken = {*fixed, *last, "label"}
        named: list[str] = []
        for name in class_names:
            column = name
            while column in taken:  # called as a column is: a prefix, so that no column stands twice
                column = f"class:{column}"
            taken.add(column)
            named.append(column)
        self._write_row([*fixed, *named, *last])

    def write(self, answer: Prediction) -> None:
        """Writes one answer; where there is none, all cells but image and error are empty."""
        cells: list[object] = [answer.image, answer.prediction]
        if answer.error is None:
            cells += [_six(answer.confidence or 0.0), *map(_six, answer.probabilities)]
        else:
            cells += [None] * (1 + self._classes)
        cells += [None] * len(ANSWERS_TO_COME) + [answer.error]
        self._write_row(cells + [answer.label] * self._labels)

    def _write_row(self, cells: Sequence[object]) -> None:
        self._csv.writerow(cells)
        self._file.write(self._line.getvalue().removesuffix("\r\n") + "\n")
        self._line.seek(0)
        self._line.truncate()


class JsonLinesWriter:
    """One JSON object a line and picture."""

    def __init__(self, file: TextIO, class_names: Sequence[str]) -> None:
        self._file = file
        self._class_names = class_names

    def write(self, answer: Prediction) -> None:
        """Writes one answer."""
        self._file.write(json.dumps(to_json(answer, self._class_names), ensure_ascii=False) + "\n")


class JsonWriter:
    """One JSON document: the class names, and a list of the answers."""

    def __init__(self, file: TextIO, class_names: Sequence[str]) -> None:
        self._file = file
        self._class_names = class_names
        self._separator = "\n"
        file.write(f'{{"classes": {json.dumps(class_names, ensure_ascii=False)}, "predictions": [')

    def write(self, answer: Prediction) -> None:
        """Writes one answer."""
        self._file.write(self._separator + json.dumps(to_json(answer, self._class_names), ensure_ascii=False))
        self._separator = ",\n"

    def close(self) -> None:
        """Ends the document."""
        self._file.write("\n]}\n")


class TableWriter:
    """A table for a terminal, printed in pieces so that any number of answers fits in memory."""

    def __init__(self, file: TextIO, class_names: Sequence[str]) -> None:
        self._console = Console(file=file, highlight=False)
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
FORMS: dict[str, Callable[[TextIO, Sequence[str]], Writer]] = {
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
        "prediction": answer.prediction,
        "confidence": answer.confidence,
        "probabilities": dict(zip(class_names, answer.probabilities, strict=True)) if read else None,
        "tags": [asdict(tag) for tag in answer.tags],
        "prediction_set": list(answer.prediction_set),
        "none_of_these": answer.none_of_these,
        "none_score": answer.none_score,
        "notes": list(answer.notes),
        "error": answer.error,
    }


@contextmanager
def open_writer(form: str, out: Path | None, class_names: Sequence[str]) -> Iterator[Writer]:
    """Opens what writes answers in one form: to a file, that appears when it is whole, or to stdout.

    Args:
        form: One of `FORMS`.
        out: The file; None for stdout.
        class_names: The K classes.

    Yields:
        The writer.

    Raises:
        UnknownName: There is no such form.
        UsageError: The file can't be written.
    """
    create = find_named("form of answers", form, FORMS)
    with _stdout(form) if out is None else replace_when_whole(out) as file:
        writer = create(file, class_names)
        yield writer
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
    file = io.TextIOWrapper(binary, encoding=encoding, errors="backslashreplace", newline="")
    try:
        yield file
    finally:
        file.detach()


def write_predictions(path: Path, predictions: Iterable[Prediction], class_names: Sequence[str]) -> None:
    """Writes predictions.csv, with the given labels."""
    with replace_when_whole(path) as file:
        writer = CsvWriter(file, class_names, labels=True)
        for answer in predictions:
            writer.write(answer)


def show_predictions(console: Console, predictions: Iterable[Prediction], class_names: Sequence[str]) -> None:
    """Prints a table of class probabilities, three decimals, the winner marked; the likeliest few if not all fit."""
    widths = [min(max(NUMBER_WIDTH, cell_len(_printable(name))), NAME_WIDTH) for name in class_names]
    fits = IMAGE_COLUMN_WIDTH + sum(COLUMN_GAP + width for width in widths) <= console.width
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold", min_width=12)
    if fits:
        for name, width in zip(class_names, widths, strict=True):
            table.add_column(_text(name), justify="right", overflow="fold", width=width)
    else:
        for place in range(min(TOP, len(class_names))):
            table.add_column(f"{place + 1}.", overflow="fold", min_width=NUMBER_WIDTH)
    notes = []
    for answer in predictions:
        if answer.error is not None:
            notes.append(f"{answer.image}: not read: {answer.error}")
            table.add_row(_text(answer.image), _text("not read", style="red"))
            continue
        notes += [f"{answer.image}: {note}" for note in answer.notes]
        cells = _all_classes(answer, class_names) if fits else _likeliest(answer, class_names)
        table.add_row(_text(answer.image), *cells)
    console.print(table)
    for note in notes:
        console.print(_text(note), style="dim")


def show_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Prints figures of merit: the verdict, then a row a class, then the most confused pairs."""
    right = round(evaluation.accuracy * evaluation.images)
    console.print(f"accuracy {evaluation.accuracy:.4f} ({right:,} of {evaluation.images:,} right)", highlight=False)
    console.print(
        f"macro F1 {evaluation.macro_f1:.4f}   log loss {evaluation.log_loss:.4f}   "
        f"calibration error {evaluation.ece:.4f}",
        highlight=False,
    )
    if evaluation.unreadable:
        console.print(f"{evaluation.unreadable} could not be read and are not counted.", style="red")
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for title in ("precision", "recall", "F1", "images"):
        table.add_column(title, justify="right")
    for row in evaluation.per_class:
        shares = [f"{value:.3f}" if value is not None else "-" for value in (row.precision, row.recall, row.f1)]
        table.add_row(_text(row.name), *shares, f"{row.images:,}")
    console.print(table)
    for pair in evaluation.confused_pairs[:5]:
        console.print(_text(f"{pair.label} taken for {pair.prediction}: {pair.images} ({pair.share:.1%})"))


def show_layers(console: Console, layers: Sequence[Layer]) -> None:
    """Prints a network's layer table, and its parameters below."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        table.add_row(_text(layer.name), _text(layer.kind), shape, f"{layer.parameters:,}")
    console.print(table)
    total = sum(layer.parameters for layer in layers)
    fixed = total - sum(layer.trainable for layer in layers)
    console.print(f"{total:,} parameters, {fixed:,} of which do not train", highlight=False)


def show_stores(console: Console, stores: Sequence[StoreFigures]) -> None:
    """Prints what the cache holds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("made by", overflow="fold")
    for title in ("images", "MB", "last used"):
        table.add_column(title, justify="right", no_wrap=True)
    for store in stores:
        used = datetime.fromtimestamp(store.used).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(
            store.kind,
            _text(store.rule),
            f"{store.images:,}" if store.images else "-",
            f"{store.size_bytes / 1e6:,.0f}",
            used,
        )
    console.print(table)


def show_backbones(console: Console, backbones: Sequence[CuratedBackbone]) -> None:
    """Prints the list of pretrained networks."""
    table = Table(box=None, pad_edge=False)
    table.add_column("backbone", no_wrap=True)
    for title in ("M", "side", "images/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    for each in backbones:
        figures = (f"{each.parameters_millions:.1f}", f"{each.side}", f"{each.images_per_second}")
        table.add_row(f"{each.name}\n  {each.suits}", *figures, each.licence)
    console.print(table)


def show_card(console: Console, card: ModelCard) -> None:
    """Prints what a model file says about itself, apart from its layers."""
    made, size = card.provenance, card.preprocess
    lines = {
        "classes": ", ".join(card.class_names),
        "input": f"{size.height} x {size.width} RGB, fitted by {size.resize!r}",
        "trained": f"{made.created}, by recipe {made.recipe!r}, seed {made.seed}",
        "with": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "on": ", ".join(f"{count:,} {part}" for part, count in made.photographs.items()) + " photographs",
        "epochs": f"{made.epochs} in {made.seconds_train:.0f} s, of which number {made.best_epoch} was kept"
        + (" (ended early)" if made.interrupted else ""),
        "device": f"{made.device}, {made.precision}",
    }
    if made.base:
        lines["stands on"] = f"{made.network}, weights {made.base['weights']}, licence {made.base['licence']}"
    for title, text in lines.items():
        console.print(_text(f"{title:<9} {text}"))


def show_findings(console: Console, findings: Iterable[tuple[str, int, str]]) -> None:
    """Prints what checks found: the title of each, how many photographs or classes, and the surest of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("the surest", overflow="fold")
    for title, count, surest in findings:
        style = "" if count else "dim"
        table.add_row(_text(title, style), _text(f"{count:,}", style), _text(surest, style))
    console.print(table)


def _six(value: float) -> str:
    return f"{value:.6f}"


def _text(text: str, style: str = "") -> Text:
    return Text(_printable(text), style=style)


def _printable(text: str) -> str:
    """Makes escapes of what could move the cursor or can't be written: line ends, control characters, odd bytes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _all_classes(answer: Prediction, class_names: Sequence[str]) -> list[Text]:
    return [
        Text(f"{value:.3f} *", style="bold green") if name == answer.prediction else Text(f"{value:.3f}  ")
        for name, value in zip(class_names, answer.probabilities, strict=True)
    ]


def _likeliest(answer: Prediction, class_names: Sequence[str]) -> list[Text]:
    ranked = sorted(zip(answer.probabilities, class_names, strict=True), key=lambda pair: -pair[0])[:TOP]
    return [
        # The number first: a name that must be folded never takes it apart.
        _text(f"{value:.3f}{' *' if place == 0 else ''} {name}", style="bold green" if place == 0 else "")
        for place, (value, name) in enumerate(ranked)
    ]
