"""Table of predictions for a terminal: one row per image, as wide as the terminal."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.inference.writers.text import WRITERS, WriterSpec
from belvedere.runtime.terminal import count, printable
from belvedere.types.data import NONE_OF_THESE, ModelId
from belvedere.types.prediction import Prediction

if TYPE_CHECKING:  # importing rich takes longer than a prediction
    from rich.console import Console
    from rich.text import Text

TABLE_ROWS = 500  # printed at once
WIDE = 10_000  # columns of what is not a terminal: nothing is cut
GAP = "  "
NUMBER = re.compile(r"\d+\.\d%")
MIN_TEXT_WIDTH = 30  # columns of a reason; with fewer, it is below the row
NARROW = 72  # columns of a terminal below which the last two columns are lines below the row
TITLES = ("image", "prediction", "confidence", "also (area)", "note")
POSSIBLY = "possibly "  # before the classes that cannot be excluded
IMAGE, PREDICTION, CONFIDENCE, ALSO, NOTE = range(len(TITLES))
# Columns are narrowed to these widths, one after the other, until all fit.
MIN_WIDTHS = (
    *((NOTE, 24), (ALSO, 16), (IMAGE, 24), (NOTE, 22), (IMAGE, 12), (PREDICTION, 10), (IMAGE, 8)),
    *((NOTE, 16), (CONFIDENCE, len("100.0%")), (PREDICTION, 4), (IMAGE, 4)),
)
LONGEST_AREA = " 100%,"  # after the name of a class, which is cut to leave room for it
NUM_CLASSES_SHOWN = 10  # below a single prediction


class TableWriter:
    """Writes predictions as tables of `TABLE_ROWS` rows, in constant memory."""

    def __init__(self, file: TextIO, _class_names: Sequence[str], _model: ModelId) -> None:
        from belvedere.runtime.console import PlainConsole

        self._console = PlainConsole(file=file, width=None if file.isatty() or "COLUMNS" in os.environ else WIDE)
        self._predictions: list[Prediction] = []
        self._is_first = True

    def write(self, prediction: Prediction) -> None:
        """Add one row."""
        if len(self._predictions) == TABLE_ROWS:
            self._print()
        self._predictions.append(prediction)

    def close(self, error: str | None = None) -> None:  # noqa: ARG002 - printed by the caller
        """Print the rows that were not printed yet, and the class probabilities of a single image."""
        if self._predictions:
            only = self._predictions[0] if self._is_first and len(self._predictions) == 1 else None
            self._print()
            if only is not None and only.error is None:
                show_probabilities(self._console, only)

    def _print(self) -> None:
        show_predictions(self._console, self._predictions)
        self._predictions.clear()
        self._is_first = False


def register_table() -> None:
    """Register the format `table`, which only commands have."""
    WRITERS.add("table", WriterSpec(TableWriter), overwrite=True)


@dataclass(frozen=True, slots=True)
class _Row:
    """The texts of a row, whole and without control characters."""

    image: str
    prediction: str
    style: str  # of the prediction
    confidence: str = ""
    also: tuple[str, ...] = ()  # further classes in the image
    others: tuple[str, ...] = ()  # classes that cannot be excluded
    reason: str = ""  # in place of the columns after the prediction
    warnings: tuple[str, ...] = ()

    def cells(self, widths: Sequence[int]) -> list[str]:
        """Return the cells in as many columns as they have; lists of classes fit into these widths."""
        also = join_fitting(self.also, widths[ALSO])
        note = POSSIBLY + join_fitting(self.others, widths[NOTE] - len(POSSIBLY)) if self.others else ""
        return [self.image, self.prediction, self.confidence, also, note]


def show_predictions(console: "Console", predictions: Iterable[Prediction]) -> None:
    """Print a row for each image: names are cut in the middle to fit, and reasons and warnings may have more lines."""
    from rich.text import Text

    mark = _mark(console)
    rows = [_to_row(each, console.width - len(GAP + LONGEST_AREA), mark) for each in predictions]
    widths = _choose_widths(rows, console.width)
    console.print(Text(_join_cells(_cut(TITLES, widths, mark), widths), "bold"))
    for row in rows:
        cells = _cut(row.cells(widths), widths, mark)
        line = Text(_pad(cells[IMAGE], widths[IMAGE]) + GAP)
        if row.reason:
            line.append(_pad(cells[PREDICTION], widths[PREDICTION]), row.style)
            _print_wrapped(console, line.append(GAP), row.reason)
        else:
            line.append(_pad(cells[PREDICTION], widths[PREDICTION]), row.style)
            line.append(GAP + _join_cells(cells[CONFIDENCE:], widths[CONFIDENCE:]))
            console.print(line)
        also = f"{TITLES[ALSO]}: {', '.join(row.also)}" if row.also and not widths[ALSO] else ""
        others = POSSIBLY + ", ".join(row.others) if row.others and not widths[NOTE] else ""
        if below := "; ".join(filter(None, (also, others, *row.warnings))):
            _print_wrapped(console, Text(GAP), below)


def _mark(console: "Console") -> str:
    """Return what stands for the middle of a name that is cut."""
    return "…" if console.encoding.startswith("utf") else "..."


def _cut(cells: Sequence[str], widths: Sequence[int], mark: str) -> list[str]:
    return [shorten(cell, width, mark) for cell, width in zip(cells, widths, strict=True)]


def _pad(text: str, width: int) -> str:
    """Return a text with spaces to a width; numbers are aligned to the right."""
    from rich.cells import cell_len

    spaces = " " * (width - cell_len(text))
    return spaces + text if NUMBER.fullmatch(text) else text + spaces


def _join_cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells of the columns that are shown, side by side."""
    return GAP.join(_pad(cell, width) for cell, width in zip(cells, widths, strict=True) if width).rstrip()


def _print_wrapped(console: "Console", start: "Text", text: str) -> None:
    """Print a text after the start of its line, with further lines below its own first word, if it has the room."""
    from rich.cells import cell_len
    from rich.text import Text

    needed = max(MIN_TEXT_WIDTH, *map(cell_len, text.split()))
    indent = start.cell_len if console.width - start.cell_len >= needed else len(GAP)
    lines = Text(text, "dim").wrap(console, console.width - indent)
    if indent < start.cell_len:
        start.rstrip()
        console.print(start)
        start = Text(GAP)
    for number, line in enumerate(lines):
        line.rstrip()
        console.print((Text(" " * indent) if number else start) + line)


def show_probabilities(console: "Console", prediction: Prediction) -> None:
    """Print the most probable classes of one prediction, and what its row has no room for."""
    from rich.cells import cell_len
    from rich.text import Text

    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    shown = [(printable(name), f"{value:.1%}") for name, value in ranked[:NUM_CLASSES_SHOWN]]
    mark = _mark(console)
    room = max(console.width - len(GAP) - len("probability"), len("class"))
    widths = [min(max(cell_len(name) for name, _ in shown), room), len("probability")]
    console.print(Text(f"\n{_join_cells(('class', 'probability'), widths)}", "bold"))
    for name, value in shown:
        console.print(Text(_join_cells((shorten(name, widths[0], mark), value), widths)))
    if rest := ranked[NUM_CLASSES_SHOWN:]:
        total = sum(value for _, value in rest)
        console.print(f"{count(len(rest), 'other class', 'other classes')}: {total:.1%} in all")
    if prediction.none_of_these:
        score = prediction.none_of_these_score or 0
        console.print(f"{NONE_OF_THESE}: more unusual than {score:.0%} of the training images")
    if len(prediction.prediction_set) > 1:
        names = [shorten(printable(name), console.width - len(","), mark) for name in prediction.prediction_set]
        console.print(f"prediction set ({COVERAGE:.0%}): {', '.join(names)}")


def shorten(text: str, width: int, mark: str = "…") -> str:
    """Return a text of at most `width` terminal columns, cut in the middle."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(mark), 0)
    end = _first_columns(text[::-1], room - room // 2)[::-1]
    return _first_columns(text, room - cell_len(end)) + mark[:width] + end


def join_fitting(names: Sequence[str], width: int) -> str:
    """Return names separated by commas: as many as fit into `width` columns, but one at least, then "+2" for others."""
    from rich.cells import cell_len

    for number in range(len(names), 0, -1):
        left = len(names) - number
        text = ", ".join((*names[:number], *([f"+{left}"] if left else [])))
        if cell_len(text) <= width or number == 1:
            return text
    return ""


def _first_columns(text: str, width: int) -> str:
    from rich.cells import cell_len

    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:index]
    return text


def _to_row(prediction: Prediction, max_name: int, mark: str) -> _Row:
    """Return a row whose names of classes have at most `max_name` columns, so that a line has room for each."""
    image, warnings = printable(prediction.image), tuple(map(printable, prediction.warnings))
    if prediction.error is not None:
        return _Row(image, "not read", "red", reason=printable(prediction.error), warnings=warnings)

    def fit(name: str) -> str:
        return shorten(printable(name), max_name, mark)

    label, confidence = fit(str(prediction.predicted_label)), f"{prediction.confidence or 0:.1%}"
    if prediction.none_of_these:
        reason = f"most probable: {label} {confidence}"
        return _Row(image, NONE_OF_THESE, "bold yellow", reason=reason, warnings=warnings)
    further = [tag for tag in prediction.tags if tag.name != prediction.predicted_label]
    also = tuple(f"{fit(tag.name)} {tag.area_fraction:.0%}" for tag in further)
    others = tuple(fit(name) for name in prediction.prediction_set if name != prediction.predicted_label)
    return _Row(image, label, "bold green", confidence, also, others, warnings=warnings)


def _choose_widths(rows: Sequence[_Row], width: int) -> list[int]:
    """Return the width of each column; 0 for those that are not shown."""
    from rich.cells import cell_len

    columns = zip(*(row.cells([WIDE] * len(TITLES)) for row in rows), strict=True)
    widths = [max(map(cell_len, column)) for column in columns]
    for column, title in enumerate(TITLES):
        is_shown = column < ALSO or (widths[column] and width >= NARROW)
        widths[column] = max(widths[column], len(title)) if is_shown else 0
    excess = sum(widths) + len(GAP) * (sum(map(bool, widths)) - 1) - width
    for column, least in MIN_WIDTHS:
        cut = min(max(excess, 0), max(widths[column] - least, 0))
        widths[column] -= cut
        excess -= cut
    return widths
