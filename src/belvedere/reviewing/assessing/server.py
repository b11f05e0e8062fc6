"""Starts the assessment: reads models and images, runs the server of the page, and writes the report."""

from contextlib import nullcontext, suppress
from pathlib import Path

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
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.output_folder import check_output_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.types.assessment import ASSESSMENT, Assessment

BUDGET = 100
OUT = "assessment"
ANNOTATIONS_SUFFIX = ".annotations.jsonl"  # of the file with the answers, beside the results


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
) -> Assessment:
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

    Raises:
        UsageError: There are fewer than two answers, or the page cannot be served from this thread.
        OutputExistsError: `out` exists and may not be replaced.
        BelvedereError: A file cannot be read, or the address is not available.
    """
    if page:
        check_main_thread("assess", "belvedere", "assess", str(model), str(data))
    out, progress = Path(out), choose_progress(progress)
    overwrite = overwrite or (out / ASSESSMENT).is_file()  # everything in it follows from the answers
    answers = CorrectionsFile(Path(annotations or _beside(out)))
    inputs = [*_check_inputs(model, data, against, budget, repeats), answers.path]
    check_output_folder(out, overwrite=overwrite, inputs=inputs)
    with PageServer("Assess", host, port, block=True) if page else nullcontext() as server:
        models = [as_model(each) for each in (model, against) if each is not None]
        found = read_images(models, data, seed, progress, unlabeled=unlabeled)
        progress.log_warnings((*found.warnings, *damaged_lines_warning(answers.path, answers.damaged)))
        session = AssessmentSession(found, answers, budget, repeats)
        if server is not None:
            _serve(server, AssessmentContext(session, Gallery(), annotator or user_name()), progress)
    write_assessment(out, assessment := make_assessment(session, seed), overwrite=overwrite, inputs=inputs)
    return assessment


def _serve(page: PageServer, context: AssessmentContext, progress: Progress) -> None:
    """Serve the page until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        page.log_address(progress)
        page.create(create_app(context, page.guard)).run(sockets=[page.listener])


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


def _beside(out: Path) -> Path:
    """Return the default path of the answers."""
    resolved = out.resolve()
    return resolved.with_name(resolved.name + ANNOTATIONS_SUFFIX)
