"""Figures of an evaluation: learning curves, confusion matrix, reliability diagram."""

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
from matplotlib.figure import Figure as Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from belvedere.evaluation.monitoring.result import Period
from belvedere.evaluation.report.pages import COLORS
from belvedere.runtime import files
from belvedere.runtime.terminal import printable
from belvedere.types.evaluation import EpochMetrics, Evaluation

MAX_NUMBERED_CLASSES = 40  # above, a confusion matrix is one image without numbers and with fewer names

_DPI = 150
_GAMMA = 0.6  # opacity of a cell is its fraction to this power, so that small fractions are visible
_MAX_SIZE = 60_000  # pixels; the PNG writer stops at 2^16
# Fonts for scripts that matplotlib's own font lacks, used where they are installed.
_EXTRA_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
)
# Level 2 compresses images three times as fast as the default, 6, into files that are 10% larger.
_SAVE_OPTIONS: Mapping[str, dict[str, Any]] = {"png": {"pil_kwargs": {"compress_level": 2}}, "svg": {}}
_METADATA: Mapping[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@cache
def _settings() -> dict[Any, Any]:
    installed = {font.name for font in fontManager.ttflist}
    return {
        "font.family": ["DejaVu Sans", *(name for name in _EXTRA_FONTS if name in installed)],
        "font.size": 8.5,
        "text.parse_math": False,
        "text.color": COLORS["ink"],
        "axes.edgecolor": COLORS["line"],
        "axes.labelcolor": COLORS["muted"],
        "axes.titlecolor": COLORS["ink"],
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": COLORS["line"],
        **{f"{axis}tick.color": COLORS["line"] for axis in "xy"},
        **{f"{axis}tick.labelcolor": COLORS["muted"] for axis in "xy"},
        "figure.facecolor": COLORS["paper"],
        "legend.facecolor": COLORS["paper"],
        "legend.edgecolor": COLORS["paper"],
        "legend.framealpha": 1.0,
        **{f"figure.constrained_layout.{axis}_pad": 0.09 for axis in "hw"},  # inches
        "svg.fonttype": "path",
        "svg.hashsalt": "belvedere",
    }


@contextmanager
def style_context() -> Iterator[None]:
    """Apply the style of all figures, regardless of the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_settings())
        yield


def figure_bytes(figure: Figure, kind: str, *, title: str | None = None) -> bytes:
    """Return a figure as the bytes of a "png" (at most 150 dpi) or "svg" file, deterministically."""
    content = io.BytesIO()
    dpi = min(_DPI, _MAX_SIZE / max(figure.get_size_inches()))
    with style_context(), warnings.catch_warnings():
        # Names in a script without an installed font are drawn as boxes; the page has them as text.
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from font", UserWarning)
        metadata = _METADATA[kind] | ({} if title is None else {"Title": title})
        figure.savefig(content, format=kind, dpi=dpi, metadata=metadata, **_SAVE_OPTIONS[kind])
    return content.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, *, vector: bool = True) -> None:
    """Write a figure as `folder/name.png` and, if `vector`, as `folder/name.svg`.

    Raises:
        UsageError: The folder cannot be written to.
    """
    for kind in ("png", "svg") if vector else ("png",):
        files.write_bytes(folder / f"{name}.{kind}", figure_bytes(figure, kind))


@style_context()
def draw_history(history: Sequence[EpochMetrics], best_epoch: int) -> Figure:
    """Draw loss and accuracy of training and validation by epoch, and mark the best epoch."""
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    _draw_curves(loss, epochs, [row.loss for row in history], [row.validation_loss for row in history], best_epoch)
    loss.set_title("Loss, lower is better")
    _draw_curves(
        accuracy, epochs, [row.accuracy for row in history], [row.validation_accuracy for row in history], best_epoch
    )
    accuracy.set_title("Accuracy, higher is better")
    accuracy.yaxis.set_major_formatter(_format_percent)
    accuracy.legend(loc="lower right")
    return figure


def _draw_curves(
    axes: Axes, epochs: Sequence[int], training: Sequence[float], validation: Sequence[float], best_epoch: int
) -> None:
    marker = "o" if len(epochs) < 12 else ""  # a single epoch has no line
    axes.plot(epochs, training, color=COLORS["muted"], dashes=(4, 2), lw=1.3, marker=marker, ms=3, label="training")
    axes.plot(epochs, validation, color=COLORS["accent"], lw=1.8, marker=marker, ms=3, label="validation")
    if best_epoch in epochs:
        best = validation[epochs.index(best_epoch)]
        axes.axvline(best_epoch, color=COLORS["contrast"], lw=0.9, ls=":", zorder=1)
        axes.plot(
            [best_epoch], [best], "o", color=COLORS["contrast"], ms=6, zorder=5, label=f"best epoch: {best_epoch}"
        )
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _minimal_axes(axes)


@style_context()
def draw_confusion(evaluation: Evaluation, *, normalize: bool) -> Figure:
    """Draw the confusion matrix: rows are labels, columns predictions.

    Args:
        evaluation: The evaluation.
        normalize: Whether cells show percentages of their row instead of counts.

    Returns:
        The figure; above `MAX_NUMBERED_CLASSES` classes, cells have colors only.
    """
    counts, fractions = evaluation.confusion_matrix, evaluation.normalized_confusion_matrix()  # (K, K) each
    names = [truncate_middle(name, 22) for name in evaluation.class_names]
    if len(names) > MAX_NUMBERED_CLASSES:
        if normalize:
            return _draw_many_classes(fractions, names, "Percent of each row, full color: 100%")
        most = counts.max()
        return _draw_many_classes(counts / most, names, f"Number of images, full color: {most:,}")
    cell = float(np.clip(5.0 / len(names), 0.27, 0.62))  # inches
    width = max(3.6, cell * len(names) + 0.11 * max(map(len, names)) + 0.8)  # inches
    figure = Figure(figsize=(width, width), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    text_width = 2.0 if normalize else float(len(str(counts.max())))
    size = min(9.5, cell * 72 * 0.86 / (0.64 * max(text_width, 2.0)))  # points; a digit is 0.64 as wide
    for row, column in np.argwhere(counts):
        text = _cell_percent(fractions[row, column]) if normalize else f"{counts[row, column]}"
        _draw_cell(axes, int(row), int(column), float(fractions[row, column]), text, size)
    _set_class_axes(axes, names, size, cell)
    axes.set_title("Percent of each row" if normalize else "Number of images")
    return figure


def _draw_many_classes(values: NDArray[np.float64], names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, (K, K) from 0 to 1, as one image, with the names of evenly spaced classes."""
    named = range(0, len(names), -(-len(names) // MAX_NUMBERED_CLASSES))
    ticks = [names[index] for index in named]
    width = max(0.19 * MAX_NUMBERED_CLASSES, 0.02 * len(names)) + 0.11 * max(map(len, ticks)) + 0.8  # inches
    figure = Figure(figsize=(width, width), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    pixels = np.empty((*values.shape, 4))  # (K, K, RGBA), transparent where 0
    pixels[..., :3] = to_rgb(COLORS["contrast"])
    pixels[np.diag_indices(len(names))] = (*to_rgb(COLORS["accent"]), 1)
    pixels[..., 3] = values**_GAMMA
    axes.imshow(pixels, interpolation="nearest")
    axes.set_xticks(named, ticks, rotation=90, fontsize=6.5, color=COLORS["ink"])
    axes.set_yticks(named, ticks, fontsize=6.5, color=COLORS["ink"])
    suffix = f" (one class in {named.step} is named)"
    axes.set(xlabel=f"Prediction{suffix}", ylabel=f"Label{suffix}")
    axes.spines[:].set_visible(True)
    axes.set_title(title)
    return figure


def _format_percent(fraction: float, _: object = None) -> str:
    return f"{100 * fraction:.4g}%"


def _cell_percent(fraction: float) -> str:
    return "<1" if fraction < 0.01 else ">99" if 0.99 < fraction < 1 else f"{100 * fraction:.0f}"


def _draw_cell(axes: Axes, row: int, column: int, fraction: float, text: str, size: float) -> None:
    color = COLORS["accent"] if row == column else COLORS["contrast"]
    opacity = fraction**_GAMMA
    axes.add_patch(
        Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=opacity, lw=0, gid=cell_id(row, column))
    )
    ink = COLORS["on-accent"] if opacity > 0.62 else COLORS["ink"]
    axes.text(column, row, text, color=ink, fontsize=size, ha="center", va="center_baseline")


def cell_id(row: int, column: int) -> str:
    """Return the id of a cell of the confusion matrix in the SVG."""
    return f"cell-{row}-{column}"


def _set_class_axes(axes: Axes, names: Sequence[str], size: float, cell: float) -> None:
    font_size = max(size, 6.5) if len(names) > 8 else 8.5
    rotation = 0 if max(map(len, names)) * 0.09 < cell else 40 if len(names) <= 8 else 90
    axes.set_xticks(range(len(names)), names, rotation=rotation, fontsize=font_size, color=COLORS["ink"])
    if rotation == 40:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names, fontsize=font_size, color=COLORS["ink"])
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="Prediction", ylabel="Label")
    edges = np.arange(-0.5, len(names))
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", lw=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


@style_context()
def draw_calibration(evaluation: Evaluation) -> Figure:
    """Draw the reliability diagram: accuracy at each confidence, and the number of images at each confidence."""
    figure = Figure(figsize=(5.8, 4.7), layout="constrained")
    reliability, counts = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    bins = [each for each in evaluation.reliability_bins if each.count]
    lows, widths = [each.low for each in bins], [each.high - each.low for each in bins]
    bars = {"align": "edge", "edgecolor": COLORS["paper"], "lw": 1.2, "color": COLORS["accent"]}
    reliability.bar(lows, [each.accuracy for each in bins], widths, **bars, alpha=0.75)
    reliability.plot([0, 1], [0, 1], color=COLORS["muted"], lw=1, dashes=(4, 3), label="perfectly calibrated")
    confidence, accuracy = [each.confidence for each in bins], [each.accuracy for each in bins]
    if evaluation.uncalibrated is not None:
        before = [each for each in evaluation.uncalibrated.bins if each.count]
        positions, heights = [each.confidence for each in before], [each.accuracy for each in before]
        label = f"uncalibrated: {evaluation.uncalibrated.ece:.1%}"
        reliability.plot(positions, heights, "o", color=COLORS["muted"], ms=4, mfc="none", label=label)
    reliability.vlines(confidence, confidence, accuracy, color=COLORS["contrast"], lw=2.2, label="gap")
    reliability.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Accuracy")
    reliability.set_title(f"Calibration error {evaluation.ece:.1%}")
    reliability.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2)
    reliability.yaxis.set_major_formatter(_format_percent)
    counts.bar(lows, [each.count for each in bins], widths, **bars, alpha=0.45)
    counts.set(xlabel="Confidence", ylabel="Images")
    counts.xaxis.set_major_formatter(_format_percent)
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _minimal_axes(reliability)
    _minimal_axes(counts)
    return figure


@style_context()
def draw_periods(periods: Sequence[Period]) -> Figure:
    """Draw the mean confidence and the fraction of "none of these" of periods, in order of time."""
    figure = Figure(figsize=(8.6, 3.0), layout="constrained")
    is_hourly = len({each.start[:10] for each in periods}) < len(periods)
    names = [each.start[5:16].replace("T", " ") if is_hourly else each.start[:10] for each in periods]
    panels = {"Mean confidence": [each.mean_confidence for each in periods]}
    rates = [each.ood_rate for each in periods if each.ood_rate is not None]
    if len(rates) == len(periods):
        panels["None of these"] = rates
    for axes, (title, values) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        axes.plot(range(len(values)), values, "o-", color=COLORS["accent"], ms=4, lw=1.6)
        axes.set_title(title)
        axes.set_ylim(0, max(values) * 1.15 or 1)
        axes.yaxis.set_major_formatter(_format_percent)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(lambda index, _: names[int(index)] if 0 <= index < len(names) else "")
        _minimal_axes(axes)
    return figure


def _minimal_axes(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def truncate_middle(text: str, max_length: int) -> str:
    """Shorten a text to one line of `max_length` characters, with escapes for unprintable characters."""
    line = printable(text)
    if len(line) <= max_length:
        return line
    tail = (max_length - 1) // 2
    return f"{line[: max_length - 1 - tail]}…{line[-tail:]}"
