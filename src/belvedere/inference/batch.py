"""Predicts files and folders into a writer and sinks, as a stream."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from belvedere.errors import UsageError
from belvedere.images.inputs import Source, source_name
from belvedere.images.listing import SkippedFiles, count_images, is_folder, iter_images
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import BUNDLED, explain_missing, is_model_path, refuse_models
from belvedere.inference.writers.detect import is_predictions_file
from belvedere.inference.writers.resumable import RESUMABLE, ResumableWriter, open_resumable
from belvedere.inference.writers.text import WRITERS, Writer, open_writer
from belvedere.runtime.files import always
from belvedere.runtime.output_file import Input, OutputFile
from belvedere.runtime.progress import Progress, Task, choose_progress
from belvedere.runtime.terminal import count, escape_surrogates
from belvedere.types.data import DataWarning
from belvedere.types.prediction import Prediction, ResumedRow

STDIN = Path("-")  # instead of images: their paths are read from stdin
PROGRESS_EVERY = 16  # images; one update per image would take as long as reading it


@dataclass(frozen=True, slots=True)
class PredictionSummary:
    """Counts of a batch prediction."""

    num_images: int
    num_unreadable: int
    example: str = field(default="", compare=False)  # name of an unreadable image, and the reason

    def __str__(self) -> str:
        example = f"{': ' if self.num_unreadable == 1 else ', such as '}{self.example}" if self.example else ""
        return f"{self.num_unreadable:,} of {count(self.num_images, 'file')} could not be read{example}"


class Sink(Protocol):
    """Receives predictions beside the prediction file (see `evaluation.report.sinks`)."""

    path: Path

    def open(self, model: Model, inputs: Callable[[], Iterable[Input]]) -> AbstractContextManager[None]:
        """Check the output path, which must not be an input; finish after the block, unless it raises."""

    def refuse_input(self, source: Input) -> None:
        """Raise OutputExistsError for an input that the output would replace."""

    def write(self, prediction: Prediction) -> None:
        """Receive a prediction."""


def choose_model(
    paths: Sequence[Path],
    *,
    model: Path | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> tuple[Model, list[Path]]:
    """Open `model`, else the model that is the first path, else the bundled model; return it with the images.

    Args:
        paths: Images and folders, optionally after a model.
        model: A model; all paths are images then.
        accept_rate: See `load_model`.
        device: See `load_model`.
        threads: See `load_model`.

    Raises:
        InvalidModelError: The file is not a model of Belvedere.
        UsageError: The first path does not exist, or a path is a model where an image is expected.
    """
    chosen, images = model, list(paths)
    if model is None and images and is_model_path(images[0]):
        chosen = images.pop(0)
    elif model is None and images and images[0] != STDIN and (missing := explain_missing(images[0])):
        raise UsageError(f"{missing} Give images, or a model and then images.")
    images = list(refuse_models(images))
    return load_model(chosen or BUNDLED, accept_rate=accept_rate, device=device, threads=threads), images


def predict_files(
    model: Model,
    sources: Iterable[Source],
    format: str,
    *,
    out: Path | None = None,
    sinks: Sequence[Sink] = (),
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[Input] = (),
    spreadsheet: bool = False,
    progress: Progress | bool | None = None,
) -> PredictionSummary:
    """Predict files and folders and write the predictions as they come.

    Args:
        model: The model.
        sources: Files and folders; the progress bar of an iterator has no total.
        format: "csv", "jsonl", "json", "parquet", or a registered format.
        out: The file to write; None for stdout.
        sinks: Further receivers of the predictions, such as a contact sheet.
        resume: Whether to continue an interrupted run of the same call; for files of "csv", "jsonl" and "parquet".
        overwrite: Whether to replace any file but the inputs; prediction files are always replaced.
        inputs: Further files that are read, such as the list of images.
        spreadsheet: Whether to escape CSV cells that spreadsheets take for formulas.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Raises:
        UnknownNameError: The format is unknown.
        UsageError: There are no images, a file cannot be written, or the run to resume was another one.
        OutputExistsError: `out` exists and is not a prediction file.
        MissingDependencyError: The format is "parquet" and pyarrow is not installed.
    """
    progress = choose_progress(progress)
    outputs = [path for path in (out, *(sink.path for sink in sinks)) if path is not None]
    _check_options(format, out, outputs, resume, spreadsheet)
    list_inputs, is_older = partial(_list_inputs, model, sources, inputs), partial(is_predictions_file, format=format)
    file = None if out is None else OutputFile(out, overwrite=overwrite, inputs=list_inputs, is_older=is_older)
    skipped, model_line = SkippedFiles(), f"Model: {model.identity}"
    with ExitStack() as stack:
        for sink in sinks:
            others = [path for path in outputs if path != sink.path]
            stack.enter_context(sink.open(model, partial(_list_inputs, model, sources, [*others, *inputs])))
        images = _list_images(sources, (*filter(None, [file]), *sinks), skipped)
        if out is not None:
            progress.log(model_line)
        writer, rows = stack.enter_context(_open(model, format, file, resume, spreadsheet))
        total = count_images(sources) if isinstance(sources, Sequence) else None
        with progress.task("Predicting", total or 0) as task:
            (num_images, num_unreadable), example = _skip(images, rows, str(out)), ""
            task.resume_at(num_images)
            for prediction in _with_progress(model.predict_sources(images, draft=True), task):
                for each in (writer, *sinks):
                    each.write(prediction)
                num_images, num_unreadable = num_images + 1, num_unreadable + (prediction.error is not None)
                example = example or (f"{prediction.image}: {prediction.error}" if prediction.error else "")
    if out is None:  # after the output on stdout
        progress.log(model_line)
    log_skipped(skipped, progress)
    return PredictionSummary(num_images, num_unreadable, example)


def _with_progress(predictions: Iterable[Prediction], task: Task) -> Iterator[Prediction]:
    pending = 0
    for prediction in predictions:
        yield prediction
        pending += 1
        if pending == PROGRESS_EVERY:
            task.advance(pending)
            pending = 0
    task.advance(pending)


def _list_inputs(model: Model, sources: Iterable[Source], inputs: Sequence[Input]) -> Iterator[Input]:
    """Yield the files that must not be overwritten, as far as they are known in advance, and their folders."""
    yield from (model.name, *inputs)
    if isinstance(sources, Sequence):
        yield from (source for source in sources if is_folder(source))
        yield from (source for source in iter_images(sources) if isinstance(source, Path | str))


def _list_images(
    sources: Iterable[Source], outputs: Sequence[OutputFile | Sink], skipped: SkippedFiles
) -> Iterator[Source]:
    return require_nonempty(_refuse_outputs(iter_images(sources, skipped), outputs), sources, skipped)


def _refuse_outputs(images: Iterator[Source], outputs: Sequence[OutputFile | Sink]) -> Iterator[Source]:
    """Raise for an image that is also an output; images of an iterator are known only now."""
    for image in images:
        if isinstance(image, Path | str):
            for output in outputs:
                output.refuse_input(image)
        yield image


def _check_options(format: str, out: Path | None, outputs: Sequence[Path], resume: bool, spreadsheet: bool) -> None:
    spec = WRITERS.find(format)
    if spreadsheet and format != "csv":
        raise UsageError(f"`spreadsheet` is for CSV. Received: {format}. Set `format` to csv, or leave it out.")
    if spec.is_binary and out is None:
        raise UsageError(f"{format.capitalize()} cannot be printed. Give `out`, such as predictions.{format}.")
    if resume and (out is None or format not in RESUMABLE):
        raise UsageError(f"`resume` needs a file of {', '.join(RESUMABLE)}. Give `out`, such as predictions.csv.")
    if resume and outputs != [out]:
        raise UsageError(f"{outputs[-1]} cannot be drawn for a resumed run. Leave it out, or `resume`.")
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise UsageError(f"Outputs need different files. Received: {', '.join(map(str, outputs))}.")


@contextmanager
def _open(
    model: Model, format: str, out: OutputFile | None, resume: bool, spreadsheet: bool
) -> Iterator[tuple[Writer | ResumableWriter, Iterable[ResumedRow]]]:
    path, check = (None, always) if out is None else (out.path, out.check)
    names, identity = model.class_names, model.identity
    is_pipe = path is not None and path.exists() and not path.is_file()
    if path is None or format not in RESUMABLE or is_pipe:
        with open_writer(format, path, names, identity, check, spreadsheet=spreadsheet) as writer:
            yield writer, ()
    else:
        options = {"resume": resume, "spreadsheet": spreadsheet}
        with open_resumable(path, format, names, identity, model.fingerprint, check=check, **options) as opened:
            yield opened


def require_nonempty(images: Iterator[Source], sources: Iterable[Source], skipped: SkippedFiles) -> Iterator[Source]:
    """Return the images, or raise UsageError, with what was skipped, if there are none."""
    first = next(images, None)
    if first is None:
        where = f" in {', '.join(map(str, sources))}" if isinstance(sources, Sequence) and sources else ""
        found = f", only {skipped}" if skipped else ""
        raise UsageError(f"No images{where}{found}. Give image files, or folders with some.")
    return chain([first], images)


def log_skipped(skipped: SkippedFiles, progress: Progress) -> None:
    """Say which files of folders were skipped, if there are any."""
    if skipped:
        progress.log_warnings(
            [DataWarning(f"{count(skipped.total, 'file')} skipped: not an image ({skipped.suffixes})")]
        )


def _skip(images: Iterator[Source], rows: Iterable[ResumedRow], out: str) -> tuple[int, int]:
    """Skip the images whose rows an interrupted run wrote; return their number, and that of unreadable ones."""
    num_images = num_unreadable = 0
    for row in rows:
        image = next(images, None)
        name = "no image" if image is None else source_name(image)
        if image is None or escape_surrogates(name) != escape_surrogates(row.image):
            raise UsageError(
                f"Cannot resume {out}: the images changed. Expected {row.image} as number {num_images + 1:,}. "
                f"Received: {name}. Give the same images in the same order, or start over without `resume`."
            )
        num_images += 1
        num_unreadable += row.unreadable
    return num_images, num_unreadable
