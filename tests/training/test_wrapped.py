"""Modules of the user's as networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from belvedere.errors import PluginError, UsageError
from belvedere.training.networks.register import IMAGENET_MEAN, IMAGENET_STD
from belvedere.training.networks.wrapped import MAX_EMBEDDING_DIM, WrappedNetwork, random_pixels
from belvedere.types.model import Preprocess

SIZE = Preprocess(32, 32)
NUM_CLASSES = 3


def convolutions() -> list[nn.Module]:
    return [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]


def pooled() -> nn.Module:
    return nn.Sequential(*convolutions(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, NUM_CLASSES))


class Functional(nn.Module):
    """Pools without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolutions())
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(pixels).mean((2, 3)))
        return logits


class ReadsWeights(Functional):
    """Uses its last layer without calling it only."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) + self.head.weight.sum()


class Returns(nn.Module):
    """Returns what a function makes of logits."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.body, self.function = pooled(), function

    def forward(self, pixels: Tensor) -> object:
        return self.function(self.body(pixels))


def flat(channels: int = 8) -> nn.Module:
    dim = channels * 16 * 16
    return nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(dim, NUM_CLASSES))


def convolutional_head() -> nn.Module:
    return nn.Sequential(*convolutions(), nn.Conv2d(8, NUM_CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def log_softmax() -> nn.Module:
    return nn.Sequential(pooled(), nn.LogSoftmax(1))


def wrap(module: nn.Module, num_classes: int = NUM_CLASSES) -> WrappedNetwork:
    return WrappedNetwork(module, num_classes, SIZE, IMAGENET_MEAN, IMAGENET_STD, "mine")


@pytest.mark.parametrize(
    ("make", "dim", "map_size"),
    [
        (pooled, 8, 16),
        (Functional, 8, 16),
        (flat, 2048, 1),
        (lambda: flat(9), NUM_CLASSES, 1),  # features that are too wide
        (convolutional_head, NUM_CLASSES, 16),
        (log_softmax, NUM_CLASSES, 1),
        (ReadsWeights, NUM_CLASSES, 1),
    ],
)
def test_a_module_is_taken_apart_without_a_change_of_its_logits(
    make: Callable[[], nn.Module], dim: int, map_size: int
) -> None:
    torch.manual_seed(0)
    module = make().eval()
    pixels = random_pixels(SIZE)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = module((pixels / 255 - mean) / std)
        network = wrap(module).eval()
        logits, embedding, maps = network(pixels), network.forward_embedding(pixels), network.feature_map(pixels)
    assert embedding.shape == (len(pixels), dim)
    assert dim <= MAX_EMBEDDING_DIM
    assert maps.shape == (len(pixels), dim, map_size, map_size)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.classify(embedding), logits)
    torch.testing.assert_close(maps.mean((2, 3)), embedding, rtol=1e-4, atol=1e-5)


def test_parameters_are_those_of_the_module_and_train() -> None:
    module = pooled()
    parameters = {id(each) for each in module.parameters()}
    network = wrap(module)
    assert {id(each) for each in network.parameters()} == parameters
    assert network.training
    assert all(each.requires_grad for each in network.parameters())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in network.modules())


@pytest.mark.parametrize(
    "function",
    [
        lambda logits: (logits, logits),
        lambda logits: logits[:, :2],
        lambda logits: logits[0],
        lambda logits: logits.long(),
        lambda logits: logits * float("nan"),
        lambda logits: logits.softmax(1),
        lambda _: None,
    ],
    ids=["tuple", "classes", "rank", "integers", "nan", "probabilities", "nothing"],
)
def test_what_is_no_logits_is_refused_early(function: Callable[[Tensor], object]) -> None:
    with pytest.raises(UsageError, match="'mine'"):
        wrap(Returns(function))


def test_an_exception_names_the_network_and_the_size() -> None:
    def fail(_: Tensor) -> object:
        raise ValueError("two\nlines")

    with pytest.raises(PluginError, match=r"'mine'.*32 x 32") as raised:
        wrap(Returns(fail))
    assert "\n" not in str(raised.value)
