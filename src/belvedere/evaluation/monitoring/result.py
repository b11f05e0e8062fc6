"""Result of a comparison of new images with the test images of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from belvedere.types.data import DataWarning, ModelId
from belvedere.types.result import Result, short_repr, to_plain

SIGNIFICANCE = 0.05  # of all tests together


@dataclass(frozen=True, slots=True)
class DriftTest:
    """A statistical test for a change."""

    name: str  # "predicted_labels", "confidence", "none_of_these", "none_of_these_score" or "embeddings"
    p_value: float
    adjusted_p_value: float  # corrected for the number of tests (Holm)

    @property
    def is_changed(self) -> bool:
        """Whether the change is statistically significant."""
        return self.adjusted_p_value < SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class ClassFrequency:
    """Frequency of a class; all values are fractions of the images."""

    name: str
    reference: float  # predicted, of the test images
    new: float  # predicted, of the new images
    ci_low: float  # 95% confidence interval of `new`
    ci_high: float
    estimated: float  # of the new images that show the class, if only the frequencies changed


@dataclass(frozen=True, slots=True)
class ExpectedAccuracy:
    """Accuracy to expect on the new images: an estimate without labels, not a measurement."""

    value: float  # average thresholded confidence (ATC)
    ci_low: float  # 95% confidence interval, of the error of the samples alone
    ci_high: float
    difference_of_confidences: float  # another estimate


@dataclass(frozen=True, slots=True)
class OODRate:
    """Fraction of images that are "none of these"."""

    value: float  # of the new images
    ci_low: float  # 95% confidence interval
    ci_high: float
    reference: float  # of the test images
    nominal: float  # 1 - accept rate: that of the images which the threshold was fitted on


@dataclass(frozen=True, slots=True)
class Period:
    """New images of an hour, a day or a week."""

    start: str  # UTC, ISO 8601
    num_images: int
    mean_confidence: float
    ood_rate: float | None  # fraction of "none of these"; None if the model has no score


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """A new image to look at, or to label."""

    image: str
    predicted_label: str
    confidence: float
    none_of_these_score: float | None
    reason: str  # "uncertain" or "unusual"


@dataclass(frozen=True, repr=False)
class DriftReport(Result):
    """Differences between the test images of a run and new images."""

    run: str  # folder
    source: str  # folder of images, or of records of `serve`
    model: ModelId
    num_images: int  # that were compared
    num_reference: int  # test images
    reference_split: str  # "test", or another split of the run
    tests: tuple[DriftTest, ...]
    classes: tuple[ClassFrequency, ...]
    mean_confidence: float
    reference_mean_confidence: float
    ood: OODRate | None  # None if the model has no score
    reference_accuracy: float
    expected_accuracy: ExpectedAccuracy
    periods: tuple[Period, ...]  # of records of `serve`, in order of time
    unusual: tuple[ChosenImage, ...]  # least like the training images first; of a folder of images
    to_label: tuple[ChosenImage, ...]
    warnings: tuple[DataWarning, ...]

    def __repr__(self) -> str:
        changed = [each.name for each in self.tests if each.is_changed]
        values = {"num_images": self.num_images, "expected_accuracy": self.expected_accuracy.value}
        return short_repr(self, source=self.source, changed=changed, **values)

    @property
    def is_changed(self) -> bool:
        """Whether any test found a change."""
        return any(each.is_changed for each in self.tests)

    def to_dict(self) -> Mapping[str, Any]:
        """Return the result ready for JSON, as in monitor.json."""
        content: dict[str, Any] = to_plain(self)
        for row, test in zip(content["tests"], self.tests, strict=True):
            row["is_changed"] = test.is_changed
        return {"is_changed": self.is_changed, **content}
