"""What passes between the modules: frozen records, and nothing that works on them.

Knows the shape of every result; does not know where it comes from or how it is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NONE_OF_THESE = "none of these"  # the answer for an image that is unlike every class


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled photograph of a data set."""

    path: Path  # where the file is
    image: str  # the path as it was given or found, for people to read
    label: str  # its class; where a table gives several, the first
    part: str  # "train", "val" or "test"
    also: tuple[str, ...] = ()  # further classes that a table gives (`a|b`)
    areas: tuple[float, ...] = ()  # share of the picture of each, where the table gives them (`a:0.6|b:0.3`)


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know about the photographs, that stops nothing."""

    message: str  # one line
    names: tuple[str, ...] = ()  # the files it is about


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a decoded picture becomes the model's input: the part of it that happens outside the graph."""

    height: int
    width: int
    resize: str = "stretch"  # "stretch": both sides, as the article did; "crop": shorter side, then the middle
    interpolation: str = "bilinear"  # or "bicubic": how it is scaled, with antialiasing either way


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """A store of the cache: rows of one kind, made by one rule."""

    folder: Path
    kind: str  # "pixels", "embeddings" or "weights"
    rule: str  # such as "150x150-stretch-1": size, way of fitting, version of the reading
    images: int
    size_bytes: int
    used: float  # when it was last opened for training, seconds since 1970


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a network's layer table."""

    name: str  # its name in the network, such as "features.conv1"
    kind: str  # what it is, such as "Conv2d 3x3, ReLU"
    shape: tuple[int, ...]  # output without the batch: (H, W, C) or (D,)
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class CuratedBackbone:
    """A pretrained network worth starting with."""

    name: str  # timm's
    parameters_millions: float  # without its classifier
    side: int  # of its pictures, pixels
    licence: str  # of the weights
    images_per_second: int  # on two cores (AMD EPYC, bfloat16)
    suits: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from: enough to train it again."""

    recipe: str
    network: str
    seed: int
    epochs: int  # completed
    best_epoch: int  # the one that was kept, by the validation photographs
    device: str
    precision: str  # "float32" or "bfloat16"
    photographs: Mapping[str, int]  # part -> how many; those that could not be read count in "test" only
    photographs_sha256: str  # over the content hashes and labels of the photographs trained on
    interrupted: bool
    seconds_train: float
    created: str  # UTC, ISO 8601
    versions: Mapping[str, str]  # package -> version
    parity: float  # largest relative difference between the framework's outputs and the model file's
    base: Mapping[str, str] = field(default_factory=dict)  # of a pretrained network: its weights, their hash, licence
    sketch: tuple[str, ...] = ()  # the smallest few hashes of the photographs trained on; older models have none


@dataclass(frozen=True, slots=True)
class TagRule:
    """How evidence by place becomes the confidence that a class is in a picture: a logistic regression a class.

    The confidence in class c is the logistic function of `scales[c] * e[c] + context[c] . e + biases[c]`, where e,
    (K,), is the mean of each class's strongest places.
    """

    scales: tuple[float, ...]  # (K,)
    biases: tuple[float, ...]  # (K,)
    context: tuple[tuple[float, ...], ...] = ()  # (K, K) what other classes say; empty where nothing is known of that
    fitted_on: int = 0  # photographs
    several_labels: bool = False  # whether they had all their labels; else one each


@dataclass(frozen=True, slots=True)
class Trust:
    """What was fitted on photographs that a model had not learnt from."""

    temperature: float = 1.0  # by which the logits are divided before the softmax
    fitted_on: int = 0  # photographs; 0: nothing was fitted
    set_mass: float | None = None  # a class is in the prediction set where likelier ones hold no more than this
    set_coverage: float = 0.95  # how often the true class is in the set
    outlier_quantiles: tuple[float, ...] = ()  # of the outlier score of such photographs, from the least to the most
    accept_rate: float = 0.95  # share of true pictures that are not called "none of these"
    tags: TagRule | None = None
    first_tags: TagRule | None = None  # as training made them, where `tags` were fitted to a table since


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model file says about itself."""

    class_names: tuple[str, ...]
    preprocess: Preprocess
    layers: tuple[Layer, ...]
    provenance: Provenance
    trust: Trust = Trust()


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model predicted."""

    name: str  # of its file and folder
    sha256: str  # of its file, hexadecimal

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.short}"

    @property
    def short(self) -> str:
        """The beginning of the hash: enough to tell models apart."""
        return self.sha256[:12]


@dataclass(frozen=True, slots=True)
class Tag:
    """A class that is in a picture, the main one or another."""

    name: str
    share: float  # of the picture, 0 to 1; the shares of a picture's tags add up to 1
    confidence: float  # that it is in the picture, 0 to 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one picture, or the reason why there is none."""

    image: str  # the path as it was given or found
    prediction: str | None = None  # the class with the highest probability
    confidence: float | None = None  # its probability
    probabilities: tuple[float, ...] = ()  # (K,) in the order of the model's class names
    error: str | None = None  # why the file could not be read; the other answers are empty then
    notes: tuple[str, ...] = ()  # what was decided in reading it, such as "first of 12 frames"
    label: str | None = None  # the given label, where there is one
    tags: tuple[
        Tag, ...
    ] = ()  # what is in it, the answer first; empty for "none of these", or where the model can't tell
    prediction_set: tuple[str, ...] = ()  # the classes that can't be ruled out, likeliest first; empty where unknown
    none_of_these: bool | None = None  # whether the picture is unlike every class; None where the model can't tell
    none_score: float | None = None  # how unlike: the share of true pictures that are less unlike, 0 to 1
    presence: tuple[float, ...] = ()  # (K,) how sure it is that each class is in the picture; empty where unknown

    @property
    def answer(self) -> str | None:
        """The predicted class, or "none of these"; None where the file could not be read."""
        return NONE_OF_THESE if self.none_of_these else self.prediction


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """What is known of a row that an earlier process wrote."""

    image: str
    unreadable: bool


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
    prediction: str
    images: int
    share: float  # of the photographs with this label


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model's answers on labelled photographs are worth."""

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


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of a journal: what a person said of a photograph."""

    id: str  # made by whoever decides, so that a line sent twice counts once
    when: str  # UTC, ISO 8601
    who: str
    sha256: str  # of the photograph's file, hexadecimal
    image: str  # its path at that time
    action: str  # "keep", "relabel", "tag", "exclude" or "undo"
    given: str | None = None  # the label it had; `from` in the file
    to: tuple[str, ...] = ()  # the label, the secondary labels, or the id of what is undone
    why: str = ""
    about: str = "label"  # what was in doubt: "label", "duplicate" or "leak"
    size_bytes: int | None = None  # of the file; `bytes` in the file
    part: str = ""  # of the data set that it stood in; empty where that is not known


@dataclass(frozen=True, slots=True)
class CopyRuling:
    """What was last said of one of several identical files: whether it is left out."""

    image: str  # its path at that time
    part: str  # as in `Decision`
    excluded: bool


@dataclass(frozen=True, slots=True)
class Ruling:
    """What all living decisions on one photograph's content come to."""

    label: str | None = None  # None: as it was given
    also: tuple[str, ...] | None = None  # secondary labels; None: as they were given
    copies: tuple[CopyRuling, ...] = ()  # those that were left out or taken back, the last word at the end
