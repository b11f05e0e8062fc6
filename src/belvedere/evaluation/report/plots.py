"""Figures: curves, confusion and calibration.

Knows colours, axes and how to write names that may hold anything, and is the only owner of matplotlib; does not know
how a picture is read, what a figure is for or on which page it stands. Nothing here touches pyplot or leaves a setting
of matplotlib's changed.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Figure  # report holds figures without knowing matplotlib
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from belvedere.runtime import files
from belvedere.runtime.terminal import printable
from belvedere.types.evaluation import EpochFigures, Evaluation

# Each colour has one job, so that a page may exchange them (by these names) for those of its dark mode.
COLOURS: Mapping[str, str] = {
    "paper": "#ffffff",
    "ink": "#1b2733",
    "muted": "#64707d",
    "line": "#dce1e6",
    "accent": "#1f6391",
    "contrast": "#bd5426",
    "good": "#2a7a56",
    "on-accent": "#fdfdfd",
}
NUMBERED_CLASSES = 40  # beyond, a confusion matrix is a picture without numbers, with at most so many names

_DOTS_PER_INCH = 150
_STRENGTH = 0.6  # a cell's share to this power: an error of a few per cent is seen beside a diagonal near one
_LARGEST_SIDE_PIXELS = 60_000  # the PNG writer stops at 2^16
# Fonts for what the one matplotlib brings can't write; used where they are installed.
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
)
# Level 2 packs photographs three times as fast as the usual 6, into files a tenth larger.
_SAVED_WITH: Mapping[str, dict[str, Any]] = {"png": {"pil_kwargs": {"compress_level": 2}}, "svg": {}}
_METADATA: Mapping[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@cache
def _settings() -> dict[Any, Any]:
    installed = {font.name for font in fontManager.ttflist}
    return {
        "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)],
        "font.size": 8.5,
        "text.parse_math": False,
        "text.color": COLOURS["ink"],
        "axes.edgecolor": COLOURS["line"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.titlecolor": COLOURS["ink"],
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": COLOURS["line"],
        **{f"{axis}tick.color": COLOURS["line"] for axis in "xy"},
        **{f"{axis}tick.labelcolor": COLOURS["muted"] for axis in "xy"},
        "figure.facecolor": COLOURS["paper"],
        "legend.facecolor": COLOURS["paper"],
        "legend.edgecolor": COLOURS["paper"],
        "legend.framealpha": 1.0,
        **{f"figure.constrained_layout.{axis}_pad": 0.09 for axis in "hw"},  # inches
        "svg.fonttype": "path",
        "svg.hashsalt": "belvedere",
    }


@contextmanager
def styled() -> Iterator[None]:
    """Holds our settings while the block runs, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_settings())
        yield


def figure_bytes(figure: Figure, kind: str, *, title: str | None = None) -> bytes:
    """Draws a figure into a file's content, the same bytes every time.

    Args:
        figure: The figure.
        kind: "png" (150 dots an inch; fewer where that would be too large for a PNG) or "svg".
        title: Goes into the file's metadata.
    """
    content = io.BytesIO()
    dots = min(_DOTS_PER_INCH, _LARGEST_SIDE_PIXELS / max(figure.get_size_inches()))
    with styled(), warnings.catch_warnings():
        # A name in a script without an installed font is drawn as boxes; its letters stand in the page and the tables.
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from font", UserWarning)
        metadata = _METADATA[kind] | ({} if title is None else {"Title": title})
        figure.savefig(content, format=kind, dpi=dots, metadata=metadata, **_SAVED_WITH[kind])
    return content.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, *, vector: bool = True) -> None:
    """Writes a figure as `folder/name.png` and, if `vector`, as `folder/name.svg`; each appears at once.

    Raises:
        UsageError: The folder can't be written to.
    """
    for kind in ("png", "svg") if vector else ("png",):
        files.write_bytes(folder / f"{name}.{kind}", figure_bytes(figure, kind))


@styled()
def draw_history(history: Sequence[EpochFigures], best_epoch: int) -> Figure:
    """Draws loss and accuracy by epoch, of training and validation, with the epoch that was kept marked."""
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    _draw_curves(loss, epochs, [row.loss for row in history], [row.validation_loss for row in history], best_epoch)
    loss.set_title("Loss, lower is better")
    _draw_curves(
        accuracy, epochs, [row.accuracy for row in history], [row.validation_accuracy for row in history], best_epoch
    )
    accuracy.set_title("Accuracy, higher is better")
    accuracy.yaxis.set_major_formatter(_write_share)
    accuracy.legend(loc="lower right")
    return figure


def _draw_curves(
    axes: Axes, epochs: Sequence[int], training: Sequence[float], validation: Sequence[float], best_epoch: int
) -> None:
    dot = "o" if len(epochs) < 12 else ""  # a single epoch has no line to see
    axes.plot(epochs, training, color=COLOURS["muted"], dashes=(4, 2), lw=1.3, marker=dot, ms=3, label="training")
    axes.plot(epochs, validation, color=COLOURS["accent"], lw=1.8, marker=dot, ms=3, label="validation")
    if best_epoch in epochs:
        best = validation[epochs.index(best_epoch)]
        axes.axvline(best_epoch, color=COLOURS["contrast"], lw=0.9, ls=":", zorder=1)
        axes.plot(
            [best_epoch], [best], "o", color=COLOURS["contrast"], ms=6, zorder=5, label=f"kept: epoch {best_epoch}"
        )
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _minimal_axes(axes)


@styled()
def draw_confusion(evaluation: Evaluation, *, shares: bool) -> Figure:
    """Draws the confusion matrix: a row a given label, a column an answer.

    Args:
        evaluation: What was measured.
        shares: Whether the cells hold percentages of their row instead of counts.

    Returns:
        The figure; with more than `NUMBERED_CLASSES` classes only the strength of a cell's colour tells how much it is.
    """
    counts = np.array(evaluation.confusion, dtype=np.int64)  # (K, K)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (K, K), every row 1 or 0 in all
    names = [shorten(name, 22) for name in evaluation.class_names]
    if len(names) > NUMBERED_CLASSES:
        if shares:
            return _draw_many_classes(parts, names, "Shares of each row, full colour is 100%")
        most = counts.max()
        return _draw_many_classes(counts / most, names, f"Counts of photographs, full colour is {most:,}")
    cell = float(np.clip(5.0 / len(names), 0.27, 0.62))  # inches
    side = cell * len(names) + 0.11 * max(map(len, names)) + 0.8
    figure = Figure(figsize=(max(side, 3.6), max(side, 3.6)), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    text_width = 2.0 if shares else float(len(str(counts.max())))
    size = min(9.5, cell * 72 * 0.86 / (0.64 * max(text_width, 2.0)))  # points; a digit is 0.64 of them wide
    for row, column in np.argwhere(counts):
        text = _percent(parts[row, column]) if shares else f"{counts[row, column]}"
        _draw_cell(axes, int(row), int(column), float(parts[row, column]), text, size)
    _set_class_axes(axes, names, size, cell)
    axes.set_title("Shares of each row, in %" if shares else "Counts of photographs")
    return figure


def _draw_many_classes(parts: NDArray[np.float64], names: Sequence[str], title: str) -> Figure:
    """Draws a confusion matrix as one raster, which stays small and quick however many classes there are.

    Args:
        parts: `(K, K)`, how full the colour of each cell is, from 0 to 1.
        names: The K classes; every so many of them is written.
        title: What a full colour means.
    """
    named = range(0, len(names), -(-len(names) // NUMBERED_CLASSES))
    written = [names[index] for index in named]
    side = max(0.19 * NUMBERED_CLASSES, 0.02 * len(names)) + 0.11 * max(map(len, written)) + 0.8  # inches
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    pixels = np.empty((*parts.shape, 4))  # (K, K, RGBA): clear where nothing is, on a page of any colour
    pixels[..., :3] = to_rgb(COLOURS["contrast"])
    pixels[np.diag_indices(len(names))] = (*to_rgb(COLOURS["accent"]), 1)
    pixels[..., 3] = parts**_STRENGTH
    axes.imshow(pixels, interpolation="nearest")
    axes.set_xticks(named, written, rotation=90, fontsize=6.5, color=COLOURS["ink"])
    axes.set_yticks(named, written, fontsize=6.5, color=COLOURS["ink"])
    rest = f" (one class in {named.step} is named)"
    axes.set(xlabel=f"Answer{rest}", ylabel=f"Given label{rest}")
    axes.spines[:].set_visible(True)
    axes.set_title(title)
    return figure


def _write_share(share: float, _: object = None) -> str:
    return f"{100 * share:.4g}%"


def _percent(share: float) -> str:
    return "<1" if share < 0.01 else ">99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def _draw_cell(axes: Axes, row: int, column: int, part: float, text: str, size: float) -> None:
    colour = COLOURS["accent"] if row == column else COLOURS["contrast"]
    strength = part**_STRENGTH
    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=colour, alpha=strength, lw=0))
    ink = COLOURS["on-accent"] if strength > 0.62 else COLOURS["ink"]
    axes.text(column, row, text, color=ink, fontsize=size, ha="center", va="center_baseline")


def _set_class_axes(axes: Axes, names: Sequence[str], size: float, cell: float) -> None:
    letters = max(size, 6.5) if len(names) > 8 else 8.5
    turn = 0 if max(map(len, names)) * 0.09 < cell else 40 if len(names) <= 8 else 90
    axes.set_xticks(range(len(names)), names, rotation=turn, fontsize=letters, color=COLOURS["ink"])
    if turn == 40:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=letters, color=COLOURS["ink"])
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="Answer", ylabel="Given label")
    edges = np.arange(-0.5, len(names))
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", lw=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


@styled()
def draw_calibration(evaluation: Evaluation) -> Figure:
    """Draws what share is right at each confidence, and how often each confidence is given."""
    figure = Figure(figsize=(5.8, 4.7), layout="constrained")
    reliability, counts = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    bins = [each for each in evaluation.calibration if each.images]
    lows, widths = [each.low for each in bins], [each.high - each.low for each in bins]
    bars = {"align": "edge", "edgecolor": COLOURS["paper"], "lw": 1.2, "color": COLOURS["accent"]}
    reliability.bar(lows, [each.accuracy for each in bins], widths, **bars, alpha=0.75)
    reliability.plot([0, 1], [0, 1], color=COLOURS["muted"], lw=1, dashes=(4, 3), label="perfectly calibrated")
    confidence, accuracy = [each.confidence for each in bins], [each.accuracy for each in bins]
    if evaluation.uncalibrated is not None:
        before = [each for each in evaluation.uncalibrated.bins if each.images]
        places, heights = [each.confidence for each in before], [each.accuracy for each in before]
        label = f"uncalibrated: {evaluation.uncalibrated.ece:.1%}"
        reliability.plot(places, heights, "o", color=COLOURS["muted"], ms=4, mfc="none", label=label)
    reliability.vlines(confidence, confidence, accuracy, color=COLOURS["contrast"], lw=2.2, label="the gap")
    reliability.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share answered right")
    reliability.set_title(f"Calibration error {evaluation.ece:.1%}")
    reliability.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2)
    reliability.yaxis.set_major_formatter(_write_share)
    counts.bar(lows, [each.images for each in bins], widths, **bars, alpha=0.45)
    counts.set(xlabel="Confidence", ylabel="Photographs")
    counts.xaxis.set_major_formatter(_write_share)
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _minimal_axes(reliability)
    _minimal_axes(counts)
    return figure


def _minimal_axes(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def shorten(text: str, letters: int) -> str:
    """Makes a text fit one line: what can't be printed becomes an escape, and a long middle an ellipsis."""
    line = printable(text)
    if len(line) <= letters:
        return line
    tail = (letters - 1) // 2
    return f"{line[: letters - 1 - tail]}…{line[-tail:]}"
