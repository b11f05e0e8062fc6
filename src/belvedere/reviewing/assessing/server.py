"""Starts the assessment: reads models and images, runs the server of the page, and writes the report."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Literal, overload

import uvicorn

from belvedere.data.corrections.corrections_file import CorrectionsFile, damaged_lines_warning
from belvedere.data.dataset import Dataset
from belvedere.errors import UsageError
from belvedere.evaluation.report.assessment import write_assessment
from belvedere.inference.model import Model, as_model
from belvedere.reviewing.assessing.app import AssessmentContext, create_app
from belvedere.reviewing.assessing.images import read_images
from belvedere.reviewing.assessing.output import MIN_ANSWERS, make_assessment
from belvedere.reviewing.assessing.session import AssessmentSession
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_server import HOST, PORT, PageServer, user_name
from belvedere.runtime.dependencies import require
from belvedere.runtime.files import beside
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.output_folder import check_output_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.types.assessment import ASSESSMENT, Assessment

BUDGET = 100
OUT = "assessment"
ANNOTATIONS_SUFFIX = ".annotations.jsonl"  # of the file with the answers, beside the results


@overload
def assess(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str = OUT,
    budget: int = BUDGET,
    against: Model | Path | str | None = None,
    unlabeled: bool = False,
    repeats: int = 0,
    annotations: Path | str | None = None,
    page: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: Literal[True] = True,
) -> Assessment: ...


@overload
def assess(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str = OUT,
    budget: int = BUDGET,
    against: Model | Path | str | None = None,
    unlabeled: bool = False,
    repeats: int = 0,
    annotations: Path | str | None = None,
    page: Literal[True] = True,
    seed: int = 0,
    overwrite: bool = False,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: Literal[False],
) -> "BackgroundAssessment": ...


def assess(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str = OUT,
    budget: int = BUDGET,
    against: Model | Path | str | None = None,
    unlabeled: bool = False,
    repeats: int = 0,
    annotations: Path | str | None = None,
    page: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: bool = True,
) -> "Assessment | BackgroundAssessment":
    """Estimate the accuracy of a model on true labels, from images that a person classifies on a local page.

    Ctrl-C ends the page, and the results are written. The same call continues; a larger budget extends the sample.

    Args:
        model: Model, model.onnx or run folder.
        data: Images with labels that may be wrong, as for `evaluate`, of which the same split is used.
        out: Folder for report.html and assessment.json. An older assessment there is replaced.
        budget: Number of images to classify. Choose it before the first answer.
        against: Another model, whose difference in accuracy is estimated on the same images.
        unlabeled: Whether `data` is any folder of images without labels.
        repeats: Number of the images that a second person classifies as well, to measure how often people disagree.
        annotations: File for the answers, which are appended; default: one beside `out`.
        page: Whether to serve the page. False writes the results of the answers so far.
        seed: Seed of the sample.
        overwrite: Whether to replace another results folder.
        host: Address to listen on. Addresses of other machines require a token, which is printed.
        port: Port to listen on; 0 for any free one.
        annotator: Name recorded with each answer, unless the page has another. Default: the user's name.
        progress: Reports the address and the progress.
        block: Whether to serve until Ctrl-C. False serves in a thread, as a notebook needs it.

    Returns:
        The assessment. If `block` is False, and `page` is not: the running page, with `url`, `stop()` and `assessment`.

    Raises:
        UsageError: There are fewer than two answers, or the page cannot be served from this thread.
        OutputExistsError: `out` exists and may not be replaced.
        BelvedereError: A file cannot be read, or the address is not available.
    """
    if page and block:
        check_main_thread("assess", "belvedere", "assess", str(model), str(data))
    resolved = Path(os.path.realpath(out))  # a loop of links is reported where the folder is checked
    answers = CorrectionsFile(Path(annotations or beside(resolved, ANNOTATIONS_SUFFIX)))
    progress = choose_progress(progress)
    inputs = [*_check_inputs(model, data, against, budget, repeats), answers.path]
    results = _Results(Path(out), seed, overwrite, inputs)
    open_session = partial(_open_session, model, against, data, answers, budget, repeats, unlabeled, seed, progress)
    if not page:
        return results.write(open_session())
    return _serve(PageServer("Assess", host, port, block=block), open_session, results, annotator, progress, block)


class BackgroundAssessment(BackgroundServer):
    """An assessment in a thread.

    Attributes:
        url: Address of its page, with the token if it needs one.
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, url: str, write: Callable[[], Assessment]
    ) -> None:
        self._write = write
        super().__init__(server, listener, url)

    @property
    def assessment(self) -> Assessment:
        """The estimates of the answers so far, of which there must be two; this writes the report."""
        return self._write()


class _Results:
    """The folder of the results, which are written from the answers so far."""

    def __init__(self, out: Path, seed: int, overwrite: bool, inputs: Sequence[Path | str]) -> None:
        self._out, self._seed, self._overwrite, self._inputs = out, seed, overwrite, inputs
        check_output_folder(out, overwrite=self._replaces(), inputs=inputs)

    def write(self, session: AssessmentSession) -> Assessment:
        assessment = make_assessment(session, self._seed)
        write_assessment(self._out, assessment, overwrite=self._replaces(), inputs=self._inputs)
        return assessment

    def _replaces(self) -> bool:
        return self._overwrite or (self._out / ASSESSMENT).is_file()  # everything in it follows from the answers


def _open_session(
    model: Model | Path | str,
    against: Model | Path | str | None,
    data: Dataset | Path | str,
    answers: CorrectionsFile,
    budget: int,
    repeats: int,
    unlabeled: bool,
    seed: int,
    progress: Progress,
) -> AssessmentSession:
    models = [as_model(each) for each in (model, against) if each is not None]
    found = read_images(models, data, seed, progress, unlabeled=unlabeled)
    progress.log_warnings((*found.warnings, *damaged_lines_warning(answers.path, answers.damaged)))
    return AssessmentSession(found, answers, budget, repeats)


def _serve(
    page: PageServer,
    open_session: Callable[[], AssessmentSession],
    results: _Results,
    annotator: str | None,
    progress: Progress,
    block: bool,
) -> Assessment | BackgroundAssessment:
    """Serve the page until Ctrl-C and write the results, or in a thread."""
    with ExitStack() as stack:
        stack.enter_context(page)
        session = open_session()
        app = create_app(AssessmentContext(session, Gallery(), annotator or user_name()), page.guard)
        if block:
            stack.enter_context(suppress(KeyboardInterrupt))  # the regular end
        page.log_address(progress)
        server = page.create(app)
        if not block:
            stack.pop_all()  # the thread closes the socket
            return BackgroundAssessment(server, page.listener, page.url, partial(results.write, session))
        server.run(sockets=[page.listener])
    return results.write(session)


def _check_inputs(
    model: Model | Path | str, data: Dataset | Path | str, against: Model | Path | str | None, budget: int, repeats: int
) -> list[Path | str]:
    """Check the arguments before the work, and return the files that are read, which the results must not replace."""
    require("report", "A report")
    if budget < MIN_ANSWERS or repeats < 0:
        raise UsageError(
            f"`budget` must be at least {MIN_ANSWERS} and `repeats` at least 0. Received: {budget} and {repeats}."
        )
    models = [each.name if isinstance(each, Model) else each for each in (model, against) if each is not None]
    return [*models, *(data.list_files() if isinstance(data, Dataset) else [data])]
