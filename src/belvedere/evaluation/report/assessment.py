"""The page of an assessment."""

from collections.abc import Sequence
from pathlib import Path

from belvedere.evaluation.report.pages import DASH, TEMPLATES, EmbeddedImage, embed_image, percent, points, write_page
from belvedere.images.encode import thumbnail_or_none
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.serialization import write_json
from belvedere.runtime.terminal import count
from belvedere.types.assessment import (
    ASSESSMENT,
    UNSURE,
    Assessment,
    ClassAssessment,
    Estimate,
    ModelAssessment,
    ReviewedImage,
)

REPORT = "report.html"
MAX_IMAGES = 48  # of each section
IMAGE_SIZE = 220  # longer side, pixels
FEW_IMAGES = 10  # of a class; below, a note says that the interval is wide


def write_assessment(
    folder: Path, assessment: Assessment, *, overwrite: bool, inputs: Sequence[Path | str] = ()
) -> Path:
    """Write report.html and assessment.json, and return the path of the page; `inputs` are never replaced.

    Raises:
        UsageError: The folder cannot be written.
        OutputExistsError: It exists and may not be replaced.
    """
    with atomic_folder(folder, overwrite=overwrite, inputs=inputs) as unfinished:
        write_json(unfinished / ASSESSMENT, assessment.to_dict())
        write_page(
            unfinished / REPORT,
            TEMPLATES / "assessment.html",
            assessment=assessment,
            models=[(each, model_rows(each), class_rows(each)) for each in assessment.models],
            data_rows=data_rows(assessment),
            notes=describe_notes(assessment),
            change="" if assessment.accuracy_change is None else describe_change(assessment.accuracy_change),
            interval=describe_interval,
            sections=[
                (title, len(images), [_embed(each, status) for each in images[:MAX_IMAGES]])
                for title, status, images in _sections(assessment)
                if images
            ],
        )
    return folder / REPORT


def describe_interval(estimate: Estimate) -> str:
    """Return a value with its interval, such as `92.1% (88.0 to 95.2%)`."""
    if estimate.value is None:
        return DASH
    return f"{percent(estimate.value)} ({100 * estimate.ci_low:.1f} to {percent(estimate.ci_high)})"


def describe_change(estimate: Estimate) -> str:
    """Return a difference with its interval in percentage points."""
    interval = f"{100 * estimate.ci_low:+.1f} to {points(estimate.ci_high)}"
    return f"{100 * (estimate.value or 0.0):+.1f} points ({interval})"


def describe_accuracy(assessment: Assessment) -> str:
    """Return the accuracy and what it rests on as one sentence."""
    images = count(assessment.num_reviewed, "image")
    return f"Accuracy on true labels {describe_interval(assessment.accuracy)}, from {images} that a person classified."


def model_rows(model: ModelAssessment) -> list[tuple[str, str, str]]:
    """Return rows of a table: what is estimated, the value with its interval, and the number of images."""
    target = "" if model.target_coverage is None else f" (target {percent(model.target_coverage)})"
    rows = {
        "accuracy": model.accuracy,
        "accuracy, if wrong on all unsure images": model.if_unsure_wrong,
        "accuracy, if right on all unsure images": model.if_unsure_right,
        f"true class in the prediction set{target}": model.prediction_set_coverage,
        "answer correct, none of these included": model.answer_accuracy,
        "images of no class answered none of these": model.none_detected,
        "images of a class answered none of these": model.none_false,
    }
    return [
        (title, describe_interval(each), f"{each.num_images:,}") for title, each in rows.items() if each is not None
    ]


def data_rows(assessment: Assessment) -> list[tuple[str, str, str]]:
    """Return rows on the data, as `model_rows`."""
    rows = {
        "wrong labels": assessment.label_errors,
        "images of none of the classes": assessment.none_of_these,
        "images that a person is unsure of": assessment.unsure,
    }
    return [
        (title, describe_interval(each), f"{each.num_images:,}") for title, each in rows.items() if each is not None
    ]


def class_rows(model: ModelAssessment) -> list[tuple[str, str, str, str, str]]:
    """Return rows by class: name, images truly of the class, recall, precision and wrong labels."""
    return [(each.name, _count_images(each), *_class_cells(each)) for each in model.per_class]


def describe_notes(assessment: Assessment) -> list[str]:
    """Return what limits the estimates, as sentences."""
    notes = []
    if assessment.num_reviewed < assessment.budget:
        notes.append(
            f"{assessment.num_reviewed:,} of {count(assessment.budget, 'image')} have answers, in the order drawn."
        )
    if assessment.disagreement is None:
        notes.append(
            "A person's errors are not known: all figures are the agreement with this person. "
            "Two people who classify the same images (--repeats) show how large it is."
        )
    else:
        found = assessment.disagreement
        rate = found.num_different / found.num_images
        notes.append(
            f"Two people disagreed on {found.num_different:,} of {count(found.num_images, 'image')} "
            f"({percent(rate)}, 95% interval {100 * found.ci_low:.1f} to {percent(found.ci_high)}): on average, one "
            f"person is wrong on at least {percent(rate / 2)}. All figures are the agreement with the first person."
        )
    few = [each.name for each in assessment.models[0].per_class if each.recall.num_images < FEW_IMAGES]
    if few:
        notes.append(f"Fewer than {FEW_IMAGES} reviewed images, so wide intervals: {', '.join(few)}.")
    return notes


def _count_images(row: ClassAssessment) -> str:
    return f"{row.recall.num_images:,}"


def _class_cells(row: ClassAssessment) -> tuple[str, str, str]:
    errors = DASH if row.label_errors is None else describe_interval(row.label_errors)
    return describe_interval(row.recall), describe_interval(row.precision), errors


def _sections(assessment: Assessment) -> list[tuple[str, str, list[ReviewedImage]]]:
    """Return heading, status and images of each section."""
    reviewed = assessment.reviewed
    return [
        ("Wrong labels", "wrong", [each for each in reviewed if each.is_wrong_label]),
        ("Wrong predictions", "wrong", [each for each in reviewed if each.is_wrong_prediction]),
        ("Unsure", "plain", [each for each in reviewed if each.answer == UNSURE]),
    ]


def _embed(image: ReviewedImage, status: str) -> EmbeddedImage:
    pixels = thumbnail_or_none(image.path, IMAGE_SIZE)
    label = "" if image.label is None else f"labeled {image.label}\n"
    predicted = f"predicted {image.predicted_label} {percent(image.confidence)}"
    return embed_image(pixels, f"{image.answer}\n{label}{predicted}\n{Path(image.image).name}", status)
