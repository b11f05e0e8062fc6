"""Files and folders to answers, in the form that was asked for.

Knows how answers stream from a model to a table, a file and a contact sheet; does not know how a picture is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from belvedere.answer_files import SHEET_MARK, is_answers, is_sheet
from belvedere.errors import UnknownName, UnreadableImage, UsageError
from belvedere.images import RGB, read_image
from belvedere.inputs import Source
from belvedere.model import Model, count_pictures, expand, load
from belvedere.model_paths import BUNDLED, explain_missing, refuse_models, takes_model
from belvedere.output_file import Input, OutputFile
from belvedere.output_folder import new_folder
from belvedere.progress import Progress, Task
from belvedere.records import Prediction, WrittenRow
from belvedere.resizing import fit_image, within
from belvedere.resuming import RESUMABLE, Rows, open_rows
from belvedere.storage import always, write_bytes
from belvedere.tables import FORMS, Writer, open_writer

STDIN = Path("-")  # in place of images: their names come on stdin
SHEET_PICTURES = 60  # a contact sheet shows the first so many
SHEET_SIDE = 240  # longer side of a picture on it, pixels
TOLD_TOGETHER = 16  # pictures; telling of each would take as long as reading it
LONGEST_STEM = 60  # characters of a picture's name in that of its heat-map: a file's may have 255 bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it."""

    images: int
    unreadable: int


def choose_model(
    paths: Sequence[Path], *, model: Path | None = None, accept_rate: float | None = None
) -> tuple[Model, list[Path]]:
    """Open the model that is named, or that the first path means, or else the bundled one; return the images.

    Args:
        paths: Images and folders of them, after a model or not.
        model: A model; then all paths are images.
        accept_rate: As `load` takes it.

    Raises:
        UnreadableModel: The file is no model of Belvedere's.
        UsageError: The first path is not there, or one was meant to be a model and can't be.
    """
    named, images = model, list(paths)
    if model is None and images and takes_model(images[0]):
        named = images.pop(0)
    elif model is None and images and images[0] != STDIN and (missing := explain_missing(images[0])):
        raise UsageError(f"{missing} Give a model or images first.")
    images = list(refuse_models(images))
    return load(named or BUNDLED, accept_rate=accept_rate), images


def predict_files(
    model: Model,
    sources: Iterable[Source],
    form: str,
    *,
    out: Path | None = None,
    sheet: Path | None = None,
    heatmaps: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[Input] = (),
    spreadsheet: bool = False,
    progress: Progress | None = None,
) -> Answered:
    """Answers for files and folders, and writes the answers as they come.

    Args:
        model: The model.
        sources: Files and folders. Of an iterator, nobody is told how many are left.
        form: "table", "csv", "jsonl", "json" or "parquet".
        out: The file to write; None for stdout.
        sheet: A PNG to draw, with the first pictures and their answers.
        heatmaps: A folder for pictures of where the evidence for each tag is.
        resume: Whether to go on where the same job was cut off: with "csv", "jsonl" and "parquet", to a file.
        overwrite: Whether any file but those read, and older heat-maps, may be replaced; older answers always are.
        inputs: What else is read, such as the file with the names of the pictures.
        spreadsheet: Whether CSV cells that a spreadsheet would take for formulas are escaped.
        progress: Shows how far it is.

    Returns:
        How many there were, and how many could not be read.

    Raises:
        UnknownName: There is no such form.
        UsageError: There is nothing to answer for, a file can't be written, or what was left is another job's.
        FolderExists: Something else than an older answer is there.
        MissingExtra: Parquet is asked for and pyarrow is not installed.
    """
    progress, shown = progress or Progress(), list[Prediction]()
    _check_form(form, out, sheet, heatmaps, resume, spreadsheet)
    read = partial(_list_read, model, sources, inputs)
    file, drawn = _claim(out, overwrite, read, partial(is_answers, form=form)), _claim(sheet, overwrite, read, is_sheet)
    pictures = some_of(_apart(expand(sources), file, drawn), sources)
    with (
        _model_named(model, out, progress),
        _heatmap_writer(model, heatmaps, overwrite, chain((out, sheet), read())) as draw,
        _open(model, form, file, resume, spreadsheet) as (writer, rows),
        progress.task("Predicting", _count(sources)) as task,
    ):
        images, unreadable = _skip(pictures, rows, str(out))
        task.skip(images)
        for answer in _tell(model.stream(pictures, reduced=True), task):
            writer.write(answer)
            images += 1
            draw(images, answer)
            unreadable += answer.error is not None
            if sheet is not None and len(shown) < SHEET_PICTURES:
                shown.append(answer)
    _draw_sheet(drawn, shown, model, images, progress)
    return Answered(images, unreadable)


@contextmanager
def _model_named(model: Model, out: Path | None, progress: Progress) -> Iterator[None]:
    """Say which model answers: before the work, or below what is printed, if that could be."""
    line = f"Model: {model.identity}"
    if out is not None:
        progress.say(line)
    yield
    if out is None:
        progress.say(line)


def _count(sources: Iterable[Source]) -> int:
    """Count the images; 0 where that can't be done before the work."""
    return count_pictures(sources) or 0 if isinstance(sources, Sequence) else 0


def _tell(answers: Iterable[Prediction], task: Task) -> Iterator[Prediction]:
    """Passes answers on, and tells the task of a few at a time."""
    untold = 0
    for answer in answers:
        yield answer
        untold += 1
        if untold == TOLD_TOGETHER:
            task.advance(untold)
            untold = 0
    task.advance(untold)


def _claim(
    path: Path | None, overwrite: bool, read: Callable[[], Iterable[Input]], is_older: Callable[[Path], bool]
) -> OutputFile | None:
    return None if path is None else OutputFile(path, overwrite=overwrite, inputs=read, is_older=is_older)


def _list_read(model: Model, sources: Iterable[Source], inputs: Sequence[Input]) -> Iterator[Input]:
    """What must not be written over, as far as it is known before the work."""
    yield from (model.name, *inputs)
    if isinstance(sources, Sequence):
        yield from (source for source in expand(sources) if isinstance(source, Path | str))


def _apart(pictures: Iterator[Source], *files: OutputFile | None) -> Iterator[Source]:
    """Refuses a picture that would be written over, where that could not be known before the work."""
    there = [file for file in files if file is not None and file.exists]
    for picture in pictures:
        if isinstance(picture, Path | str):
            for file in there:
                file.refuse_input(picture)
        yield picture


@contextmanager
def _heatmap_writer(
    model: Model, folder: Path | None, overwrite: bool, inputs: Iterable[Input | None]
) -> Iterator[Callable[[int, Prediction], None]]:
    """What writes the pictures of where the evidence of an answer is into a new folder, a file an answer."""
    if folder is None:
        yield lambda _number, _answer: None
        return
    from belvedere.explaining import draw_tags
    from belvedere.plots import figure_bytes

    if not model.tells_places:
        raise UsageError(f"{model.name} can't tell where its evidence is: leave out --heatmaps, or train it again.")
    with new_folder(folder, overwrite=overwrite, inputs=inputs) as unfinished:

        def draw(number: int, answer: Prediction) -> None:
            if answer.error is None:
                name = f"{number:05}-{Path(answer.image).stem[:LONGEST_STEM]}.png"
                with suppress(UnreadableImage):  # it was there when it was answered for
                    write_bytes(unfinished / name, figure_bytes(draw_tags(model, answer), "png"))

        yield draw


def _check_form(
    form: str, out: Path | None, sheet: Path | None, heatmaps: Path | None, resume: bool, spreadsheet: bool
) -> None:
    if form not in (known := (*FORMS, "parquet")):
        raise UnknownName("form of answers", form, known)
    if spreadsheet and form != "csv":
        raise UsageError(f"--spreadsheet is for CSV. Received: {form}. Add --format csv, or leave it out.")
    if form == "parquet" and out is None:
        raise UsageError("Parquet can't be printed: give a file to write, such as --out answers.parquet.")
    if resume and (out is None or form not in RESUMABLE):
        raise UsageError("--resume goes with a file of CSV, JSON lines or Parquet: give --out, such as answers.csv.")
    if resume and (drawn := sheet or heatmaps) is not None:
        raise UsageError(f"{drawn} can't be drawn of a job that is taken up again. Leave it out, or --resume.")
    given = [place for place in (out, sheet, heatmaps) if place is not None]
    if len({place.resolve() for place in given}) < len(given):
        raise UsageError(f"Answers, sheet and heat-maps have different places. Received: {', '.join(map(str, given))}.")


@contextmanager
def _open(
    model: Model, form: str, out: OutputFile | None, resume: bool, spreadsheet: bool
) -> Iterator[tuple[Writer | Rows, Iterable[WrittenRow]]]:
    path, check = (None, always) if out is None else (out.path, out.check)
    special = path is not None and path.exists() and not path.is_file()  # a pipe, which has nothing to go on with
    if path is not None and form in RESUMABLE and not special:
        asked = {"resume": resume, "spreadsheet": spreadsheet}
        with open_rows(
            path, form, model.class_names, model.identity, model.fingerprint, check=check, **asked
        ) as opened:
            yield opened
    else:
        with open_writer(form, path, model.class_names, model.identity, check, spreadsheet=spreadsheet) as writer:
            yield writer, ()


def some_of(pictures: Iterator[Source], sources: Iterable[Source]) -> Iterator[Source]:
    """Refuses to begin where there is no picture."""
    first = next(pictures, None)
    if first is None:
        where = f" in {', '.join(map(str, sources))}" if isinstance(sources, Sequence) and sources else ""
        raise UsageError(f"There are no pictures{where}. Give files, or folders with some.")
    return chain([first], pictures)


def _skip(pictures: Iterator[Source], rows: Iterable[WrittenRow], out: str) -> tuple[int, int]:
    """Takes the pictures that have been answered for; returns how many, and how many of them were unreadable."""
    images = unreadable = 0
    for row in rows:
        picture = next(pictures, None)
        name = "picture" if isinstance(picture, bytes) else str(picture)
        if picture is None or _written(name) != _written(row.image):
            raise UsageError(
                f"The pictures are not those that {out} was begun with: expected {row.image} as number {images + 1:,}. "
                f"Received: {name}. Give the same ones in the same order, or leave out --resume to start anew."
            )
        images += 1
        unreadable += row.unreadable
    return images, unreadable


def _written(name: str) -> str:
    """A name as it stands in a file: bytes that are not UTF-8 as escapes."""
    return name.encode(errors="backslashreplace").decode()


def _draw_sheet(
    file: OutputFile | None, shown: Sequence[Prediction], model: Model, images: int, progress: Progress
) -> None:
    """Draw the contact sheet, if one is asked for, and say how many images it shows of how many."""
    if file is None:
        return
    from belvedere.pictures import draw_sheet  # here, since loading matplotlib takes longer than an answer
    from belvedere.plots import figure_bytes

    entries = [(_sheet_pixels(answer), answer) for answer in shown]
    drawn = draw_sheet(entries, model.class_names, str(model.identity))
    write_bytes(file.path, figure_bytes(drawn, "png", title=SHEET_MARK), file.check)
    if images > len(shown):
        progress.say(f"{file.path} shows the first {len(shown)} of {images:,} pictures.")


def _sheet_pixels(answer: Prediction) -> RGB | None:
    if answer.error is not None:
        return None
    try:
        pixels = read_image(answer.image)
    except UnreadableImage:
        return None  # it was there a moment ago
    return fit_image(pixels, within(pixels.shape[0], pixels.shape[1], SHEET_SIDE))
