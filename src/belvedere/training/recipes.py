"""Recipes: all settings of a training run, as frozen dataclasses."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from belvedere.data.splits import SplitFractions
from belvedere.runtime.registry import Registry

MAX_IMAGE_SIZE = 1024  # pixels
# Functions of network and recipe that return the optimizers; here, since recipes are checked without torch.
OPTIMIZERS: Registry[Callable[..., Any]] = Registry(
    "optimizer", "optimizers", dict.fromkeys(("adam", "adamw", "muon"), "belvedere.training.optimizers")
)
Points = tuple[tuple[float, float], ...]


def _check_schedule(points: Points) -> Points:
    fractions = [fraction for fraction, _ in points]
    if fractions != sorted(fractions) or not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError("a schedule is pairs [fraction of training from 0 to 1, value], in rising order of fractions")
    if not all(0 <= value < math.inf for _, value in points):
        raise ValueError("the values of a schedule cannot be negative or infinite")
    return points


def _check_sizes(points: Points) -> Points:
    if not all(1 <= size <= MAX_IMAGE_SIZE for _, size in points):
        raise ValueError(f"sizes are from 1 to {MAX_IMAGE_SIZE} pixels")
    return points


def _check_range(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("a range is [smallest, largest]")
    return pair


def _check_optimizer(name: str) -> str:
    if name not in OPTIMIZERS:
        raise ValueError(f"choose one of {', '.join(sorted(OPTIMIZERS))}")
    return name


Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Pairs of a fraction of the training, 0 to 1, and a value; interpolated linearly, constant outside.
Schedule = Annotated[Points, AfterValidator(_check_schedule)]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", strict=False))
class Recipe:
    """Settings of a training run. A run's config.toml lists all of them, and a TOML file can set any."""

    name: Annotated[str, Field(description="name of the recipe")]
    network: Annotated[str, Field(description="one of Belvedere's networks, or with `pretrained` any timm model")]
    epochs: Annotated[int, Field(ge=0, description="passes over the training images; pretrained, 0: linear probe only")]
    batch_size: Annotated[int, Field(ge=2, description="images per step")]
    optimizer: Annotated[
        str,
        AfterValidator(_check_optimizer),
        Field(description="adam, adamw, or muon: Muon for convolution kernels, AdamW for the other parameters"),
    ]
    learning_rate: Annotated[Positive, Field(description="learning rate of Adam or AdamW")]
    min_steps: Annotated[
        int, Field(ge=0, description="steps in all; with few images each is repeated in an epoch to reach them")
    ] = 0
    pretrained: Annotated[
        bool, Field(description="whether to start from pretrained weights and a linear probe on their embeddings")
    ] = False
    weights: Annotated[str, Field(description="file of the pretrained weights; empty: from the hub")] = ""
    weights_sha256: Annotated[str, Field(description="expected SHA-256 of that file")] = ""
    image_size: Annotated[
        int | None, Field(ge=32, le=MAX_IMAGE_SIZE, description="input size of the model, pixels; unset: the network's")
    ] = None
    resize: Annotated[
        Literal["stretch", "crop", "letterbox"],
        Field(
            description="fitting of images into a square: both sides stretched; the center, without what sticks out; "
            "or the whole image on a gray ground"
        ),
    ] = "stretch"
    freeze: Annotated[
        int, Field(ge=0, description="first blocks of a pretrained network, or with start_from, that are not trained")
    ] = 0
    layer_decay: Annotated[
        PositiveFraction,
        Field(description="factor of the learning rate from each block of a pretrained network to the one before"),
    ] = 1.0
    teacher: Annotated[str, Field(description="run folder of the teacher, for distillation")] = ""
    teacher_crops_per_image: Annotated[int, Field(ge=1, le=64, description="crops that the teacher predicts, once")] = 8
    teacher_image_size: Annotated[
        int | None, Field(ge=32, le=MAX_IMAGE_SIZE, description="size of these crops, pixels; unset: the teacher's")
    ] = None
    distillation_alpha: Annotated[
        PositiveFraction, Field(description="weight of the teacher's predictions in the targets")
    ] = 0.8
    distillation_embedding_weight: Annotated[
        NotNegative,
        Field(description="weight of the loss 1 - CKA between the embeddings of the network and of the teacher"),
    ] = 0.0
    unlabeled: Annotated[str, Field(description="folder of images without labels, for distillation only")] = ""
    learning_rate_schedule: Annotated[Schedule, Field(min_length=1, description="factor of both learning rates")] = (
        (0.0, 1.0),
    )
    muon_learning_rate: Annotated[Positive, Field(description="learning rate of Muon")] = 0.05
    muon_momentum: Annotated[Fraction, Field(description="momentum of Muon")] = 0.9
    weight_decay: Annotated[NotNegative, Field(description="decoupled weight decay of AdamW and Muon")] = 0.0
    adam_beta2: Annotated[Fraction, Field(description="decay of Adam's second moment")] = 0.999
    adam_eps: Annotated[Positive, Field(description="term added to Adam's denominator")] = 1e-8
    l2_penalty: Annotated[
        NotNegative, Field(description="factor of the sum of squares of l2_parameters that is added to the loss")
    ] = 0.0
    l2_parameters: Annotated[tuple[str, ...], Field(description="names of parameters with an L2 penalty")] = ()
    label_smoothing: Annotated[Fraction, Field(description="fraction of a label that is spread over all classes")] = 0.0
    class_weighting: Annotated[
        Literal["none", "balanced", "effective"],
        Field(
            description="weights of the classes in the loss. balanced: inverse to their number of images; effective: "
            "milder, for large classes"
        ),
    ] = "none"
    sampling: Annotated[
        Literal["uniform", "balanced"],
        Field(description="images of an epoch: each once, or equally many of each class"),
    ] = "uniform"
    whitened_stem: Annotated[
        bool, Field(description="whether the first convolution is a fixed whitening of patches of the images")
    ] = False
    image_size_schedule: Annotated[
        Schedule,
        AfterValidator(_check_sizes),
        Field(description="size of the training crops, pixels; []: whole images of the network's input size"),
    ] = ()
    cached_image_size: Annotated[
        int, Field(ge=16, le=MAX_IMAGE_SIZE, description="size of the decoded images that crops are taken from, pixels")
    ] = 150
    crop_scale: Annotated[
        tuple[PositiveFraction, PositiveFraction],
        AfterValidator(_check_range),
        Field(description="smallest and largest fraction of an image's area in a crop"),
    ] = (1.0, 1.0)
    crop_ratio: Annotated[
        tuple[Positive, Positive],
        AfterValidator(_check_range),
        Field(description="smallest and largest aspect ratio of a crop, relative to the image's"),
    ] = (1.0, 1.0)
    horizontal_flip: Annotated[
        bool,
        Field(description="whether a mirror image has the same label; false: neither alternating_flip nor flip_tta"),
    ] = True
    alternating_flip: Annotated[bool, Field(description="whether each image is mirrored in every second epoch")] = False
    color_jitter: Annotated[Fraction, Field(description="range of brightness, contrast and saturation jitter")] = 0.0
    grayscale_prob: Annotated[Fraction, Field(description="fraction of images without color")] = 0.0
    degradation_prob: Annotated[
        Fraction, Field(description="fraction of images with blur, noise, JPEG artifacts or fewer pixels")
    ] = 0.0
    cutout_prob: Annotated[Fraction, Field(description="fraction of images with a gray square (Cutout)")] = 0.0
    cutout_size: Annotated[PositiveFraction, Field(description="size of that square, fraction of the image's")] = 0.4
    mixup_prob: Annotated[Fraction, Field(description="fraction of batches with Mixup")] = 0.0
    mixup_alpha: Annotated[Positive, Field(description="parameter of Mixup's beta distribution")] = 0.2
    cutmix_prob: Annotated[Fraction, Field(description="fraction of batches with CutMix")] = 0.0
    ema_decay: Annotated[Fraction, Field(description="decay per step of the EMA of the weights; 0: no EMA")] = 0.0
    ema_start: Annotated[Fraction, Field(description="fraction of the training after which the EMA starts")] = 0.0
    flip_tta: Annotated[bool, Field(description="whether predictions average an image and its mirror image (TTA)")] = (
        False
    )
    compile: Annotated[bool, Field(description="whether to use torch.compile, which needs a C++ compiler")] = False
    checkpoint_metric: Annotated[
        Literal["calibrated_log_loss", "accuracy"],
        Field(description="validation metric that selects the checkpoint; the log loss after temperature scaling"),
    ] = "calibrated_log_loss"
    patience: Annotated[
        int,
        Field(ge=0, description="epochs in a row without a better checkpoint_metric that end the training; 0: no end"),
    ] = 0
    min_delta: Annotated[
        NotNegative, Field(description="change of it that an improvement must exceed, for patience")
    ] = 0.0
    validation_fraction: Annotated[
        Fraction,
        Field(description="fraction of the training images held out for validation, without a validation split"),
    ] = 0.1
    test_fraction: Annotated[
        Fraction, Field(description="fraction of all images held out for testing, without a test split")
    ] = 0.15

    @property
    def linear_probe_only(self) -> bool:
        """Whether only a linear probe is fitted, so that no images are held out to select a checkpoint."""
        return self.pretrained and not self.epochs

    @property
    def split_fractions(self) -> SplitFractions:
        """Fractions of the images to hold out if a dataset has no such splits."""
        return SplitFractions(self.test_fraction, self.validation_fraction, needs_validation=not self.linear_probe_only)

    @model_validator(mode="after")
    def _check_exclusions(self) -> Self:
        if self.sampling != "uniform" and self.class_weighting != "none":
            raise ValueError(
                "sampling and class_weighting both correct unequal class sizes: set one of them. "
                f"Received: {self.sampling!r} and {self.class_weighting!r}"
            )
        if self.freeze and self.linear_probe_only:
            raise ValueError(
                f"freeze needs epochs of 1 or more: a linear probe trains no block. Received: {self.freeze}"
            )
        if not self.horizontal_flip and (self.alternating_flip or self.flip_tta):
            raise ValueError(
                "horizontal_flip = false excludes alternating_flip and flip_tta: leave them out, or set them to false. "
                f"Received: alternating_flip = {self.alternating_flip}, flip_tta = {self.flip_tta}"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.mixup_prob + self.cutmix_prob > 1:
            raise ValueError(
                "mixup_prob and cutmix_prob are fractions of the same batches. "
                f"Received: {self.mixup_prob} + {self.cutmix_prob}, over 1"
            )
        if not self.epochs and not self.pretrained:
            raise ValueError("epochs must be 1 or more for a network that is not pretrained. Received: epochs = 0")
        if self.patience and not self.epochs:
            raise ValueError(f"a linear probe has no epochs for patience. Received: patience = {self.patience}")
        if self.weights and not self.pretrained:
            raise ValueError(
                f"weights are for recipes that start from a pretrained network, such as 'probe'. "
                f"Received: {self.weights!r}"
            )
        if self.unlabeled and not self.teacher:
            raise ValueError(f"unlabeled images need a teacher. Received: unlabeled = {self.unlabeled!r}")
        if self.teacher and self.linear_probe_only:
            raise ValueError("a linear probe is fitted to labels only: a teacher needs epochs of 1 or more")
        if self.l2_penalty and self.optimizer != "adam":
            raise ValueError(
                f"l2_penalty needs the optimizer 'adam'; {self.optimizer!r} takes weight_decay. "
                f"Received: {self.l2_penalty}"
            )
        return self


_ARTICLE = Recipe(
    name="article",
    network="article",
    epochs=30,
    batch_size=32,
    optimizer="adam",
    learning_rate=0.001,
    adam_eps=1e-7,
    l2_penalty=0.01,
    l2_parameters=("features.conv4.weight",),
    checkpoint_metric="accuracy",
)
_QUICK = Recipe(
    name="quick",
    network="compact-small",
    epochs=3,
    min_steps=300,
    batch_size=128,
    optimizer="muon",
    learning_rate=0.004,
    learning_rate_schedule=((0.0, 0.1), (0.2, 1.0), (1.0, 0.0)),
    muon_learning_rate=0.05,
    adam_beta2=0.99,
    label_smoothing=0.1,
    whitened_stem=True,
    image_size_schedule=((0.0, 48), (0.8, 96)),
    crop_scale=(0.5, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    alternating_flip=True,
)
_STANDARD = replace(
    _QUICK,
    name="standard",
    network="compact-medium",
    epochs=18,
    min_steps=760,
    weight_decay=0.05,
    image_size_schedule=((0.0, 64), (0.8, 96)),
    crop_scale=(0.25, 1.0),
    color_jitter=0.2,
    grayscale_prob=0.1,
    degradation_prob=0.2,
    cutout_prob=0.3,
)
_BEST = replace(
    _STANDARD,
    name="best",
    network="compact-xlarge",
    epochs=32,
    min_steps=1200,
    image_size_schedule=((0.0, 64), (0.8, 128)),
    color_jitter=0.3,
    grayscale_prob=0.0,  # neither was measured with this recipe
    degradation_prob=0.0,
    mixup_prob=0.2,
    cutmix_prob=0.3,
    flip_tta=True,
    validation_fraction=0.05,
)
_PROBE = Recipe(
    name="probe",
    network="vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    pretrained=True,
    epochs=0,
    batch_size=64,
    optimizer="adamw",
    learning_rate=0.0005,
)
_FINETUNE = replace(
    _PROBE,
    name="finetune",
    epochs=6,
    min_steps=400,
    learning_rate=0.0002,
    learning_rate_schedule=((0.0, 0.0), (0.1, 1.0), (1.0, 0.0)),
    layer_decay=0.75,
    cached_image_size=256,
    weight_decay=0.05,
    label_smoothing=0.1,
    image_size_schedule=((0.0, 128), (0.7, 224)),
    crop_scale=(0.35, 1.0),
    crop_ratio=(3 / 4, 4 / 3),
    alternating_flip=True,
    color_jitter=0.2,
    cutout_prob=0.2,
    mixup_prob=0.1,
    cutmix_prob=0.1,
    ema_decay=0.998,
    flip_tta=True,
)
RECIPES: Registry[Recipe] = Registry("recipe", "recipes")
for _recipe in (_QUICK, _STANDARD, _BEST, _PROBE, _FINETUNE, _ARTICLE):
    RECIPES.add(_recipe.name, _recipe)
DEFAULT_RECIPE = "standard"
