"""A report of new images as text and rows of tables, for pages and terminals."""

from collections.abc import Mapping

from belvedere.evaluation.monitoring.result import DriftReport
from belvedere.evaluation.report.pages import percent
from belvedere.runtime.terminal import count

TEST_TITLES: Mapping[str, str] = {
    "predicted_labels": "predicted classes",
    "confidence": "confidence",
    "none_of_these": "rate of none of these",
    "none_of_these_score": "score of none of these",
    "embeddings": "embeddings",
}
CAVEAT = (
    "An expectation from the confidence, not a measurement: it is too high if the model is confidently wrong, and it "
    "does not hold for images that show none of the classes. Label some images to measure it."
)


def describe_changes(report: DriftReport) -> str:
    """Return what changed, and the number of images."""
    changed = [TEST_TITLES[each.name] for each in report.tests if each.is_changed]
    images = f"{count(report.num_images, 'new image')}, compared with {report.num_reference:,} of the run"
    return f"{'Changed: ' + ', '.join(changed) if changed else 'No significant change'}. {images}."


def describe_accuracy(report: DriftReport) -> str:
    """Return the expected accuracy as text, without its caveat."""
    expected = report.expected_accuracy
    return (
        f"{percent(expected.value)} ({percent(expected.ci_low)} to {percent(expected.ci_high)}); "
        f"measured on the run: {percent(report.reference_accuracy)}"
    )


def headline_rows(report: DriftReport) -> list[tuple[str, str, str, str]]:
    """Return rows of a table: name, value of the test images, value of the new images, its interval if known."""
    rows = [("mean confidence", percent(report.reference_mean_confidence), percent(report.mean_confidence), "")]
    if (ood := report.ood) is not None:
        rows.append(("none of these", percent(ood.reference), percent(ood.value), _interval(ood.ci_low, ood.ci_high)))
    return rows


def class_rows(report: DriftReport) -> list[tuple[str, str, str, str, str]]:
    """Return rows of a table: class, fraction of test images, of new images, its interval, estimated fraction."""
    return [
        (
            each.name,
            percent(each.reference),
            percent(each.new),
            _interval(each.ci_low, each.ci_high),
            percent(each.estimated),
        )
        for each in report.classes
    ]


def show_p_value(p_value: float) -> str:
    """Return a p-value with three decimals."""
    return "<0.001" if p_value < 0.0005 else f"{p_value:.3f}"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {percent(high)}"
