"""The report of a run: one HTML page that stands alone, and its figures as files.

Knows in which order and words a run is told to a person who was not there; does not know how a figure is drawn or
computed. Everything that comes from a user (names of files and classes, the configuration) is escaped, nothing is
fetched, and nothing on the page can run.
"""

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from belvedere.errors import UsageError
from belvedere.evaluation.report import image_grid, plots
from belvedere.evaluation.report.image_grid import Tile
from belvedere.evaluation.report.plots import Figure
from belvedere.runtime import files
from belvedere.types.data import ModelId, Note
from belvedere.types.evaluation import EpochFigures, Evaluation
from belvedere.types.model import ModelCard

# What was measured, by the part an evaluation names.
_MEASURED: Mapping[str, str] = {
    "test": "test photographs",
    "val": "validation photographs",
    "all": "photographs",
}
TEMPLATES = Path(__file__).parent / "templates"
_JPEG_QUALITY = 82
_DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells."""

    title: str  # what it is about, such as "runs/first"
    evaluation: Evaluation
    model: ModelId  # which one predicted
    card: ModelCard
    history: tuple[EpochFigures, ...]  # empty where nothing was trained
    notes: tuple[Note, ...]  # what was found in the photographs
    grids: Mapping[str, Sequence[Tile]]  # heading -> photographs
    mistakes: Sequence[Tile]  # the surest, worst first
    config: str  # the text of config.toml, may be empty
    command: str  # how it was made
    overlaid: bool = False  # whether beside each mistake is shown where the evidence is


@dataclass(frozen=True, slots=True)
class _Merit:
    """One large figure at the top of the page."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _Row:
    """One class in the table; a figure that can't be told is a dash with the reason."""

    name: str
    images: int
    figures: tuple[tuple[str, str, float | None], ...]  # name, text, and the share for its bar


@dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """One photograph on the page."""

    source: str  # a data URI
    width: int
    height: int
    lines: tuple[str, ...]  # its caption
    tone: str
    mark: str


def write_report(folder: Path, report: Report) -> None:
    """Writes `report.html`, which needs no other file, and the same figures into `figures/`.

    Args:
        folder: The folder of the run; it must exist.
        report: What to tell.

    Raises:
        UsageError: The folder can't be written to.
    """
    figures = _draw_figures(report)
    place = folder / "figures"
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"Can't make the folder {place}: {error.strerror}. Give another --out.") from error
    for name, figure in figures.items():
        plots.save_figure(figure, place, name)
    for name, (heading, tiles) in _name_grids(report).items():
        columns = 2 if name == "mistakes" and report.overlaid else 6
        plots.save_figure(image_grid.draw_grid(tiles, heading, columns), place, name, vector=False)
    charts = {name: _inline((place / f"{name}.svg").read_text(encoding="utf-8"), name) for name in figures}
    page = environment().get_template("report.html").render(_describe(report), charts=charts)
    # A file's name may hold bytes that are no text; they are shown as escapes.
    files.write_text(folder / "report.html", page.encode(errors="backslashreplace").decode())


def _draw_figures(report: Report) -> dict[str, Figure]:
    figures = {
        "confusion-counts": plots.draw_confusion(report.evaluation, shares=False),
        "confusion-shares": plots.draw_confusion(report.evaluation, shares=True),
        "calibration": plots.draw_calibration(report.evaluation),
    }
    if report.history:
        figures["history"] = plots.draw_history(report.history, report.card.provenance.best_epoch)
    return figures


def _name_grids(report: Report) -> dict[str, tuple[str, Sequence[Tile]]]:
    """The grids under names for files, which never come from a heading or a class."""
    grids = {f"photographs-{number}": grid for number, grid in enumerate(report.grids.items(), start=1)}
    if report.mistakes:
        grids["mistakes"] = ("Most confident mistakes", report.mistakes)
    return grids


def environment(templates: Path = TEMPLATES) -> Environment:
    """Returns what renders the house's pages: everything escaped, nothing undefined, numbers in words."""
    made = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=_percent, count=_count, decimals=_decimals, duration=_duration)
    return made


def _describe(report: Report) -> dict[str, object]:
    """Everything the template shows, in words where words are due."""
    evaluation = report.evaluation
    layers = report.card.layers
    return {
        "report": report,
        "card": report.card,
        "provenance": report.card.provenance,
        "evaluation": evaluation,
        "photographs": _MEASURED[evaluation.part],
        "verdict": _verdict(evaluation),
        "weakness": _weakness(evaluation),
        "cautions": _cautions(report),
        "merits": _merits(evaluation),
        "rows": _rows(evaluation),
        "numbered": len(evaluation.class_names) <= plots.NUMBERED_CLASSES,
        "calibration": _describe_calibration(evaluation),
        "overlaid": report.overlaid,
        "mistakes": [embed_tile(tile) for tile in report.mistakes],
        "grids": {heading: [embed_tile(tile) for tile in tiles] for heading, tiles in report.grids.items()},
        "parameters": sum(layer.parameters for layer in layers),
        "trainable": sum(layer.trainable for layer in layers),
        "colours": plots.COLOURS,
    }


def _right(evaluation: Evaluation) -> int:
    return sum(row[index] for index, row in enumerate(evaluation.confusion))


def _verdict(evaluation: Evaluation) -> str:
    return (
        f"Right on {_right(evaluation):,} of {evaluation.images:,} {_MEASURED[evaluation.part]}: "
        f"{_percent(evaluation.accuracy)}."
    )


def _weakness(evaluation: Evaluation) -> str:
    """Where it is wrong most, in a sentence or two; nothing where it is never wrong."""
    known = [(figures.recall, figures.name) for figures in evaluation.per_class if figures.recall is not None]
    if not evaluation.confused_pairs:
        return ""
    recall, name = min(known)
    pair = evaluation.confused_pairs[0]
    return (
        f"It finds {name} least well ({_percent(recall)} of its photographs). Its most frequent mistake: "
        f"{pair.label} predicted as {pair.predicted_label}, {_count(pair.images, 'time')}."
    )


def _cautions(report: Report) -> list[str]:
    """What a reader must know before believing the figures."""
    cautions = []
    if report.evaluation.part == "val":
        cautions.append(
            "These are the validation photographs. They chose which epoch was kept, so the figures are "
            "optimistic: expect somewhat less on photographs the model has never met."
        )
    if report.card.provenance.interrupted:
        epochs = _count(report.card.provenance.epochs, "epoch")
        cautions.append(f"Training was interrupted after {epochs}: a full run may do better.")
    if report.evaluation.none_of_these:
        images = _count(report.evaluation.none_of_these, "photograph")
        cautions.append(f"The answer to {images} is “none of these”; the figures count the likeliest class of each.")
    return cautions


def _merits(evaluation: Evaluation) -> tuple[_Merit, ...]:
    classes = len(evaluation.class_names)
    usual = _percent(max(map(sum, evaluation.confusion)) / evaluation.images)
    return (
        _Merit(
            "Accuracy",
            _percent(evaluation.accuracy),
            f"of them answered right. Always giving the most frequent class would reach {usual}.",
        ),
        _Merit(
            "Macro F1",
            _decimals(evaluation.macro_f1),
            "Precision and recall in one figure, every class counting alike. 1 is perfect.",
        ),
        _Merit(
            "Log loss",
            _decimals(evaluation.log_loss),
            f"How surprised the model is by the labels. 0 is perfect, {math.log(classes):.2f} is a blind "
            f"guess among {classes} classes.",
        ),
        _Merit(
            "Calibration error",
            _percent(evaluation.ece),
            "How far its confidence lies from the share it gets right, on average. 0 is perfect.",
        ),
    )


def _rows(evaluation: Evaluation) -> list[_Row]:
    rows = []
    for figures in evaluation.per_class:
        no_recall = "no photographs" if figures.images == 0 else "not known"
        no_precision = "never answered" if figures.images else "not known"
        no_f1 = no_recall if figures.recall is None else no_precision
        cells = (
            ("Precision", figures.precision, no_precision),
            ("Recall", figures.recall, no_recall),
            ("F1", figures.f1, no_f1),
        )
        texts = tuple(
            (name, f"{_DASH} {why}" if value is None else _percent(value), value) for name, value, why in cells
        )
        rows.append(_Row(figures.name, figures.images, texts))
    return rows


def _describe_calibration(evaluation: Evaluation) -> str:
    """Says whether the model trusts itself too much, over all photographs."""
    confidence = sum(each.confidence * each.images for each in evaluation.calibration) / evaluation.images
    lean = confidence - evaluation.accuracy
    means = f"On average it is {_percent(confidence)} sure and right on {_percent(evaluation.accuracy)}"
    if abs(lean) < 0.01:
        return f"{means}: its confidence can be taken at its word."
    return f"{means}: it is {'surer than it should be' if lean > 0 else 'better than it believes'}."


def embed_tile(tile: Tile) -> EmbeddedPicture:
    """A photograph as a JPEG inside the page, at its own size."""
    picture = Image.fromarray(np.ascontiguousarray(tile.pixels))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    lines = tuple(tile.caption.split("\n"))
    return EmbeddedPicture(source, picture.width, picture.height, lines, tile.tone, image_grid.MARKS[tile.tone])


def _inline(svg: str, name: str) -> str:
    """A chart's SVG as part of the page: its colours follow the page's, its identities can't meet another chart's.

    It goes in unescaped, which is safe: matplotlib writes texts as outlines, and their comments are taken out.
    """
    width, height = re.findall(r'(?:width|height)="([0-9.]+)pt"', svg)[:2]
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :].replace("xlink:href=", "href=")
    inside = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", inside)
    inside = re.sub(r"\n\s*", "\n", inside)
    for colour, value in plots.COLOURS.items():
        inside = inside.replace(value, f"var(--{colour})")
    pixels = round(float(width) * 4 / 3)  # of points
    return f'<svg viewBox="0 0 {width} {height}" width="{pixels}" aria-hidden="true">{inside}'


def _percent(share: float) -> str:
    return _DASH if math.isnan(share) else f"{share:.1%}"


def _decimals(figure: float, places: int = 3) -> str:
    return _DASH if math.isnan(figure) else f"{figure:.{places}f}"


def _count(number: int, noun: str = "") -> str:
    """A number with its noun: "1 file", "1,312 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if noun else f"{number:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
