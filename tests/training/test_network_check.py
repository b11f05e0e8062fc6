"""Checks of networks of the user's before a training."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from belvedere.errors import PluginError, UsageError
from belvedere.runtime.progress import Progress
from belvedere.training import network_check
from belvedere.training.network_check import prepare_network
from belvedere.training.networks.register import make_spec
from belvedere.training.networks.registry import NETWORKS, Network
from belvedere.training.recipes import RECIPES

QUICK = replace(RECIPES["quick"], image_size_schedule=((0.0, 32), (1.0, 64)))


def pooled(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )


def flat(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, num_classes))


def prepare(create: Callable[[int], nn.Module], size: int = 64) -> tuple[object, object]:
    with NETWORKS.scoped("mine", make_spec("mine", create, size)):
        found = prepare_network(replace(QUICK, network="mine"), 3, 0, Progress())
    return found.whitened_stem, found.image_size_schedule


def test_our_networks_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_check, "export_graph", lambda *_: pytest.fail("exported"))
    assert prepare_network(RECIPES["quick"], 3, 0, Progress()) is RECIPES["quick"]


def test_the_recipe_is_adapted_to_the_network() -> None:
    state = torch.random.get_rng_state()
    assert prepare(pooled) == (False, QUICK.image_size_schedule)
    assert prepare(flat) == (False, ((0.0, 64.0),))
    assert prepare(flat, 72) == (False, ())  # crops have multiples of 16 pixels
    assert torch.equal(torch.random.get_rng_state(), state)


class Frozen(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


class FailsInTraining(nn.Sequential):
    def forward(self, pixels: Tensor) -> Tensor:
        if self.training:
            raise ValueError("not today")
        logits: Tensor = super().forward(pixels)  # type: ignore[no-untyped-call]
        return logits


class WrongMap(Network):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(3, num_classes)

    def feature_map(self, pixels: Tensor) -> Tensor:
        return pixels + 1


class NotExportable(nn.Module):
    """Has a complex Fourier transform in it, which ONNX lacks in this opset."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.linalg.svdvals(pixels)[..., 0])
        return logits


@pytest.mark.parametrize(
    ("create", "error"),
    [
        (lambda _: Frozen(), UsageError),
        (lambda num_classes: FailsInTraining(*pooled(num_classes)), PluginError),  # type: ignore[misc]
        (WrongMap, UsageError),
        (lambda _: pooled(4), UsageError),
        (NotExportable, UsageError),
    ],
    ids=["frozen", "training", "map", "classes", "export"],
)
def test_mistakes_are_found_before_the_training(create: Callable[[int], nn.Module], error: type[Exception]) -> None:
    with pytest.raises(error, match="'mine'") as raised:
        prepare(create)
    assert "\n" not in str(raised.value)
