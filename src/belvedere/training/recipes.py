"""Recipes: everything that decides how a model is trained, as plain frozen records.

Knows the values and which are possible; does not know what is done with them.
"""

import math
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from belvedere.data.splits import SplitFractions

LARGEST_SIDE = 1024  # pixels
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Points = tuple[tuple[float, float], ...]


def _check_plan(points: Points) -> Points:
    places = [place for place, _ in points]
    if places != sorted(places) or not all(0 <= place <= 1 for place in places):
        raise ValueError("a plan is pairs [share of training from 0 to 1, value], in rising order of the shares")
    if not all(0 <= value < math.inf for _, value in points):
        raise ValueError("a plan's values can't be negative or infinite")
    return points


def _check_sides(points: Points) -> Points:
    if not all(1 <= side <= LARGEST_SIDE for _, side in points):
        raise ValueError(f"sides are from 1 to {LARGEST_SIDE} pixels")
    return points


# Pairs of a share of training, 0 to 1, and a value; between two of them it runs straight, outside it stays.
Plan = Annotated[Points, AfterValidator(_check_plan)]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", strict=False))
class Recipe:
    """One way to train. Every field goes into the run's config.toml, and can be given in a `--config` file."""

    name: Annotated[str, Field(description="of this recipe")]
    network: Annotated[str, Field(description="one of those that `belvedere show` knows; pretrained: one of timm's")]
    epochs: Annotated[
        int, Field(ge=0, description="how often every photograph is shown; pretrained, 0: only the last layer learns")
    ]
    batch_size: Annotated[int, Field(ge=2, description="photographs a step")]
    optimiser: Annotated[
        Literal["adam", "adamw", "muon"],
        Field(description="muon: Muon for the kernels of the blocks, AdamW for the rest"),
    ]
    learning_rate: Annotated[Positive, Field(description="of Adam or AdamW")]
    least_steps: Annotated[
        int,
        Field(ge=0, description="of few photographs an epoch shows each several times, to make so many steps in all"),
    ] = 0
    pretrained: Annotated[
        bool,
        Field(description="whether the network starts from weights that others learnt, and a probe of its embeddings"),
    ] = False
    weights: Annotated[str, Field(description="file of the pretrained weights; without: from the hub")] = ""
    weights_sha256: Annotated[str, Field(description="checksum that this file must have")] = ""
    input_side: Annotated[
        int | None,
        Field(
            ge=32, le=LARGEST_SIDE, description="of the pictures that the network answers for, pixels; without: its own"
        ),
    ] = None
    layer_decay: Annotated[
        Part, Field(description="factor of the rate from each block of a pretrained network to the one before it")
    ] = 1.0
    teacher: Annotated[str, Field(description="run whose network's answers are learnt beside the labels")] = ""
    teacher_crops: Annotated[
        int, Field(ge=1, le=64, description="crops of each photograph that the teacher answers for, once")
    ] = 8
    teacher_side: Annotated[
        int | None,
        Field(ge=32, le=LARGEST_SIDE, description="of the crops that the teacher sees, pixels; without: its own"),
    ] = None
    teacher_share: Annotated[Part, Field(description="of the teacher's answers in what is learnt")] = 0.8
    unlabelled: Annotated[str, Field(description="folder of photographs for which the teacher's answer is all")] = ""
    learning_rate_plan: Annotated[Plan, Field(min_length=1, description="factor of both rates")] = ((0.0, 1.0),)
    muon_learning_rate: Annotated[Positive, Field(description="of Muon")] = 0.05
    muon_momentum: Annotated[Share, Field(description="of Muon")] = 0.9
    weight_decay: Annotated[NotNegative, Field(description="of AdamW, decoupled, and of Muon's kernels")] = 0.0
    adam_beta2: Annotated[Share, Field(description="how long Adam remembers squared gradients")] = 0.999
    adam_epsilon: Annotated[Positive, Field(description="added to Adam's divisor")] = 1e-8
    l2: Annotated[
        NotNegative, Field(description="added to the loss: so many times the sum of squares of each of l2_kernels")
    ] = 0.0
    l2_kernels: Annotated[tuple[str, ...], Field(description="parameters of the network by name")] = ()
    label_smoothing: Annotated[Share, Field(description="share of a label that is spread over all classes")] = 0.0
    whiten: Annotated[
        bool, Field(description="whether the first layer is computed from the photographs instead of trained")
    ] = False
    side_plan: Annotated[
        Plan,
        AfterValidator(_check_sides),
        Field(description="side of the crops trained on, pixels; []: whole pictures of the network's own size"),
    ] = ()
    source_side: Annotated[
        int, Field(ge=16, le=LARGEST_SIDE, description="of the decoded pictures that crops are cut from, pixels")
    ] = 150
    crop_area: Annotated[tuple[Part, Part], Field(description="least and greatest share of a picture in a crop")] = (
        1.0,
        1.0,
    )
    crop_ratio: Annotated[
        float,
        Field(ge=1, allow_inf_nan=False, description="greatest ratio of a crop's sides, relative to the picture's"),
    ] = 1.0
    flip: Annotated[bool, Field(description="whether every second epoch shows a picture the other way round")] = False
    colour: Annotated[Share, Field(description="how much brightness, contrast and saturation vary")] = 0.0
    erase: Annotated[Share, Field(description="how many pictures get a grey square")] = 0.0
    mix: Annotated[
        Share, Field(description="how many batches are blended with themselves in another order (mixup)")
    ] = 0.0
    paste: Annotated[Share, Field(description="how many get a rectangle of another picture (CutMix)")] = 0.0
    average_decay: Annotated[Share, Field(description="of a moving average of the weights, a step; 0: none")] = 0.0
    average_from: Annotated[Share, Field(description="share of training from which weights are averaged")] = 0.0
    both_ways: Annotated[
        bool, Field(description="whether the model answers with the mean of a picture and its mirror image")
    ] = False
    compile: Annotated[bool, Field(description="whether torch compiles the network, which needs a C++ compiler")] = (
        False
    )
    choose_by: Annotated[
        Literal["loss", "accuracy"],
        Field(description="which epoch is kept, by the validation photographs; loss: after the best temperature"),
    ] = "loss"
    validation_share: Annotated[
        Share, Field(description="of the training photographs, kept back to choose the epoch by where no part is named")
    ] = 0.1
    test_share: Annotated[
        Share,
        Field(description="of those in no part or to train on, kept back to report on where no part is named"),
    ] = 0.15

    @property
    def probes_only(self) -> bool:
        """Whether nothing but the last layer is learnt, so that no photograph is needed to choose an epoch by."""
        return self.pretrained and not self.epochs

    @property
    def split_fractions(self) -> SplitFractions:
        """How many images are held out, where a data set does not say which."""
        return SplitFractions(self.test_share, self.validation_share, needs_validation=not self.probes_only)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.mix + self.paste > 1:
            raise ValueError(
                f"mix and paste are shares of the same batches. Received: {self.mix} + {self.paste}, over 1"
            )
        if not self.epochs and not self.pretrained:
            raise ValueError("epochs must be 1 or more for a network that is not pretrained. Received: epochs = 0")
        if self.weights and not self.pretrained:
            raise ValueError(
                f"weights are for recipes that start from a pretrained network, such as 'pretrained'. "
                f"Received: {self.weights!r}"
            )
        if self.unlabelled and not self.teacher:
            raise ValueError(f"without a teacher nothing is learnt from unlabelled = {self.unlabelled!r}")
        if self.teacher and self.probes_only:
            raise ValueError("a probe learns from labels only: a teacher is for recipes with epochs")
        if self.l2 and self.optimiser != "adam":
            raise ValueError(
                f"l2 is for the optimiser 'adam'; {self.optimiser!r} takes weight_decay. Received: {self.l2}"
            )
        return self


_ARTICLE = Recipe(
    name="article",
    network="article",
    epochs=30,
    batch_size=32,
    optimiser="adam",
    learning_rate=0.001,
    adam_epsilon=1e-7,
    l2=0.01,
    l2_kernels=("features.conv4.weight",),
    choose_by="accuracy",
)
_QUICK = Recipe(
    name="quick",
    network="compact-small",
    epochs=3,
    least_steps=300,
    batch_size=128,
    optimiser="muon",
    learning_rate=0.004,
    learning_rate_plan=((0.0, 0.1), (0.2, 1.0), (1.0, 0.0)),
    muon_learning_rate=0.05,
    adam_beta2=0.99,
    label_smoothing=0.1,
    whiten=True,
    side_plan=((0.0, 48), (0.8, 96)),
    crop_area=(0.5, 1.0),
    crop_ratio=4 / 3,
    flip=True,
)
_STANDARD = replace(
    _QUICK,
    name="standard",
    network="compact-medium",
    epochs=14,
    least_steps=600,
    weight_decay=0.05,
    side_plan=((0.0, 64), (0.8, 112)),
    crop_area=(0.25, 1.0),
    colour=0.2,
    erase=0.3,
    both_ways=True,
)
_BEST = replace(
    _STANDARD,
    name="best",
    network="compact-xlarge",
    epochs=32,
    least_steps=1200,
    side_plan=((0.0, 64), (0.8, 128)),
    colour=0.3,
    mix=0.2,
    paste=0.3,
    validation_share=0.05,
)
_PRETRAINED = Recipe(
    name="pretrained",
    network="vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    pretrained=True,
    epochs=0,
    batch_size=64,
    optimiser="adamw",
    learning_rate=0.0005,
)
_FINETUNED = replace(
    _PRETRAINED,
    name="finetuned",
    epochs=6,
    least_steps=400,
    learning_rate=0.0002,
    learning_rate_plan=((0.0, 0.0), (0.1, 1.0), (1.0, 0.0)),
    layer_decay=0.75,
    source_side=256,
    weight_decay=0.05,
    label_smoothing=0.1,
    side_plan=((0.0, 128), (0.7, 224)),
    crop_area=(0.35, 1.0),
    crop_ratio=4 / 3,
    flip=True,
    colour=0.2,
    erase=0.2,
    mix=0.1,
    paste=0.1,
    average_decay=0.998,
    both_ways=True,
)
RECIPES = {recipe.name: recipe for recipe in (_QUICK, _STANDARD, _BEST, _PRETRAINED, _FINETUNED, _ARTICLE)}
DEFAULT_RECIPE = "standard"
