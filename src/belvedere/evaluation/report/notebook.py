"""HTML of datasets, evaluations, comparisons and calibrations for notebooks; needs neither matplotlib nor Jinja."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from belvedere.data.dataset import Dataset
from belvedere.data.sampling import choose_samples
from belvedere.evaluation.calibrate import Calibration
from belvedere.evaluation.comparison import Comparison, Pair, find_file
from belvedere.evaluation.metrics import most_confident_errors
from belvedere.evaluation.report.assessment import class_rows as assessed_class_rows
from belvedere.evaluation.report.assessment import (
    data_rows,
    describe_accuracy,
    describe_notes,
    model_rows,
)
from belvedere.evaluation.report.assessment import describe_change as describe_interval_change
from belvedere.evaluation.report.comparison import SECTIONS, describe_change, table_rows
from belvedere.evaluation.report.text import (
    calibration_rows,
    class_rows,
    describe_prediction,
    describe_uncertainty,
)
from belvedere.images.encode import thumbnail_or_none, to_data_uri
from belvedere.runtime import notebook
from belvedere.runtime.notebook import Figure
from belvedere.runtime.terminal import count
from belvedere.types.assessment import Assessment
from belvedere.types.data import DataWarning
from belvedere.types.evaluation import Evaluation

THUMBNAIL_SIZE = 144  # longer side, pixels
JPEG_QUALITY = 75
MAX_MISTAKES = 12
MAX_SAMPLES, MAX_COLUMNS = 18, 7  # images of a dataset; classes with a column of images
MAX_CHANGES = 6  # images of each section of a comparison
MAX_MATRIX_CLASSES = 20  # with more, a table lists the most frequent confusions
MAX_CLASS_ROWS = 30  # with more, those with the lowest F1
MAX_CONFUSIONS = 10
MAX_WARNINGS = 5


def dataset_html(dataset: Dataset) -> str:
    """Return a dataset: the number of images of each class and split, and a few images of each class."""
    counts = Counter((sample.label, sample.split) for sample in dataset.samples)
    splits = [split for split in ("train", "val", "test", None) if any(split == each for _, each in counts)]
    shown = dataset.class_names[:MAX_CLASS_ROWS]
    rows = [(name, *(f"{counts[name, split]:,}" for split in splits)) for name in shown]
    total = count(len(dataset.samples), "image")
    parts = [
        notebook.title(f"{dataset.source}: {total}"),
        notebook.table(("class", *(each or "images" for each in splits)), rows),
    ]
    parts += _hidden(len(dataset.class_names) - len(shown), "class", "classes")
    parts += warning_lines(dataset.warnings)
    samples = choose_samples([each for each in dataset.samples if each.split == splits[0]], shown, MAX_SAMPLES)
    figures = {name: [load_figure(each.path, [name]) for each in samples if each.label == name] for name in shown}
    if len(shown) <= MAX_COLUMNS:  # a column for each class
        parts.append(notebook.images([*chain(*zip_longest(*figures.values()))], len(shown)))
    else:
        parts.append(notebook.images([*chain(*figures.values())]))
    return notebook.block(*parts)


def evaluation_html(evaluation: Evaluation) -> str:
    """Return an evaluation: metrics, confusion matrix and most confident mistakes."""
    return notebook.block(notebook.title("Evaluation"), *evaluation_parts(evaluation))


def evaluation_parts(evaluation: Evaluation) -> list[str]:
    """Return the parts of an evaluation's HTML, for a larger output."""
    unreadable = f", {evaluation.num_unreadable:,} unreadable" if evaluation.num_unreadable else ""
    images = {"test": "test image", "val": "validation image"}.get(evaluation.split, "image")
    header = ("accuracy", "macro F1", "log loss", "calibration error", "images")
    metrics = (
        f"{evaluation.accuracy:.1%}",
        f"{evaluation.macro_f1:.1%}",
        f"{evaluation.log_loss:.4f}",
        f"{evaluation.ece:.1%}",
        f"{count(evaluation.num_images, images)}{unreadable}",
    )
    parts = [notebook.table(header, [metrics], num_texts=0)]
    parts += [notebook.line(text, quiet=True) for text in describe_uncertainty(evaluation)]
    parts.append(notebook.row(_class_table(evaluation), _confusion_table(evaluation)))
    mistakes = most_confident_errors(evaluation, MAX_MISTAKES)
    if mistakes:
        parts.append(notebook.title("Most confident mistakes"))
        figures = [
            load_figure(
                evaluation.paths.get(each.image, Path(each.image)),
                [f"labeled {each.label}", *describe_prediction(each), short_name(each.image)],
            )
            for each in mistakes
        ]
        parts.append(notebook.images(figures))
    return parts


def comparison_html(comparison: Comparison) -> str:
    """Return a comparison: the accuracy of each class, and the images whose prediction changed."""
    heading = f"{comparison.before} \N{RIGHTWARDS ARROW} {comparison.after}"
    header = ("class", "before", "after", "change", "95% interval")
    rows = table_rows(comparison)
    shown = [*rows[: MAX_CLASS_ROWS - 1], rows[-1]] if len(rows) > MAX_CLASS_ROWS else rows
    parts = [notebook.title(heading), notebook.line(describe_change(comparison)), notebook.table(header, shown)]
    parts += _hidden(len(rows) - len(shown), "class", "classes")
    parts += warning_lines(comparison.warnings)
    for change, (section, _) in SECTIONS.items():
        if pairs := comparison.changed(change):
            parts.append(notebook.title(f"{section} ({len(pairs):,})"))
            parts.append(notebook.images([_load_pair(pair, comparison) for pair in pairs[:MAX_CHANGES]]))
    return notebook.block(*parts)


def assessment_html(assessment: Assessment) -> str:
    """Return an assessment: the estimates on the data and the models, and what limits them."""
    parts = [notebook.title("Assessment"), notebook.line(describe_accuracy(assessment))]
    if assessment.accuracy_change is not None:
        parts.append(notebook.line(f"Change of the accuracy: {describe_interval_change(assessment.accuracy_change)}"))
    parts.append(notebook.table(("data", "95% interval", "images"), data_rows(assessment)))
    for model in assessment.models:
        parts.append(notebook.table((model.model.name, "95% interval", "images"), model_rows(model)))
        rows = assessed_class_rows(model)
        header = ("class", "images", "recall", "precision", "wrong labels")
        parts.append(notebook.table(header, rows[:MAX_CLASS_ROWS]))
        parts += _hidden(len(rows) - MAX_CLASS_ROWS, "class", "classes")
    parts += [notebook.line(note, quiet=True) for note in describe_notes(assessment)]
    return notebook.block(*parts, *warning_lines(assessment.warnings))


def calibration_html(calibration: Calibration) -> str:
    """Return a calibration: the metrics before and after."""
    fitted = {"temperature, prediction sets and threshold": calibration.num_images, "tags": calibration.num_tag_images}
    lines = [f"Fitted on {count(number, 'image')}: {name}." for name, number in fitted.items() if number]
    lines.append("After: cross-validated, on images that were not used for the fit.")
    return notebook.block(
        notebook.title(f"Calibration: {calibration.path}"),
        notebook.table(("metric", "before", "after"), calibration_rows(calibration)),
        *(notebook.line(text, quiet=True) for text in lines),
    )


def load_figure(path: Path | str, lines: Sequence[str]) -> Figure:
    """Return the thumbnail of an image file with a caption; without an image if it cannot be read."""
    pixels = thumbnail_or_none(path, THUMBNAIL_SIZE)
    return Figure("" if pixels is None else to_data_uri(pixels, JPEG_QUALITY), tuple(lines))


def short_name(image: str) -> str:
    """Return the folder and the name of a file."""
    return "/".join(Path(image).parts[-2:])


def warning_lines(warnings: Sequence[DataWarning]) -> list[str]:
    """Return the first warnings as lines."""
    lines = [notebook.line(f"Warning: {warning.message}", quiet=True) for warning in warnings[:MAX_WARNINGS]]
    return lines + _hidden(len(warnings) - MAX_WARNINGS, "warning")


def _hidden(number: int, noun: str, plural: str | None = None) -> list[str]:
    return [notebook.line(f"{count(number, f'more {noun}', plural and f'more {plural}')}", quiet=True)] * (number > 0)


def _class_table(evaluation: Evaluation) -> str:
    rows = class_rows(evaluation)
    if len(rows) > MAX_CLASS_ROWS:
        f1: Mapping[str, float] = {row.name: -1.0 if row.f1 is None else row.f1 for row in evaluation.per_class}
        rows = sorted(rows, key=lambda row: f1[row[0]])[:MAX_CLASS_ROWS]
    table = notebook.table(("class", "precision", "recall", "F1", "images"), rows)
    return table + "".join(_hidden(len(evaluation.per_class) - len(rows), "class", "classes"))


def _confusion_table(evaluation: Evaluation) -> str:
    if len(evaluation.class_names) <= MAX_MATRIX_CLASSES:
        counts = evaluation.confusion_matrix.tolist()
        return notebook.matrix(evaluation.class_names, counts, evaluation.normalized_confusion_matrix().tolist())
    rows = [
        (pair.label, pair.predicted_label, f"{pair.count:,}", f"{pair.fraction:.1%}")
        for pair in evaluation.confusions[:MAX_CONFUSIONS]
    ]
    return notebook.table(("label", "predicted as", "images", "of the class"), rows, num_texts=2)


def _load_pair(pair: Pair, comparison: Comparison) -> Figure:
    before, after = (each.answer or "" for each in (pair.before, pair.after))
    lines = (f"labeled {pair.label}", f"{before} \N{RIGHTWARDS ARROW} {after}", short_name(pair.image))
    return load_figure(find_file(Path(comparison.after), pair.image), lines)
