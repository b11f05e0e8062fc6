"""HTML pages without external resources, rendered from Jinja templates with escaping.

Their only script is enlarge.js, which the content security policy names by its hash.
"""

import base64
import hashlib
import math
import re
import shlex
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
    path: str = ""  # of the file; empty where it is not shown
    command: str = ""  # that opens the image


def embed_image(
    pixels: RGB | None, caption: str, status: str = "plain", *, path: str = "", command: str = ""
) -> EmbeddedImage:
    """Return an image, (H, W, 3), for a page; None shows that the file is missing."""
    source = "" if pixels is None else to_data_uri(pixels, JPEG_QUALITY)
    height, width = (0, 0) if pixels is None else pixels.shape[:2]
    return EmbeddedImage(
        source, width, height, tuple(caption.split("\n")), status, MARKS.get(status, ""), path, command
    )


def explore_command(source: Path | str, path: Path | str) -> str:
    """Return the command that shows an image on the map of its run or dataset."""
    return f"belvedere explore {shlex.quote(str(source))} --image {shlex.quote(str(path))}"


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
    script = (TEMPLATES / "enlarge.js").read_text(encoding="utf-8")
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (
        open_templates(template.parent)
        .get_template(template.name)
        .render(context, colors=COLORS, script=script, script_sha256=sha256)
    )
    files.write_text(path, terminal.escape_surrogates(page))  # file names may hold invalid Unicode


def inline_svg(svg: str, name: str) -> str:
    """Return a chart's SVG for a page: colors as CSS variables, and ids that are unique on the page.

    It is not escaped. This is safe: matplotlib draws text as outlines, and comments are removed.
    """
    width, height = re.findall(r'(?:width|height)="([0-9.]+)pt"', svg)[:2]
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :].replace("xlink:href=", "href=")
    inside = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    for color, value in COLORS.items():
        inside = inside.replace(value, f"var(--{color})")
    pixels = round(float(width) * 4 / 3)  # of points
    return f'<svg viewBox="0 0 {width} {height}" width="{pixels}" aria-hidden="true">{inside}'


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
