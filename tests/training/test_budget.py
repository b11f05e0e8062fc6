"""A training that is to end in time, by a clock that only the network moves."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from belvedere.runtime.progress import Progress
from belvedere.training import loop, time_budget
from belvedere.training.data_loader import DataLoader, Part
from belvedere.training.device import Hardware
from belvedere.training.distributed import Distributed
from belvedere.training.loop import Plan, fit
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import count_steps
from belvedere.training.time_budget import USED, steps_in_time

CPU = Hardware(torch.device("cpu"), torch.float32)
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
    """Takes a millisecond a column of a training picture, and half a second for all that is validated on."""

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


def ready(recipe: Recipe) -> tuple[Network, Plan, DataLoader, DataLoader]:
    torch.manual_seed(0)
    train, validation = (
        DataLoader(Part(np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 2), CPU) for count in (40, 16)
    )
    return Slow(), Plan(recipe, count_steps(40, recipe), 0, CPU, Distributed()), train, validation


@pytest.mark.parametrize(("recipe", "a_step"), [(GROWING, 0.048), (EVEN, 0.032)], ids=["growing", "even"])
def test_so_many_steps_are_taken_as_fit(recipe: Recipe, a_step: float) -> None:
    network, plan, train, validation = ready(recipe)
    steps = steps_in_time(network, plan, train, validation, 20)
    tried = Clock.now
    assert steps.bounds == plan.steps.bounds
    assert steps.total == pytest.approx((20 * USED - tried) / (a_step + 0.5 / 5), rel=0.03)
    outcome = fit(network, replace(plan, steps=steps), train, validation, progress=Progress(), keep=lambda _: None)
    assert 0.85 * 20 < Clock.now <= 20
    assert len(outcome.history) == steps.epochs


@pytest.mark.parametrize("seconds", [0, 0.1, -5])
def test_too_little_time_is_one_step(seconds: float) -> None:
    assert steps_in_time(*ready(GROWING), seconds).total == 1


def test_trying_leaves_no_trace() -> None:
    network, plan, train, validation = ready(GROWING)
    before, random = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    steps_in_time(network, plan, train, validation, 5)
    assert all(torch.equal(network.state_dict()[name], weights) for name, weights in before.items())
    assert all(weights.grad is None for weights in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert network.training
