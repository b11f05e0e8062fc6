"""Records of an evaluation and of a training's epochs."""

from dataclasses import dataclass, field

from belvedere.types.prediction import Prediction


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How well one class is recognised; a figure is None where the test photographs can't tell."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int  # test photographs with this label


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One bar of the reliability diagram."""

    low: float
    high: float
    images: int
    confidence: float  # mean confidence of the pictures in it, 0 where there is none
    accuracy: float  # their share answered right, 0 where there is none


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well confidence and accuracy go together."""

    log_loss: float  # natural logarithm
    ece: float  # expected calibration error, 15 equal bins
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class SelectivePoint:
    """How good the answers are when only the surest are taken."""

    share: float  # of the photographs that are answered
    images: int
    accuracy: float  # of these answers
    confidence: float  # the least of them


@dataclass(frozen=True, slots=True)
class SetFigures:
    """What prediction sets are worth."""

    promised: float  # share of photographs whose label shall be in their set
    coverage: float  # share whose label is
    mean_size: float  # classes in a set
    per_class: tuple[float | None, ...]  # coverage of each class's photographs; None where there are none


@dataclass(frozen=True, slots=True)
class TagFigures:
    """What tags are worth, on photographs of which all labels are known."""

    images: int
    mean_average_precision: float | None  # mean over the classes that are there
    micro_f1: float | None  # over all tags
    macro_f1: float | None  # mean over the classes
    average_precision: tuple[float | None, ...]  # of each class; None where it is in no photograph
    share_error: float | None  # mean absolute error of a class's share of a picture; None where areas are not known


@dataclass(frozen=True, slots=True)
class OutlierFigures:
    """How well pictures that show none of the classes are told from the others."""

    images: int  # of none of the classes
    auroc: float  # area under the ROC curve
    accepted: float  # share of them that pass where 95% of the others do: the false-positive rate
    kept_by_model: float  # share of the others that the model, as it is, calls one of its classes
    accepted_by_model: float  # and of the outliers
    baseline_auroc: float  # the same by the largest probability
    baseline_accepted: float
    unreadable: int = 0  # files that were left out


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often one class was taken for another."""

    label: str
    predicted_label: str
    images: int
    share: float  # of the photographs with this label


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model's answers on labeled photographs are worth."""

    class_names: tuple[str, ...]
    images: int  # read and measured
    unreadable: int
    accuracy: float
    macro_f1: float  # over the classes that the photographs hold
    log_loss: float  # natural logarithm
    ece: float  # expected calibration error, 15 equal bins
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]  # (K, K): row the given label, column the answer
    confused_pairs: tuple[Confusion, ...]  # most frequent first
    calibration: tuple[CalibrationBin, ...]
    predictions: tuple[Prediction, ...] = field(repr=False)  # one a photograph, each with its label
    uncalibrated: Reliability | None = None  # before the temperature, where one was fitted
    part: str = "test"  # the part of the data set that was measured
    abstaining: tuple[SelectivePoint, ...] = ()  # from answering all photographs to half of them
    none_of_these: int | None = None  # images whose answer is "none of these"; None where the model can't tell
    sets: SetFigures | None = None  # where the model gives prediction sets
    tags: TagFigures | None = None  # where the photographs have several labels
    outliers: OutlierFigures | None = None  # where some were given


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One row of history.csv."""

    epoch: int  # from 1
    seconds: float  # training of this epoch, without the validation
    images_per_second: float
    learning_rate: float
    loss: float  # mean cross-entropy of the training batches, in nats
    accuracy: float  # of the training batches, while training on them
    validation_loss: float
    validation_accuracy: float
