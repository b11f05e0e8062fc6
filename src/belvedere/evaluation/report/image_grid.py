"""Photographs in rows: grids with captions, and contact sheets with answers.

Knows how pictures and words share a page; the colours and settings are `plots`'.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from belvedere.evaluation.report.plots import COLOURS, shorten, styled
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.prediction import Prediction

MARKS: Mapping[str, str] = {"plain": "", "right": "✓ ", "wrong": "✗ "}
_TONES: Mapping[str, str] = {"plain": "line", "right": "good", "wrong": "contrast"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One photograph in a grid."""

    pixels: NDArray[np.uint8]  # (H, W, 3)
    caption: str  # may hold line breaks
    tone: str = "plain"  # "plain", "right" or "wrong"


@styled()
def draw_grid(tiles: Sequence[Tile], title: str, columns: int = 6) -> Figure:
    """Draws photographs in rows, each with its caption below.

    Args:
        tiles: The photographs, in reading order.
        title: What they are.
        columns: How many stand in a row.
    """
    side, gap, head = 1.5, 0.16, 0.5  # inches
    long = side * max(1.0, min((tile.pixels.shape[1] / tile.pixels.shape[0] for tile in tiles), default=1.0))
    lines = max((tile.caption.count("\n") + 1 for tile in tiles), default=1)
    step = side + 0.08 + 0.13 * lines + gap
    rows = -(-len(tiles) // columns)
    width, height = columns * (long + gap) + gap, head + max(rows, 1) * step
    figure = Figure(figsize=(width, height))
    # One set of axes, in inches from the top left: one a picture takes several times as long.
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    page.text(gap, 0.17, shorten(title, 14 * columns), fontsize=12, weight="bold", va="top")
    if not tiles:
        page.text(gap, height / 2, "There are none.", color=COLOURS["muted"])
    for index, tile in enumerate(tiles):
        left, top = gap + index % columns * (long + gap), head + index // columns * step
        _place_picture(page, tile.pixels, (left, top, long, side), _TONES[tile.tone])
        caption = MARKS[tile.tone] + "\n".join(shorten(line, 23) for line in tile.caption.split("\n"))
        colour = COLOURS["ink" if tile.tone == "plain" else _TONES[tile.tone]]
        page.text(left, top + side + 0.06, caption, color=colour, fontsize=7.3, va="top")
    return figure


def _place_picture(page: Axes, pixels: NDArray[np.uint8], place: tuple[float, float, float, float], frame: str) -> None:
    """Draws a picture, framed, as large as it fits a place (left, top, width, height), in the middle of its top."""
    left, top, width, height = place
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    wide, high = pixels.shape[1] * scale, pixels.shape[0] * scale
    left += (width - wide) / 2
    page.imshow(pixels, extent=(left, left + wide, top + high, top), aspect="auto")
    line = 0.8 if frame == "line" else 2.5  # points
    page.add_patch(Rectangle((left, top), wide, high, fill=False, edgecolor=COLOURS[frame], linewidth=line))


def _draw_picture(axes: Axes, pixels: NDArray[np.uint8] | None) -> None:
    axes.set(xticks=[], yticks=[], facecolor=COLOURS["line" if pixels is None else "paper"])
    if pixels is not None:
        axes.imshow(pixels)
        axes.set_anchor("N")
    axes.spines[:].set(visible=True, color=COLOURS["line"], linewidth=0.8)


@styled()
def draw_sheet(
    entries: Sequence[tuple[NDArray[np.uint8] | None, Prediction]], class_names: Sequence[str], model: str = ""
) -> Figure:
    """Draws a contact sheet: every picture with its answer and the probabilities of its likeliest classes.

    Args:
        entries: Pixels `(H, W, 3)` and answer of every picture; None for one that could not be read.
        class_names: The model's classes, in the order of the probabilities.
        model: Which one predicted, for the foot of the sheet.
    """
    side, bars, gap, step = 1.45, 1.55, 0.2, 2.0  # inches
    columns = min(3, max(len(entries), 1))
    rows = max(-(-len(entries) // columns), 1)
    width, height = columns * (side + bars + 2 * gap) + gap, rows * step + gap
    figure = Figure(figsize=(width, height))
    figure.text(gap / width, 0.1 / height, shorten(model, 56 * columns), fontsize=7, color=COLOURS["muted"])
    for index, (pixels, answer) in enumerate(entries):
        left = gap + index % columns * (side + bars + 2 * gap)
        top = height - gap - index // columns * step
        figure.text(left / width, top / height, shorten(answer.image, 44), fontsize=7, va="top", color=COLOURS["muted"])
        base = (top - 0.2 - side) / height
        picture = figure.add_axes((left / width, base, side / width, side / height))
        _draw_picture(picture, pixels)
        if answer.error is not None or pixels is None:
            reason = answer.error or "There is no picture to show."
            picture.text(0.5, 0.5, _wrap(reason, 24), transform=picture.transAxes, ha="center", va="center", fontsize=7)
        if answer.error is None:
            place = ((left + side + 0.12) / width, base, bars / width, side / height)
            _draw_answer(figure.add_axes(place), answer, class_names)
    return figure


def _draw_answer(axes: Axes, answer: Prediction, class_names: Sequence[str]) -> None:
    """One answer as a short bar chart: the class in bold, three decimals, and the given label where there is one."""
    axes.set(xlim=(0, 1), ylim=(5.0, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    first = 1 if answer.none_of_these else 0  # line of the likeliest class
    if answer.none_of_these:
        axes.text(0, 0.55, NONE_OF_THESE, fontsize=8, weight="bold", va="bottom", color=COLOURS["contrast"])
    order = np.argsort(np.negative(answer.probabilities), kind="stable")[: 4 - first]
    for line, index in enumerate(order, first):
        name, probability = shorten(class_names[index], 16), answer.probabilities[index]
        weight, colour = ("bold", "accent") if line == 0 else ("normal", "muted")
        axes.text(0, line + 0.55, name, fontsize=8, weight=weight, va="bottom")
        axes.text(1, line + 0.55, f"{probability:.3f}", fontsize=8, weight=weight, va="bottom", ha="right")
        axes.add_patch(Rectangle((0, line + 0.62), 1, 0.12, color=COLOURS["line"], lw=0))
        axes.add_patch(Rectangle((0, line + 0.62), probability, 0.12, color=COLOURS[colour], lw=0))
    note = describe_extras(answer)
    if note and answer.label is None:
        axes.text(0, 4.95, shorten(note, 34), fontsize=7, color=COLOURS["muted"])
    if answer.label is not None:
        tone = "right" if answer.label == answer.predicted_label else "wrong"
        text = f"{MARKS[tone]}given: {shorten(answer.label, 18)}"
        axes.text(0, 4.75, text, fontsize=7.5, color=COLOURS[_TONES[tone]], va="bottom")


def describe_extras(answer: Prediction) -> str:
    """Says in a line what the probabilities don't: what else is in the picture; may be empty."""
    tags = [f"{tag.name} {tag.share:.0%}" for tag in answer.tags]
    return ", ".join(tags) if len(tags) > 1 else ""


def describe_said(answer: Prediction) -> list[str]:
    """Says in lines what was answered; beside "none of these" the likeliest class, as a note."""
    if answer.none_of_these:
        return [f"predicted {NONE_OF_THESE}", f"(most probable {answer.predicted_label} {answer.confidence:.3f})"]
    return [f"predicted {answer.answer} {answer.confidence:.3f}"]


def _wrap(text: str, letters: int) -> str:
    """Breaks a text into at most six lines; a long word is cut, as names of files are."""
    line = shorten(text, 6 * letters - 24)
    return "\n".join(textwrap.wrap(line, letters)[:6])
