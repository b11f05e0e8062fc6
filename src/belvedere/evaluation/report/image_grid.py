"""Image grids with captions, contact sheets and heatmaps of tags."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from belvedere.evaluation.report.heatmap_figures import compute_cam
from belvedere.evaluation.report.pages import COLORS, MARKS
from belvedere.evaluation.report.plots import style_context, truncate_middle
from belvedere.images.decode import RGB, read_image
from belvedere.images.heatmap import overlay
from belvedere.inference.model import Model
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.prediction import Prediction

HEATMAP_SIZE = 300  # longer side, pixels
MAX_TAGS = 5  # heatmaps of an image
_STATUS_COLORS: Mapping[str, str] = {"plain": "line", "right": "good", "wrong": "contrast"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One image in a grid."""

    pixels: RGB
    caption: str  # lines, separated by line breaks
    status: str = "plain"  # "plain", "right" or "wrong"
    path: str = ""  # of the file


@style_context()
def draw_grid(tiles: Sequence[Tile], title: str, columns: int = 6) -> Figure:
    """Draw images in rows of `columns`, each with its caption below."""
    size, gap, head = 1.5, 0.16, 0.5  # inches
    long = size * max(1.0, min((tile.pixels.shape[1] / tile.pixels.shape[0] for tile in tiles), default=1.0))
    lines = max((tile.caption.count("\n") + 1 for tile in tiles), default=1)
    step = size + 0.08 + 0.13 * lines + gap
    rows = -(-len(tiles) // columns)
    width, height = columns * (long + gap) + gap, head + max(rows, 1) * step
    figure = Figure(figsize=(width, height))
    # One set of axes for all images, in inches from the top left: one for each takes several times as long.
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.set_axis_off()
    page.text(gap, 0.17, truncate_middle(title, 14 * columns), fontsize=12, weight="bold", va="top")
    if not tiles:
        page.text(gap, height / 2, "No images.", color=COLORS["muted"])
    for index, tile in enumerate(tiles):
        left, top = gap + index % columns * (long + gap), head + index // columns * step
        _draw_framed(page, tile.pixels, (left, top, long, size), _STATUS_COLORS[tile.status])
        caption = MARKS[tile.status] + "\n".join(truncate_middle(line, 23) for line in tile.caption.split("\n"))
        color = COLORS["ink" if tile.status == "plain" else _STATUS_COLORS[tile.status]]
        page.text(left, top + size + 0.06, caption, color=color, fontsize=7.3, va="top")
    return figure


def _draw_framed(page: Axes, pixels: RGB, box: tuple[float, float, float, float], frame: str) -> None:
    """Draw an image with a frame, scaled into a box (left, top, width, height), centered at its top."""
    left, top, width, height = box
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    scaled_width, scaled_height = pixels.shape[1] * scale, pixels.shape[0] * scale
    left += (width - scaled_width) / 2
    page.imshow(pixels, extent=(left, left + scaled_width, top + scaled_height, top), aspect="auto")
    line = 0.8 if frame == "line" else 2.5  # points
    outline = Rectangle((left, top), scaled_width, scaled_height, fill=False, edgecolor=COLORS[frame], linewidth=line)
    page.add_patch(outline)


def draw_tags(model: Model, prediction: Prediction) -> Figure:
    """Draw the image of a prediction, and the heatmap of each of its tags.

    Raises:
        InvalidImageError: The file cannot be read any more.
    """
    path = Path(prediction.image)
    pixels, maps = compute_cam(model, read_image(path), HEATMAP_SIZE)
    tiles = [Tile(pixels, path.name)]
    label = str(prediction.predicted_label)
    if not prediction.tags:  # "none of these", or a model without fitted tags
        caption = f"most probable: {label}" if prediction.none_of_these else label
        tiles.append(Tile(overlay(pixels, maps[model.class_names.index(label)]), caption))
    for tag in prediction.tags[:MAX_TAGS]:
        caption = f"{tag.name} {tag.area_fraction:.0%}\n{tag.confidence:.1%} confident"
        tiles.append(Tile(overlay(pixels, maps[model.class_names.index(tag.name)]), caption))
    title = "None of these" if prediction.none_of_these else f"{label} {prediction.confidence:.1%}"
    return draw_grid(tiles, title, columns=len(tiles))


@style_context()
def draw_sheet(entries: Sequence[tuple[RGB | None, Prediction]], class_names: Sequence[str], model: str = "") -> Figure:
    """Draw a contact sheet: each image (None if unreadable), its label and its most probable classes."""
    size, bars, gap, step = 1.45, 1.55, 0.2, 2.0  # inches
    columns = min(3, max(len(entries), 1))
    rows = max(-(-len(entries) // columns), 1)
    width, height = columns * (size + bars + 2 * gap) + gap, rows * step + gap
    figure = Figure(figsize=(width, height))
    small: dict[str, Any] = {"fontsize": 7, "color": COLORS["muted"]}
    figure.text(gap / width, 0.1 / height, truncate_middle(model, 56 * columns), **small)
    for index, (pixels, prediction) in enumerate(entries):
        left = gap + index % columns * (size + bars + 2 * gap)
        top = height - gap - index // columns * step
        figure.text(left / width, top / height, truncate_middle(prediction.image, 44), va="top", **small)
        base = (top - 0.2 - size) / height
        axes = figure.add_axes((left / width, base, size / width, size / height))
        _draw_image(axes, pixels)
        if prediction.error is not None or pixels is None:
            reason = truncate_middle(prediction.error or "The image is no longer there.", 120)
            lines = "\n".join(textwrap.wrap(reason, 24)[:6])
            axes.text(0.5, 0.5, lines, transform=axes.transAxes, ha="center", va="center", fontsize=7)
        if prediction.error is None:
            box = ((left + size + 0.12) / width, base, bars / width, size / height)
            _draw_prediction(figure.add_axes(box), prediction, class_names)
    return figure


def _draw_image(axes: Axes, pixels: RGB | None) -> None:
    axes.set(xticks=[], yticks=[], facecolor=COLORS["line" if pixels is None else "paper"])
    if pixels is not None:
        axes.imshow(pixels)
        axes.set_anchor("N")
    axes.spines[:].set(visible=True, color=COLORS["line"], linewidth=0.8)


def _draw_prediction(axes: Axes, prediction: Prediction, class_names: Sequence[str]) -> None:
    """Draw a prediction as a short bar chart."""
    axes.set(xlim=(0, 1), ylim=(5.0, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    first = 1 if prediction.none_of_these else 0  # line of the most probable class
    if prediction.none_of_these:
        axes.text(0, 0.55, NONE_OF_THESE, fontsize=8, weight="bold", va="bottom", color=COLORS["contrast"])
    order = np.argsort(np.negative(prediction.probability_values), kind="stable")[: 4 - first]
    for line, index in enumerate(order, first):
        name, probability = truncate_middle(class_names[index], 16), prediction.probability_values[index]
        weight, color = ("bold", "accent") if line == 0 else ("normal", "muted")
        axes.text(0, line + 0.55, name, fontsize=8, weight=weight, va="bottom")
        axes.text(1, line + 0.55, f"{probability:.1%}", fontsize=8, weight=weight, va="bottom", ha="right")
        axes.add_patch(Rectangle((0, line + 0.62), 1, 0.12, color=COLORS["line"], lw=0))
        axes.add_patch(Rectangle((0, line + 0.62), probability, 0.12, color=COLORS[color], lw=0))
    if prediction.label is not None:
        status = "right" if prediction.label == prediction.predicted_label else "wrong"
        text = f"{MARKS[status]}labeled {truncate_middle(prediction.label, 18)}"
        axes.text(0, 4.75, text, fontsize=7.5, color=COLORS[_STATUS_COLORS[status]], va="bottom")
    elif len(prediction.tags) > 1:
        tags = ", ".join(f"{tag.name} {tag.area_fraction:.0%}" for tag in prediction.tags)
        axes.text(0, 4.95, truncate_middle(tags, 27), fontsize=7, color=COLORS["muted"])
