"""Records of a model file: preprocessing, layers, provenance, uncertainty."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Steps from a decoded image to the model's input that happen outside the graph."""

    height: int
    width: int
    resize: str = "stretch"  # "stretch": both sides; "crop": the shorter side, then a center crop; "letterbox": padded
    interpolation: str = "bilinear"  # or "bicubic"; antialiased either way


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a network's layer table."""

    name: str  # such as "features.conv1"
    kind: str  # such as "Conv2d 3x3, ReLU"
    shape: tuple[int, ...]  # output without the batch: (H, W, C) or (D,)
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """A network that can be trained."""

    name: str  # Belvedere's or timm's
    parameters_millions: float  # without the classifier
    image_size: int  # pixels
    license: str  # of the weights
    images_per_second: int | None  # embedded on one core (Intel Xeon with AMX, bfloat16); None if not measured
    description: str
    imagenet_accuracy: float | None = None  # top-1 at this image size, 0 to 1, by timm's results; None if not in them


@dataclass(frozen=True, slots=True)
class Provenance:
    """Training of a model: everything that is needed to repeat it."""

    recipe: str
    network: str
    seed: int
    epochs: int  # completed
    best_epoch: int  # chosen on the validation images
    device: str
    precision: str  # "float32" or "bfloat16"
    num_images: Mapping[str, int]  # by split; unreadable images count in "test" only
    data_sha256: str  # over content hashes and labels of the training data
    interrupted: bool
    training_seconds: float
    created: str  # UTC, ISO 8601
    versions: Mapping[str, str]  # package -> version
    onnx_max_relative_error: float  # largest difference between the outputs of torch and of the file
    pretrained_from: Mapping[str, str] = field(default_factory=dict)  # weights, their hash and license; teacher
    data_minhash: tuple[str, ...] = ()  # smallest content hashes of the training data, to estimate overlap


@dataclass(frozen=True, slots=True)
class TagModel:
    """One logistic regression per class: pooled class activations to the confidence that the class is present.

    The confidence in class c is sigmoid(scale[c] * a[c] + cross_class_weights[c] . a + bias[c]), where a, (K,), is the
    mean of each class's strongest activations.
    """

    scale: tuple[float, ...]  # (K,)
    bias: tuple[float, ...]  # (K,)
    cross_class_weights: tuple[tuple[float, ...], ...] = ()  # (K, K); empty if fitted on single labels
    num_images: int = 0
    is_multilabel: bool = False  # fitted on images with all their labels


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Calibration, prediction sets, OOD threshold and tags, fitted on held-out images."""

    temperature: float = 1.0  # divides the logits before the softmax
    num_calibration_images: int = 0  # 0: nothing was fitted
    conformal_threshold: float | None = None  # largest APS score of a class in the prediction set
    target_coverage: float = 0.95  # fraction of images whose label is in the prediction set
    ood_score_quantiles: tuple[float, ...] = ()  # of held-out images, ascending, evenly spaced
    ood_acceptance: float = 0.95  # fraction of in-distribution images not rejected as "none of these"
    tag_model: TagModel | None = None
    initial_tag_model: TagModel | None = None  # as fitted in training, if `tag_model` was refitted since


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All metadata of a model file."""

    class_names: tuple[str, ...]
    preprocess: Preprocess
    layers: tuple[Layer, ...]
    provenance: Provenance
    uncertainty: Uncertainty = Uncertainty()
