from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image, ImageDraw

from belvedere.runtime.progress import Progress
from belvedere.training import direction
from belvedere.training.data_loader import ArrayDataset
from belvedere.training.device import Runtime, choose_device
from belvedere.training.direction import MirroredImages, confused_pairs, describe_direction, direction_warnings
from belvedere.training.distributed import Distributed
from belvedere.training.loop import LoopConfig
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.trainer import initialize_network
from belvedere.training.training_data import TrainingData

RUNTIME = Runtime(choose_device("cpu"), Distributed(), Progress())
RECIPE = replace(
    RECIPES["quick"], epochs=1, min_steps=0, batch_size=16, image_size_schedule=((0.0, 32.0),), crop_scale=(0.8, 1.0)
)


def test_mirrored_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    mirrored = MirroredImages(images)
    assert len(mirrored) == 3
    np.testing.assert_array_equal(mirrored[np.array([2, 0])], images[[2, 0], :, ::-1])


def test_confused_pairs() -> None:
    labels = np.repeat(np.arange(4), 10)
    predicted = labels.copy()
    assert confused_pairs(predicted, labels) == []
    predicted[:10:2] = 1  # half of class 0 as class 1
    assert confused_pairs(predicted, labels) == [(0, 1)]
    predicted[:10:2] = [1, 1, 2, 2, 3]  # spread over others
    assert confused_pairs(predicted, labels) == []
    few = np.array([0, 0, 0, 1, 1, 1])
    assert confused_pairs(1 - few, few) == []


def test_classes_without_mistakes_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.arange(3000), 2)
    predicted = labels.copy()
    predicted[:2] = 1
    looks = iter(range(10))  # at fewer pairs than 10 of the 4,498,500
    monkeypatch.setattr(direction, "max", lambda *values: max(*values, next(looks) * 0), raising=False)
    monkeypatch.setattr(direction, "MIN_IMAGES", 4)
    assert confused_pairs(predicted, labels) == [(0, 1)]


def test_the_check_has_as_many_repeats_as_the_training(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def run_loop(_: object, config: LoopConfig, *__: object) -> SimpleNamespace:
        steps.append(config.batches.total_steps)
        return SimpleNamespace(weights=None)

    monkeypatch.setattr(direction, "run_loop", run_loop)
    network = initialize_network(RECIPE, 2, 0, data.train.images)
    network.classify.weight.data.zero_()
    direction_warnings(network, data, replace(RECIPE, min_steps=1000), 0, RUNTIME)
    assert steps == [500]


def test_only_differences_beyond_chance_are_reported() -> None:
    labels = np.repeat(np.arange(3), 20)
    right, wrong = np.ones(60, bool), np.zeros(60, bool)
    half = np.arange(60) % 2 == 0
    names = ("left", "right", "up")
    (warning,) = describe_direction(half, right, wrong, labels, [(0, 1)], names)
    assert "left, right:" in warning.message
    assert "50.0%" in warning.message
    assert "`horizontal_flip=false`" in warning.message
    assert describe_direction(half, right, right, labels, [(0, 1)], names) == ()  # more training helped
    assert describe_direction(half, half, half, labels, [(0, 1)], names) == ()
    assert describe_direction(right, right, wrong, labels, [(0, 1)], names) == ()  # mirroring does no harm
    nearly = right.copy()
    nearly[:4] = False
    assert describe_direction(half, right, nearly, labels, [(0, 1)], names) == ()


def halves(count: int, seed: int) -> ArrayDataset:
    """Return images that are white on the left or on the right side."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = random.integers(60, 120, (count, 32, 32, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        drawn = Image.fromarray(image)
        ImageDraw.Draw(drawn).rectangle((0, 0, 13, 31) if label else (18, 0, 31, 31), fill="white")
        image[:] = np.asarray(drawn)
    return ArrayDataset(images, labels.astype(np.int64))


@pytest.fixture
def data() -> TrainingData:
    return cast(
        TrainingData, SimpleNamespace(class_names=("left", "right"), train=halves(64, 0), validation=halves(32, 1))
    )


def test_classes_that_are_mirror_images_of_each_other(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direction, "MIN_STEPS", 100)
    network = initialize_network(RECIPE, 2, 0, data.train.images)
    network.classify.weight.data.zero_()  # as confused as after a training with mirror images
    (warning,) = direction_warnings(network, data, RECIPE, 0, RUNTIME)
    assert "left, right" in warning.message


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, alternating_flip=False),
        RECIPES["probe"],
        replace(RECIPE, horizontal_flip=True, epochs=0, pretrained=True),
    ],
)
def test_nothing_is_trained_for_recipes_that_do_not_mirror(
    recipe: Recipe, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direction, "_predict", None)
    network = initialize_network(RECIPE, 2, 0, data.train.images)
    assert direction_warnings(network, data, recipe, 0, RUNTIME) == ()
