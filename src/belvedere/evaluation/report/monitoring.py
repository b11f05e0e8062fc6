"""The report of new images beside the test images of a run: page, JSON and the images to label."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from belvedere.evaluation.monitoring.result import SIGNIFICANCE, ChosenImage, DriftReport
from belvedere.evaluation.report.monitoring_text import (
    CAVEAT,
    TEST_TITLES,
    class_rows,
    describe_accuracy,
    describe_changes,
    headline_rows,
    show_p_value,
)
from belvedere.evaluation.report.pages import TEMPLATES, EmbeddedImage, embed_image, inline_svg, percent, write_page
from belvedere.evaluation.report.plots import draw_periods, figure_bytes
from belvedere.evaluation.report.sinks import MAX_STEM_LENGTH
from belvedere.images.encode import thumbnail_or_none
from belvedere.images.listing import IMAGE_SUFFIXES
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.serialization import write_csv, write_json

IMAGE_SIZE = 220  # longer side, pixels
TO_LABEL = "to_label"  # folder of copies of images, and the table of their origin


def write_monitoring(folder: Path, report: DriftReport, *, overwrite: bool, inputs: Sequence[Path] = ()) -> Path:
    """Write report.html, monitor.json and the images to label, and return the path of the page.

    Raises:
        UsageError: The folder cannot be written.
        OutputExistsError: It exists and may not be replaced.
    """
    with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as unfinished:
        write_json(unfinished / "monitor.json", report.to_dict())
        copied = _write_to_label(unfinished, report.to_label) if report.to_label else []
        write_page(
            unfinished / "report.html",
            TEMPLATES / "monitor.html",
            report=report,
            summary=describe_changes(report),
            accuracy=describe_accuracy(report),
            headlines=headline_rows(report),
            titles=TEST_TITLES,
            rows=class_rows(report),
            chart=_draw_chart(report) if len(report.periods) > 1 else "",
            caveat=CAVEAT,
            show_p_value=show_p_value,
            significance=SIGNIFICANCE,
            unusual=[_embed(each) for each in report.unusual],
            to_label=[_embed(each) for each in copied],
            folder=str(folder / TO_LABEL),
        )
    return folder / "report.html"


def _draw_chart(report: DriftReport) -> str:
    return inline_svg(figure_bytes(draw_periods(report.periods), "svg").decode(), "periods")


def _write_to_label(folder: Path, images: Sequence[ChosenImage]) -> list[ChosenImage]:
    """Copy the images into a folder, which commands for unlabeled images read, and write where they are from.

    Returns:
        The images of which there are copies.
    """
    (folder / TO_LABEL).mkdir()
    rows, copied = [], []
    for number, each in enumerate(images, start=1):
        path = Path(each.image)
        suffix = path.suffix if path.suffix.lower() in IMAGE_SUFFIXES else ""  # then it is known by its content
        copy = f"{number:02}-{path.stem[:MAX_STEM_LENGTH]}{suffix}"
        with suppress(FileNotFoundError):  # it may have gone since
            shutil.copyfile(path, folder / TO_LABEL / copy)
            copied.append(each)
            score = each.none_of_these_score
            rows.append((copy, each.image, each.predicted_label, each.confidence, score, each.reason))
    header = ("copy", "image", "predicted_label", "confidence", "none_of_these_score", "reason")
    write_csv(folder / f"{TO_LABEL}.csv", header, rows)
    return copied


def _embed(each: ChosenImage) -> EmbeddedImage:
    pixels = thumbnail_or_none(each.image, IMAGE_SIZE)
    score = "" if each.none_of_these_score is None else f"\nnone of these: {percent(each.none_of_these_score)}"
    return embed_image(
        pixels, f"{each.predicted_label} {percent(each.confidence)}{score}\n{Path(each.image).name}", path=each.image
    )
