"""HTML for notebooks: tables, images and curves, escaped, without scripts, in the colors of the notebook's theme."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from belvedere.runtime.terminal import printable

BLUE, ORANGE, GREEN = "#2f7fb5", "#c9622f", "#2f8a61"  # legible on white and on black
MAX_NAME_LENGTH = 40
_STYLE = """
.belvedere { font-size: 13px; line-height: 1.45; color: inherit; max-width: 70rem; }
.belvedere p { margin: .25rem 0; }
.belvedere .title { font-weight: 600; margin: 1rem 0 .3rem; }
.belvedere > .title:first-of-type { font-size: 15px; margin-top: .2rem; }
.belvedere .quiet { opacity: .7; }
.belvedere .row { display: flex; flex-wrap: wrap; gap: .3rem 2.5rem; align-items: flex-start; }
.belvedere .scroll { overflow-x: auto; max-width: 100%; }
.belvedere table { border-collapse: collapse; border: 0; margin: 0; width: auto; display: table;
  font-size: 13px; font-variant-numeric: tabular-nums; }
.belvedere tr, .belvedere tbody tr:nth-child(odd), .belvedere tbody tr:hover { background: none !important; }
.belvedere th, .belvedere td { padding: .22rem .9rem .22rem 0; border: 0;
  border-bottom: 1px solid rgba(128,128,128,.3);
  text-align: right; vertical-align: baseline; max-width: 28rem; overflow-wrap: anywhere; white-space: normal;
  background: none; color: inherit; font-weight: 400; }
.belvedere th[scope=row], .belvedere td.text, .belvedere th.text { text-align: left; }
.belvedere thead th { opacity: .7; white-space: nowrap; }
.belvedere table.matrix td { padding: .22rem .5rem; text-align: center; min-width: 2.2rem; }
.belvedere table.matrix thead th { padding: .22rem .3rem; text-align: center; max-width: 6.5rem; overflow: hidden;
  text-overflow: ellipsis; }
.belvedere table.vertical thead th:not(.text) { writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; }
.belvedere table.matrix thead th.text { text-align: left; max-width: none; padding-left: 0; }
.belvedere table.predictions td, .belvedere table.predictions th { padding: .22rem .5rem; vertical-align: middle; }
.belvedere table.predictions td:not(.text) { white-space: nowrap; }
.belvedere .images { display: flex; flex-wrap: wrap; gap: .8rem; }
.belvedere figure { margin: 0; width: 128px; max-width: 100%; }
.belvedere figure img, .belvedere .missing { display: block; width: 128px; max-width: 100%; height: 104px; margin: 0;
  object-fit: contain; background: rgba(128,128,128,.12); border-radius: 3px; }
.belvedere .missing { line-height: 104px; text-align: center; opacity: .7; }
.belvedere figcaption { font-size: 11.5px; line-height: 1.35; margin-top: .2rem; overflow-wrap: anywhere; }
.belvedere figcaption span { display: block; opacity: .7; }
.belvedere figcaption span:first-child { opacity: 1; }
.belvedere svg text { fill: currentColor; opacity: .7; font-size: 11px; }
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """An image with a caption."""

    source: str  # data URI; empty where the file cannot be read
    lines: tuple[str, ...]  # of the caption


def escape(text: object) -> str:
    """Return a text for HTML, with escapes for control characters and invalid bytes."""
    return html.escape(printable(str(text)))


def block(*parts: str) -> str:
    """Return parts as one output of a notebook, with their style."""
    return f'<div class="belvedere"><style>{_STYLE}</style>{"".join(parts)}</div>'


def row(*parts: str) -> str:
    """Return parts side by side, if there is room."""
    return f'<div class="row">{"".join(f"<div class=scroll>{part}</div>" for part in parts if part)}</div>'


def title(text: str) -> str:
    """Return a title."""
    return f'<div class="title">{escape(text)}</div>'


def line(text: str, *, quiet: bool = False) -> str:
    """Return a line of text."""
    return f"<p{' class=quiet' if quiet else ''}>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int = 1) -> str:
    """Return a table whose first `num_texts` columns are left-aligned texts, the others right-aligned numbers."""
    head = "".join(
        f'<th scope="col"{" class=text" if index < num_texts else ""}>{escape(name)}</th>'
        for index, name in enumerate(header)
    )
    body = "".join(
        f"<tr>{''.join(_cell(index, cell, num_texts) for index, cell in enumerate(row))}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(index: int, text: str, num_texts: int) -> str:
    if index == 0:
        return f'<th scope="row">{escape(_shorten(text))}</th>'
    return f"<td{' class=text' if index < num_texts else ''}>{escape(text)}</td>"


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]], shades: Sequence[Sequence[float]]) -> str:
    """Return a confusion matrix: K names, counts (K, K), rows labels; shades (K, K) from 0 to 1."""
    style = "matrix vertical" if len(names) > 8 else "matrix"
    head = "".join(f'<th scope="col" title="{escape(name)}">{escape(_shorten(name))}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(_shorten(name))}</th>'
        + "".join(
            _shaded(count, shade, BLUE if column == index else ORANGE)
            for column, (count, shade) in enumerate(zip(counts[index], shades[index], strict=True))
        )
        + "</tr>"
        for index, name in enumerate(names)
    )
    corner = '<th class="text">label \N{RIGHTWARDS ARROW} prediction</th>'
    return f'<table class="{style}"><thead><tr>{corner}{head}</tr></thead><tbody>{body}</tbody></table>'


def _shaded(count: int, shade: float, color: str) -> str:
    if not count:
        return "<td></td>"
    alpha = round(255 * min(1.0, 0.08 + 0.5 * shade))
    return f'<td style="background: {color}{alpha:02x}">{count:,}</td>'


def images(figures: Sequence[Figure | None], columns: int | None = None) -> str:
    """Return images in rows, with captions; a note in place of one that cannot be read.

    Args:
        figures: The images; None leaves a place empty.
        columns: Images of a row; default: as many as there is room for.
    """
    grid = f' style="display: grid; grid-template-columns: repeat({columns}, minmax(0, 128px))"' if columns else ""
    return f'<div class="images"{grid}>{"".join(map(_figure, figures))}</div>' if figures else ""


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "<div></div>"
    caption = "".join(f"<span>{escape(text)}</span>" for text in figure.lines)
    alt = escape(", ".join(figure.lines))
    image = f'<img src="{figure.source}" alt="{alt}">' if figure.source else '<div class="missing">not readable</div>'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def curves(series: Sequence[tuple[str, str, Sequence[float]]], *, width: int = 420, height: int = 150) -> str:
    """Return line charts over the epochs, fractions from 0 to 1 as percent: name, color and values of each line."""
    low = min(min(values) for _, _, values in series)
    low = max(0.0, low - 0.1 * (1 - low))
    left, right, top, bottom = 40, width - 110, 8, height - 20

    def point(index: int, value: float, length: int) -> str:
        x = left + (right - left) * (index / (length - 1) if length > 1 else 0.5)
        return f"{x:.1f},{bottom - (bottom - top) * (value - low) / ((1 - low) or 1):.1f}"

    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor" opacity=".4"/>']
    num_epochs = max(len(values) for _, _, values in series)
    labels = (
        (left - 5, top + 4, "100%", "end"),
        (left - 5, bottom + 4, f"{low:.0%}", "end"),
        (left, height - 6, "1", "middle"),
        (right, height - 6, f"epoch {num_epochs}", "end"),
    )
    parts += [f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, text, anchor in labels]
    for index, (name, color, values) in enumerate(series):
        points = [point(position, value, len(values)) for position, value in enumerate(values)]
        x, y = points[-1].split(",")
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{color}"/>')
        parts.append(f'<rect x="{right + 12}" y="{top + 18 * index}" width="10" height="3" fill="{color}"/>')
        parts.append(f'<text x="{right + 27}" y="{top + 18 * index + 6}">{escape(name)}</text>')
    ends = ", ".join(f"{name} {values[-1]:.1%}" for name, _, values in series)
    label = escape(f"Curves that end at epoch {num_epochs}: {ends}")
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
