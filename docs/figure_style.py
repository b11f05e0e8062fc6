"""The style that the figures of docs/figures.py share: size, axes, bars, and how they are written."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from belvedere.evaluation.report.pages import COLORS
from belvedere.images.decode import RGB

OUT = Path(__file__).parent / "concepts"
WIDTH = 4.6  # inches; at the width of a phone the text still has 9 pixels
DPI = 160
NUM_COLORS = 128  # of a PNG's palette


def new_figure(height: float) -> Figure:
    """Return an empty figure of the width of a phone."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def divide(figure: Figure, heights: Sequence[float]) -> tuple[SubFigure, SubFigure]:
    """Divide a figure into an upper and a lower part, of which each has its own columns."""
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).ravel()
    return upper, lower


def save(figure: Figure, name: str) -> None:
    """Write a figure as a PNG with a palette, which is a third of the size."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    with Image.open(content) as image:
        palette = image.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE)
    palette.save(OUT / f"{name}.png", optimize=True)
    print(f"{name}.png: {(OUT / f'{name}.png').stat().st_size / 1000:.0f} kB")


def percent_axis(axes: Axes, axis: str, upper: float = 1.0) -> None:
    """Make an axis show 0 to 100%, with a grid."""
    axes.grid(axis="x" if axis == "x" else "y")
    (axes.xaxis if axis == "x" else axes.yaxis).set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(**{f"{axis}lim": (0, upper)})


def show(axes: Axes, pixels: RGB, title: str) -> None:
    """Show an image without axes."""
    axes.imshow(pixels)
    axes.set_axis_off()
    axes.set_title(title, loc="center", fontsize=9.5, fontweight="normal")


def draw_bars(axes: Axes, names: Sequence[str], values: Sequence[float], colors: Sequence[str]) -> None:
    """Draw horizontal bars of fractions, the first on top, with their values."""
    positions = range(len(names))
    axes.barh(positions, values, color=colors, height=0.72)
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    for position, value in zip(positions, values, strict=True):
        inside = value > 0.5
        axes.annotate(
            f"{value:.1%}",
            (0 if inside else value, position),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=COLORS["on-accent"] if inside else COLORS["ink"],
            fontsize=9,
        )
    percent_axis(axes, "x")
    axes.tick_params(axis="y", length=0)


def draw_strips(axes: Axes, groups: Mapping[str, NDArray[np.float64]], threshold: float) -> None:
    """Draw a row of points for each group of scores."""
    random = np.random.default_rng(0)
    for row, scores in enumerate(groups.values()):
        distances = scores - threshold
        heights = row + random.uniform(-0.28, 0.28, len(scores))
        for chosen, color in ((distances <= 0, COLORS["accent"]), (distances > 0, COLORS["contrast"])):
            axes.plot(distances[chosen], heights[chosen], "o", ms=3.5, mew=0, alpha=0.55, color=color)
    axes.axvline(0, color=COLORS["ink"], lw=1.2, dashes=(4, 3))
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("symlog", linthresh=2)
    ticks = (-10, 0, 1, 10, 100)
    axes.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("Score minus threshold; orange: none of these")
