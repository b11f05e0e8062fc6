"""Results as lines of text and rows of tables, for terminals and notebooks."""

from typing import TYPE_CHECKING

from belvedere.runtime.terminal import count
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.evaluation import Evaluation, WeakSlice
from belvedere.types.prediction import Prediction

if TYPE_CHECKING:
    from belvedere.evaluation.calibrate import Calibration

SHOWN_COVERAGE = 0.8  # whose selective accuracy is shown


def class_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the rows of a table: class, precision, recall, F1, number of images."""
    rows = []
    for row in evaluation.per_class:
        values = ("-" if value is None else f"{value:.1%}" for value in (row.precision, row.recall, row.f1))
        rows.append((row.name, *values, f"{row.support:,}"))
    return rows


def describe_prediction(prediction: Prediction) -> list[str]:
    """Return the lines of a caption; "none of these" is followed by the most probable class."""
    confidence = f"{prediction.confidence or 0.0:.1%}"
    if prediction.none_of_these:
        return [f"predicted {NONE_OF_THESE}", f"(most probable: {prediction.predicted_label} {confidence})"]
    return [f"predicted {prediction.answer} {confidence}"]


def describe_uncertainty(evaluation: Evaluation) -> list[str]:
    """Return lines on selective accuracy, prediction sets, tags and OOD detection, as far as they were measured."""
    lines = [
        f"accuracy on the {point.coverage:.0%} most confident: {point.accuracy:.1%}"
        for point in evaluation.selective_accuracy
        if point.coverage == SHOWN_COVERAGE
    ]
    lines += [f"weak slice: {describe_slice(each)}" for each in evaluation.weak_slices]
    if (sets := evaluation.prediction_sets) is not None:
        lines.append(f"label in the prediction set: {sets.coverage:.1%} (mean size {sets.mean_size:.2f})")
    if evaluation.num_none_of_these:
        lines.append(
            f"none of these: {count(evaluation.num_none_of_these, 'image')}, counted as the most probable class"
        )
    if (tags := evaluation.tags) is not None:
        metrics = {"micro F1": tags.micro_f1, "mean average precision": tags.mean_average_precision}
        text = ", ".join(f"{name} {value:.1%}" for name, value in metrics.items() if value is not None)
        lines.append(f"tags: {text}")
    if (ood := evaluation.ood) is not None:
        lines.append(
            f"none of these: AUROC {ood.auroc:.3f}, {ood.fpr_at_95_tpr:.1%} false positives at 95% true positives "
            f"(maximum softmax probability: {ood.msp_auroc:.3f}, {ood.msp_fpr_at_95_tpr:.1%})"
        )
    return lines


def describe_slice(found: WeakSlice) -> str:
    """Return a weak slice as text."""
    images = f"{found.description}, accuracy {found.accuracy:.1%} (n={found.num_images:,})"
    return f"{images} against {found.accuracy_elsewhere:.1%}"


def calibration_rows(calibration: "Calibration") -> list[tuple[str, ...]]:
    """Return the rows of a table: metric, before and after, for each metric that was measured."""
    before, after = calibration.before, calibration.after
    rows = [
        ("log loss", "{:.4f}", before.log_loss, after.log_loss),
        ("expected calibration error", "{:.1%}", before.ece, after.ece),
        ("label in the prediction set", "{:.1%}", before.coverage, after.coverage),
        ("classes in a prediction set", "{:.2f}", before.mean_set_size, after.mean_set_size),
        ("not none of these", "{:.1%}", before.acceptance, after.acceptance),
    ]
    for name, title in (("micro_f1", "tags: micro F1"), ("mean_average_precision", "tags: mean average precision")):
        values = [None if each.tags is None else getattr(each.tags, name) for each in (before, after)]
        rows.append((title, "{:.1%}", values[0], values[1]))
    return [
        (title, *("-" if value is None else form.format(value) for value in values))
        for title, form, *values in rows
        if any(value is not None for value in values)
    ]
