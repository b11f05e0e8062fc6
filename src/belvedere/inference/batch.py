"""Files and folders to answers, in the form that was asked for.

Knows how answers stream from a model to a table, a file and whatever else takes them; does not know how a picture is
read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from belvedere.errors import UnknownNameError, UsageError
from belvedere.images.inputs import Source
from belvedere.images.listing import count_pictures, expand
from belvedere.inference.model import Model, load
from belvedere.inference.model_paths import BUNDLED, explain_missing, is_model_path, refuse_models
from belvedere.inference.writers.answer_files import is_answers
from belvedere.inference.writers.resumable import RESUMABLE, Rows, open_rows
from belvedere.inference.writers.text import FORMS, Writer, open_writer
from belvedere.runtime.files import always
from belvedere.runtime.output_file import Input, OutputFile
from belvedere.runtime.progress import Progress, Task
from belvedere.types.prediction import Prediction, ResumedRow

STDIN = Path("-")  # in place of images: their names come on stdin
PROGRESS_EVERY = 16  # pictures; telling of each would take as long as reading it


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
        InvalidModelError: The file is no model of Belvedere's.
        UsageError: The first path is not there, or one was meant to be a model and can't be.
    """
    named, images = model, list(paths)
    if model is None and images and is_model_path(images[0]):
        named = images.pop(0)
    elif model is None and images and images[0] != STDIN and (missing := explain_missing(images[0])):
        raise UsageError(f"{missing} Give a model or images first.")
    images = list(refuse_models(images))
    return load(named or BUNDLED, accept_rate=accept_rate), images


class Sink(Protocol):
    """Takes predictions as they come, beside the file of predictions (see `evaluation.report.sinks`)."""

    path: Path

    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> AbstractContextManager[None]:
        """Check the place, which is none of the inputs; finish after the block, unless that fails."""

    def refuse_input(self, source: Input) -> None:
        """Raise UsageError for an image that would be replaced, where that could not be known before."""

    def write(self, prediction: Prediction) -> None:
        """Take a prediction."""


def predict_files(
    model: Model,
    sources: Iterable[Source],
    form: str,
    *,
    out: Path | None = None,
    sinks: Sequence[Sink] = (),
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
        sinks: What else takes the predictions, such as a contact sheet.
        resume: Whether to go on where the same job was cut off: with "csv", "jsonl" and "parquet", to a file.
        overwrite: Whether any file but those read may be replaced; older answers always are.
        inputs: What else is read, such as the file with the names of the pictures.
        spreadsheet: Whether CSV cells that a spreadsheet would take for formulas are escaped.
        progress: Shows how far it is.

    Returns:
        How many there were, and how many could not be read.

    Raises:
        UnknownNameError: There is no such form.
        UsageError: There is nothing to answer for, a file can't be written, or what was left is another job's.
        OutputExistsError: Something else than an older answer is there.
        MissingDependencyError: Parquet is asked for and pyarrow is not installed.
    """
    progress = progress or Progress()
    places = [path for path in (out, *(sink.path for sink in sinks)) if path is not None]
    _check_form(form, out, places, resume, spreadsheet)
    read = partial(_list_read, model, sources, inputs)
    is_older = partial(is_answers, form=form)
    file = None if out is None else OutputFile(out, overwrite=overwrite, inputs=read, is_older=is_older)
    with ExitStack() as opened:
        for sink in sinks:
            others = [path for path in places if path != sink.path]
            opened.enter_context(sink.open(model, partial(_chain, others, read)))
        outputs: list[OutputFile | Sink] = [*sinks] if file is None else [file, *sinks]
        pictures = require_nonempty(_apart(expand(sources), outputs), sources)
        opened.enter_context(_model_named(model, out, progress))
        writer, rows = opened.enter_context(_open(model, form, file, resume, spreadsheet))
        with progress.task("Predicting", _count(sources)) as task:
            images, unreadable = _skip(pictures, rows, str(out))
            task.skip(images)
            for answer in _tell(model.stream(pictures, reduced=True), task):
                for each in (writer, *sinks):
                    each.write(answer)
                images += 1
                unreadable += answer.error is not None
    return Answered(images, unreadable)


def _chain(places: Iterable[Path], read: Callable[[], Iterable[Input]]) -> Iterator[Input]:
    yield from places
    yield from read()


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
        if untold == PROGRESS_EVERY:
            task.advance(untold)
            untold = 0
    task.advance(untold)


def _list_read(model: Model, sources: Iterable[Source], inputs: Sequence[Input]) -> Iterator[Input]:
    """What must not be written over, as far as it is known before the work."""
    yield from (model.name, *inputs)
    if isinstance(sources, Sequence):
        yield from (source for source in expand(sources) if isinstance(source, Path | str))


def _apart(pictures: Iterator[Source], files: Sequence[OutputFile | Sink]) -> Iterator[Source]:
    """Refuses a picture that would be written over, where that could not be known before the work."""
    for picture in pictures:
        if isinstance(picture, Path | str):
            for file in files:
                file.refuse_input(picture)
        yield picture


def _check_form(form: str, out: Path | None, places: Sequence[Path], resume: bool, spreadsheet: bool) -> None:
    if form not in (known := (*FORMS, "parquet")):
        raise UnknownNameError("form of answers", form, known)
    if spreadsheet and form != "csv":
        raise UsageError(f"--spreadsheet is for CSV. Received: {form}. Add --format csv, or leave it out.")
    if form == "parquet" and out is None:
        raise UsageError("Parquet can't be printed: give a file to write, such as --out answers.parquet.")
    if resume and (out is None or form not in RESUMABLE):
        raise UsageError("--resume goes with a file of CSV, JSON lines or Parquet: give --out, such as answers.csv.")
    if resume and places != [out]:
        raise UsageError(f"{places[-1]} can't be drawn of a job that is taken up again. Leave it out, or --resume.")
    if len({place.resolve() for place in places}) < len(places):
        raise UsageError(f"Results have different places. Received: {', '.join(map(str, places))}.")


@contextmanager
def _open(
    model: Model, form: str, out: OutputFile | None, resume: bool, spreadsheet: bool
) -> Iterator[tuple[Writer | Rows, Iterable[ResumedRow]]]:
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


def require_nonempty(pictures: Iterator[Source], sources: Iterable[Source]) -> Iterator[Source]:
    """Refuses to begin where there is no picture."""
    first = next(pictures, None)
    if first is None:
        where = f" in {', '.join(map(str, sources))}" if isinstance(sources, Sequence) and sources else ""
        raise UsageError(f"There are no pictures{where}. Give files, or folders with some.")
    return chain([first], pictures)


def _skip(pictures: Iterator[Source], rows: Iterable[ResumedRow], out: str) -> tuple[int, int]:
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
