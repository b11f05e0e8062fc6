"""Trainings with a time limit, on a clock that only the network moves."""

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from belvedere.runtime.progress import Progress
from belvedere.training import loop, time_budget
from belvedere.training.data_loader import ArrayDataset, DataLoader
from belvedere.training.device import Device, Runtime
from belvedere.training.loop import LoopConfig, run_loop
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import plan_batches
from belvedere.training.time_budget import SAFETY_FACTOR, steps_in_time
from belvedere.types.data import DataWarning

CPU = Device(torch.device("cpu"), torch.float32)
GROWING = replace(
    RECIPES["quick"],
    epochs=10,
    min_steps=0,
    batch_size=8,
    learning_rate_schedule=((0.0, 1.0),),
    image_size_schedule=((0.0, 32), (0.5, 32), (0.5, 64), (1.0, 64)),
)
EVEN = replace(RECIPES["article"], epochs=10, batch_size=8, l2_parameters=())


class Clock:
    now = 0.0

    @classmethod
    def perf_counter(cls) -> float:
        return cls.now


class Slow(Network):
    """Takes a millisecond for each column of a training image, and half a second for a validation."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(2, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        Clock.now += pixels.shape[3] / 1000 if self.training else 0.5
        return super().forward(pixels)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_budget, "time", Clock)
    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(Clock, "now", 0.0)


def ready(recipe: Recipe) -> tuple[Network, LoopConfig, DataLoader, DataLoader]:
    torch.manual_seed(0)
    train, validation = (
        DataLoader(ArrayDataset(np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 2), CPU)
        for count in (40, 16)
    )
    return Slow(), LoopConfig(recipe, plan_batches(40, recipe), 0, Runtime(CPU)), train, validation


@pytest.mark.parametrize(("recipe", "a_step"), [(GROWING, 0.048), (EVEN, 0.032)], ids=["growing", "even"])
def test_the_number_of_steps_fits_the_time(recipe: Recipe, a_step: float) -> None:
    network, config, train, validation = ready(recipe)
    batches = steps_in_time(network, config, train, validation, 20)
    tried = Clock.now
    assert batches.bounds == config.batches.bounds
    assert batches.total_steps == pytest.approx((20 * SAFETY_FACTOR - tried) / (a_step + 0.5 / 5), rel=0.03)
    outcome = run_loop(network, replace(config, batches=batches), train, validation)
    assert 0.85 * 20 < Clock.now <= 20
    assert len(outcome.history) == batches.epochs


@pytest.mark.parametrize("seconds", [0, 0.1, -5])
def test_at_least_one_step_is_taken(seconds: float) -> None:
    assert steps_in_time(*ready(GROWING), seconds).total_steps == 1


@pytest.mark.parametrize(("seconds", "warnings"), [(0.1, 1), (20, 0)])
def test_less_than_an_epoch_is_a_warning(seconds: float, warnings: int) -> None:
    class Recorder(Progress):
        count = 0

        def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
            self.count += len([*warnings])

    network, config, train, validation = ready(GROWING)
    progress = Recorder()
    steps_in_time(network, replace(config, runtime=Runtime(CPU, progress=progress)), train, validation, seconds)
    assert progress.count == warnings


def test_the_measurement_changes_nothing() -> None:
    network, config, train, validation = ready(GROWING)
    before, random = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    steps_in_time(network, config, train, validation, 5)
    assert all(torch.equal(network.state_dict()[name], weights) for name, weights in before.items())
    assert all(weights.grad is None for weights in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert network.training
