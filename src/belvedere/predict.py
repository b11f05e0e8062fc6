"""Files and folders to answers, in the form that was asked for.

Knows how answers stream from a model to a table, a file and a contact sheet; does not know how a picture is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.errors import UnreadableImage, UsageError
from belvedere.images import RGB, fit_image, read_image, within
from belvedere.model import Model, Source, count_pictures, expand, load, takes_model
from belvedere.progress import Progress
from belvedere.records import Prediction
from belvedere.storage import write_bytes
from belvedere.tables import open_writer

SHEET_PICTURES = 60  # a contact sheet shows the first so many
SHEET_SIDE = 240  # longer side of a picture on it, pixels


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it."""

    images: int
    unreadable: int


def choose_model(paths: Sequence[Path]) -> tuple[Model, list[Path]]:
    """Opens the model that the first path means, or the bundled one, and returns the others.

    Raises:
        UnreadableModel: The file is no model of Belvedere's.
    """
    if paths and takes_model(paths[0]):
        return load(paths[0]), list(paths[1:])
    return load(), list(paths)


def predict_files(
    model: Model,
    sources: Sequence[Source],
    form: str,
    *,
    out: Path | None = None,
    sheet: Path | None = None,
    progress: Progress | None = None,
) -> Answered:
    """Answers for files and folders, and writes the answers as they come.

    Args:
        model: The model.
        sources: Files and folders.
        form: "table", "csv", "jsonl" or "json".
        out: The file to write; None for stdout.
        sheet: A PNG to draw, with the first pictures and their answers.
        progress: Shows how far it is.

    Returns:
        How many there were, and how many could not be read.

    Raises:
        UnknownName: There is no such form.
        UsageError: There is nothing to answer for, or a file can't be written or is one of the sources.
    """
    progress = progress or Progress()
    total = count_pictures(sources)
    if not total:
        where = f" in {', '.join(map(str, sources))}" if sources else ""
        raise UsageError(f"There are no pictures{where}. Give files, or folders with some.")
    for file in (out, sheet):
        if file is not None:
            _check_writable(file, sources)
    shown: list[Prediction] = []
    images = unreadable = 0
    with open_writer(form, out, model.class_names) as writer, progress.task("Predicting", total) as task:
        for answer in model.stream(expand(sources)):
            writer.write(answer)
            images += 1
            unreadable += answer.error is not None
            if sheet is not None and len(shown) < SHEET_PICTURES:
                shown.append(answer)
            task.advance(1)
    if sheet is not None:
        _draw_sheet(sheet, shown, model.class_names)
        if images > SHEET_PICTURES:
            progress.say(f"{sheet} shows the first {SHEET_PICTURES} of {images:,} pictures.")
    return Answered(images, unreadable)


def _draw_sheet(file: Path, shown: Sequence[Prediction], class_names: Sequence[str]) -> None:
    from belvedere.plots import draw_sheet, figure_bytes  # here, since loading matplotlib takes longer than an answer

    entries = [(_sheet_pixels(answer), answer) for answer in shown]
    write_bytes(file, figure_bytes(draw_sheet(entries, class_names), "png"))


def _check_writable(file: Path, sources: Sequence[Source]) -> None:
    """Refuses what can't or must not be written before the work is done for it."""
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else f"is in {file.parent}, which is not a folder"
        raise UsageError(f"{file} {what}. Expected the name of a file to write.")
    if file.exists() and any(_is_same(file, source) for source in expand(sources)):
        raise UsageError(f"{file} is one of the pictures to answer for. Give another file to write.")


def _is_same(file: Path, source: Source) -> bool:
    try:
        return not isinstance(source, bytes) and file.samefile(source)
    except (OSError, ValueError):
        return False  # not there: reading it says so


def _sheet_pixels(answer: Prediction) -> RGB | None:
    if answer.error is not None:
        return None
    try:
        pixels = read_image(answer.image)
    except UnreadableImage:
        return None  # it was there a moment ago
    return fit_image(pixels, within(pixels.shape[0], pixels.shape[1], SHEET_SIDE))
