"""Records of a model file: how it reads images, its layers, its provenance, how far it can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a decoded picture becomes the model's input: the part of it that happens outside the graph."""

    height: int
    width: int
    resize: str = "stretch"  # "stretch": both sides, as the article did; "crop": shorter side, then the middle
    interpolation: str = "bilinear"  # or "bicubic": how it is scaled, with antialiasing either way


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
    license: str  # of the weights
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
    base: Mapping[str, str] = field(default_factory=dict)  # of a pretrained network: its weights, their hash, license
    sketch: tuple[str, ...] = ()  # the smallest few hashes of the photographs trained on; older models have none


@dataclass(frozen=True, slots=True)
class TagModel:
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
    tags: TagModel | None = None
    first_tags: TagModel | None = None  # as training made them, where `tags` were fitted to a table since


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model file says about itself."""

    class_names: tuple[str, ...]
    preprocess: Preprocess
    layers: tuple[Layer, ...]
    provenance: Provenance
    trust: Trust = Trust()
