"""Results of an evaluation, and the metrics of training epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import find_named
from belvedere.types.prediction import Prediction
from belvedere.types.result import Result, short_repr, to_plain

NUM_EXAMPLES = 24  # images of a weak slice in metrics.json


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class; None where a denominator is 0, and for a class without images."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int  # images with this label


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bar of the reliability diagram."""

    low: float
    high: float
    count: int
    confidence: float  # mean confidence in the bin, 0 where it is empty
    accuracy: float  # 0 where it is empty


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration of predicted probabilities."""

    log_loss: float  # nats
    ece: float  # expected calibration error, 15 equal bins
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class SelectivePoint:
    """Accuracy on the images with the highest confidence."""

    coverage: float  # fraction of the images
    count: int
    accuracy: float
    threshold: float  # lowest confidence among them


@dataclass(frozen=True, slots=True)
class PredictionSetMetrics:
    """Coverage and size of the prediction sets."""

    target_coverage: float
    coverage: float  # fraction of images whose label is in their set
    mean_size: float  # classes
    per_class: tuple[float | None, ...]  # coverage of each class; None without images


@dataclass(frozen=True, slots=True)
class TagMetrics:
    """Multi-label metrics, on images with all their labels."""

    num_images: int
    mean_average_precision: float | None  # mean over the classes that occur
    micro_f1: float | None
    macro_f1: float | None
    average_precision: tuple[float | None, ...]  # of each class; None where it does not occur
    area_mae: float | None  # mean absolute error of the area fractions; None without true areas


@dataclass(frozen=True, slots=True)
class OODMetrics:
    """Detection of out-of-distribution images (none of these)."""

    num_images: int  # out of distribution
    auroc: float
    fpr_at_95_tpr: float  # fraction accepted where 95% of the in-distribution images are
    id_acceptance_rate: float  # fraction of in-distribution images accepted at the model's threshold
    ood_acceptance_rate: float  # fraction of out-of-distribution images accepted at the model's threshold
    msp_auroc: float  # of the baseline, the maximum softmax probability
    msp_fpr_at_95_tpr: float
    num_unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Confusion:
    """Number of images of one class that were predicted as another."""

    label: str
    predicted_label: str
    count: int
    fraction: float  # of the images with this label


@dataclass(frozen=True, slots=True)
class WeakSlice:
    """Images in which the accuracy is significantly lower than elsewhere."""

    description: str  # such as "images darker than 38 of 255"
    attribute: str  # by which the images were chosen, such as "brightness"; "cluster" for embeddings
    num_images: int
    accuracy: float
    ci_low: float  # 95% confidence interval of the accuracy
    ci_high: float
    accuracy_elsewhere: float  # of the other images, with the labels as frequent (of a cluster: the confidences)
    p_value: float  # adjusted for all slices that were tried
    images: tuple[str, ...] = field(repr=False)  # most confident mistakes first, then the other images

    def shorten(self) -> "WeakSlice":
        """Return the slice with its first images only."""
        return replace(self, images=self.images[:NUM_EXAMPLES])


@dataclass(frozen=True, slots=True)
class FoldStatistic:
    """A metric of the folds of a cross-validation."""

    mean: float
    std: float  # standard deviation over the folds, with n - 1
    folds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CrossValidationMetrics:
    """Metrics of each fold of a cross-validation; each image is in one fold."""

    num_folds: int
    accuracy: FoldStatistic
    macro_f1: FoldStatistic
    log_loss: FoldStatistic  # nats
    ece: FoldStatistic


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Result):
    """Metrics of a model on labeled images. In a notebook, it shows its tables and most confident mistakes."""

    class_names: tuple[str, ...]
    num_images: int  # without unreadable ones
    num_unreadable: int
    accuracy: float
    macro_f1: float  # mean over the classes with images
    log_loss: float  # nats
    ece: float  # expected calibration error, 15 equal bins
    per_class: tuple[ClassMetrics, ...]
    confusion_matrix: NDArray[np.int64] = field(compare=False)  # (K, K), read-only: rows labels, columns predictions
    confusions: tuple[Confusion, ...]  # most frequent first
    reliability_bins: tuple[ReliabilityBin, ...]
    predictions: tuple[Prediction, ...] = field(repr=False)  # with labels, one for each image
    uncalibrated: Reliability | None = None  # before temperature scaling
    split: str = "test"  # "test", "val", "all", or "out_of_fold" of a cross-validation
    selective_accuracy: tuple[SelectivePoint, ...] = ()
    num_none_of_these: int | None = None  # None where the model has no OOD score
    prediction_sets: PredictionSetMetrics | None = None
    tags: TagMetrics | None = None  # where the images have several labels
    ood: OODMetrics | None = None
    cross_validation: CrossValidationMetrics | None = None  # of a training with folds
    weak_slices: tuple[WeakSlice, ...] = ()
    paths: Mapping[str, Path] = field(default_factory=dict, compare=False)  # files of images with another name

    def __post_init__(self) -> None:
        matrix = np.array(self.confusion_matrix, np.int64)
        matrix.flags.writeable = False
        object.__setattr__(self, "confusion_matrix", matrix)

    def __repr__(self) -> str:
        return short_repr(
            self, split=self.split, num_images=self.num_images, accuracy=self.accuracy, macro_f1=self.macro_f1
        )

    def normalized_confusion_matrix(self, normalize: Literal["true", "pred", "all"] = "true") -> NDArray[np.float64]:
        """Return the confusion matrix as fractions, as scikit-learn's `confusion_matrix(normalize=...)`.

        Args:
            normalize: Sums that are 1: "true", each row, so that the diagonal is the recall; "pred", each column, so
                that the diagonal is the precision; "all", the matrix. Rows and columns without images stay 0.

        Returns:
            The fractions, (K, K).

        Raises:
            UnknownNameError: `normalize` is none of these.
        """
        axis = find_named("normalization", normalize, {"true": 1, "pred": 0, "all": None})
        totals = self.confusion_matrix.sum(axis=axis, keepdims=True)
        return np.asarray(self.confusion_matrix / np.maximum(totals, 1))

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics ready for JSON, with the keys of metrics.json; without the predictions."""
        left_out = ("predictions", "paths", "weak_slices")
        plain = {
            field.name: to_plain(getattr(self, field.name)) for field in fields(self) if field.name not in left_out
        }
        return plain | {"weak_slices": [to_plain(each.shorten()) for each in self.weak_slices]}


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One row of history.csv."""

    epoch: int  # from 1
    seconds: float  # without validation
    images_per_second: float
    learning_rate: float
    loss: float  # mean cross-entropy of the training batches, nats
    accuracy: float  # of the training batches, during training
    validation_loss: float
    validation_accuracy: float
    calibrated_validation_loss: float | None = None  # after temperature scaling, nats; None for a linear probe
