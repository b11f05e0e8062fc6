"""HTML pages without external resources or scripts, rendered from Jinja templates with escaping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from belvedere.images.decode import RGB
from belvedere.images.encode import to_data_uri
from belvedere.runtime import files, terminal

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 82
DASH = "\N{EN DASH}"
# Each color has one role, so that a page can replace it in dark mode.
COLORS: Mapping[str, str] = {
    "paper": "#ffffff",
    "ink": "#1b2733",
    "muted": "#64707d",
    "line": "#dce1e6",
    "accent": "#1f6391",
    "contrast": "#bd5426",
    "good": "#2a7a56",
    "on-accent": "#fdfdfd",
}
MARKS: Mapping[str, str] = {"plain": "", "right": "✓ ", "wrong": "✗ "}


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image inside a page."""

    source: str  # data URI; empty where the file cannot be read
    width: int
    height: int
    lines: tuple[str, ...]  # of the caption
    status: str  # "plain", "right", "wrong", or a CSS class of the page
    mark: str


def embed_image(pixels: RGB | None, caption: str, status: str = "plain") -> EmbeddedImage:
    """Return an image, (H, W, 3), for a page; None shows that the file is missing."""
    source = "" if pixels is None else to_data_uri(pixels, JPEG_QUALITY)
    height, width = (0, 0) if pixels is None else pixels.shape[:2]
    return EmbeddedImage(source, width, height, tuple(caption.split("\n")), status, MARKS.get(status, ""))


def open_templates(folder: Path) -> "Environment":
    """Open the templates of a folder, which may use base.html and macros.html of reports, with escaping."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # of the extra `report`

    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points, count=count, decimals=decimals, duration=duration)
    return environment


def write_page(path: Path, template: Path, **context: object) -> None:
    """Render a template, which may extend base.html, and write the page.

    Args:
        path: File to write.
        template: Template file.
        **context: Variables of the template, escaped when they are shown.

    Raises:
        UsageError: The file cannot be written.
    """
    page = open_templates(template.parent).get_template(template.name).render(context, colors=COLORS)
    files.write_text(path, terminal.escape_surrogates(page))  # file names may hold invalid Unicode


def percent(fraction: float) -> str:
    """Return a fraction as `50.5%`."""
    return DASH if math.isnan(fraction) else f"{fraction:.1%}"


def points(change: float) -> str:
    """Return a change of a fraction in percentage points, such as `+1.5 points`."""
    return f"{100 * change:+.1f} points"


def decimals(value: float, places: int = 3) -> str:
    """Return a number with fixed decimals."""
    return DASH if math.isnan(value) else f"{value:.{places}f}"


def count(number: int, noun: str = "", plural: str | None = None) -> str:
    """Return a number, with its noun if there is one: "1 file", "1,312 files"."""
    return terminal.count(number, noun, plural) if noun else f"{number:,}"


def duration(seconds: float) -> str:
    """Return a duration, such as `1 h 2 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
