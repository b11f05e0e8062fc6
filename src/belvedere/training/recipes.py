"""Recipes: everything that decides how a model is trained, as plain frozen records.

Knows the values and which are possible; does not know what is done with them.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def _check_plan(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    places = [place for place, _ in points]
    if not points or places != sorted(places) or not all(0 <= place <= 1 for place in places):
        raise ValueError("a plan is pairs [share of training from 0 to 1, value], in rising order of the shares")
    if not all(value >= 0 for _, value in points):
        raise ValueError("a plan's values can't be negative")
    return points


# Pairs of a share of training, 0 to 1, and a value; between two of them it runs straight, outside it stays.
Plan = Annotated[tuple[tuple[float, float], ...], AfterValidator(_check_plan)]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", strict=False))
class Recipe:
    """One way to train. Every field goes into the run's config.toml, and can be given in a `--config` file."""

    name: str
    network: str  # a name in networks.registry
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    optimiser: Literal["adam", "muon"]  # "muon": Muon for the kernels of the blocks, AdamW for the rest
    learning_rate: Positive  # of Adam or AdamW
    least_steps: Annotated[int, Field(ge=0)] = (
        0  # of few photographs an epoch shows each several times, to make so many
    )
    learning_rate_plan: Plan = ((0.0, 1.0),)  # factor of both rates
    muon_learning_rate: Positive = 0.05
    muon_momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of AdamW, decoupled; of Muon's kernels too
    adam_beta2: Share = 0.999
    adam_epsilon: Positive = 1e-8
    l2: Annotated[float, Field(ge=0)] = 0.0  # added to the loss: l2 times the sum of squares of each of `l2_kernels`
    l2_kernels: tuple[str, ...] = ()
    label_smoothing: Share = 0.0
    side_plan: Plan | None = None  # side of the pictures trained on, in pixels; None: the network's input, unchanged
    source_side: Annotated[int, Field(ge=16, le=1024)] = 150  # of the decoded pictures that crops are cut from
    crop_area: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (1.0, 1.0)
    crop_ratio: Annotated[float, Field(ge=1)] = 1.0  # greatest ratio of a crop's sides, relative to the picture's
    flip: bool = False  # every second epoch the other way round
    colour: Share = 0.0  # how much brightness, contrast and saturation vary
    erase: Share = 0.0  # how many pictures get a grey square
    mix: Share = 0.0  # how many batches are mixed with their own pictures in another order (mixup)
    paste: Share = 0.0  # how many get a rectangle of another picture (CutMix)
    average_decay: Share = 0.0  # of the moving average of the weights, a step; 0: no average
    average_from: Share = 0.0  # share of training from which weights are averaged
    both_ways: bool = False  # whether the model answers with the mean of a picture and its mirror image
    compile: bool = False  # whether torch compiles the network, which needs a C++ compiler
    choose_by: Literal["loss", "accuracy"] = "loss"  # the epoch that is kept: the best on the validation photographs
    validation_share: Share = 0.1  # of the training photographs, kept back to choose the epoch by
    test_share: Share = 0.15  # of all photographs, kept back to report, where the data set has no test part


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
    epochs=5,
    least_steps=300,
    batch_size=128,
    optimiser="muon",
    learning_rate=0.004,
    learning_rate_plan=((0.0, 0.1), (0.2, 1.0), (1.0, 0.0)),
    muon_learning_rate=0.05,
    adam_beta2=0.99,
    label_smoothing=0.1,
    side_plan=((0.0, 48), (0.8, 96)),
    crop_area=(0.5, 1.0),
    crop_ratio=4 / 3,
    flip=True,
)
_STANDARD = replace(
    _QUICK,
    name="standard",
    network="compact-medium",
    epochs=17,
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
    network="compact-large",
    epochs=36,
    least_steps=1200,
    side_plan=((0.0, 64), (0.8, 128)),
    mix=0.2,
    paste=0.2,
)
RECIPES = {recipe.name: recipe for recipe in (_QUICK, _STANDARD, _BEST, _ARTICLE)}
DEFAULT_RECIPE = "standard"
