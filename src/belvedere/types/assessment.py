"""Results of an assessment: estimates on true labels, from a sample of images that people classified."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from belvedere.types.data import NONE_OF_THESE, DataWarning, ModelId
from belvedere.types.result import Result, short_repr, to_plain

ASSESSMENT = "assessment.json"  # file of an assessment
UNSURE = "unsure"  # answer of a person who cannot tell


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated fraction, or a difference of two fractions."""

    value: float | None  # None where no image of the sample counts
    ci_low: float  # 95% confidence interval
    ci_high: float
    num_images: int  # images of the sample in the denominator
    standard_error: float | None
    effective_size: float | None  # random images with this standard error; None for a difference


@dataclass(frozen=True, slots=True)
class ClassAssessment:
    """Estimates of one class."""

    name: str
    recall: Estimate  # of the images that truly are of this class
    precision: Estimate  # of the images predicted as it
    label_errors: Estimate | None = None  # of the images labeled as it, the fraction with another true label


@dataclass(frozen=True, slots=True)
class ModelAssessment:
    """Estimates of one model."""

    model: ModelId
    accuracy: Estimate  # of the most probable class, on images that show a class
    per_class: tuple[ClassAssessment, ...]
    label_accuracy: float | None  # agreement with the given labels, on all images; None without labels
    prediction_set_coverage: Estimate | None = None  # true class in the prediction set; None where the model has none
    target_coverage: float | None = None  # that the sets were fitted to
    answer_accuracy: Estimate | None = None  # of the answer, "none of these" included; None without an OOD score
    none_detected: Estimate | None = None  # of the images of no class, the fraction answered "none of these"
    none_false: Estimate | None = None  # of the images of a class, the fraction answered "none of these"
    if_unsure_wrong: Estimate | None = None  # accuracy if the model is wrong on all "unsure" images; None without any
    if_unsure_right: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Images that two people classified, and those that they classified differently."""

    num_images: int  # that two people classified
    num_different: int
    ci_low: float  # 95% confidence interval of the fraction
    ci_high: float


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """One image of the sample, with its answer."""

    image: str
    path: Path
    answer: str  # class, "none of these" or "unsure"
    annotator: str
    label: str | None  # as given
    predicted_label: str
    confidence: float
    inclusion_probability: float

    @property
    def is_wrong_label(self) -> bool:
        """Whether the label differs from the answer."""
        return self.label is not None and self.answer not in (self.label, UNSURE)

    @property
    def is_wrong_prediction(self) -> bool:
        """Whether the most probable class differs from the answer, which is a class."""
        return self.answer not in (self.predicted_label, NONE_OF_THESE, UNSURE)


@dataclass(frozen=True, slots=True, repr=False)
class Assessment(Result):
    """Accuracy on true labels, estimated from a sample. In a notebook, it shows its tables."""

    source: str  # the data
    num_images: int  # that could be read
    num_reviewed: int  # n, the sample
    budget: int  # images to review
    seed: int
    uniform_floor: float  # fraction of the draws that do not depend on the predictions
    models: tuple[ModelAssessment, ...]  # the model, then the other one
    none_of_these: Estimate  # fraction of images that show none of the classes
    unsure: Estimate  # fraction of images that a person cannot classify
    label_errors: Estimate | None = None  # fraction of wrong labels; None without labels
    accuracy_change: Estimate | None = None  # of the other model minus this one, on the same images
    disagreement: Disagreement | None = None  # None if no image has answers of two people
    annotators: Mapping[str, int] = field(default_factory=dict)  # answers of each
    reviewed: tuple[ReviewedImage, ...] = ()  # in the order drawn
    warnings: tuple[DataWarning, ...] = ()

    @property
    def accuracy(self) -> Estimate:
        """Accuracy of the model on true labels."""
        return self.models[0].accuracy

    def __repr__(self) -> str:
        accuracy = self.accuracy
        return short_repr(
            self,
            num_images=self.num_images,
            num_reviewed=self.num_reviewed,
            accuracy=accuracy.value,
            ci_low=accuracy.ci_low,
            ci_high=accuracy.ci_high,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON, with the keys of assessment.json."""
        return {field.name: to_plain(getattr(self, field.name)) for field in fields(self)}
