"""Augmentation of the user's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from belvedere.errors import PluginError, UsageError
from belvedere.training.custom_augment import apply_augment, check_augment, name_of_augment
from belvedere.training.recipes import RECIPES

PIXELS = torch.full((2, 3, 4, 5), 100.0)


def noise(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return pixels + torch.randn(pixels.shape, generator=generator)


def test_the_draws_follow_from_the_seed_alone() -> None:
    first = apply_augment(noise, PIXELS, (0, 3, 7))
    torch.manual_seed(5)
    assert torch.equal(apply_augment(noise, PIXELS, (0, 3, 7)), first)
    assert not torch.equal(apply_augment(noise, PIXELS, (0, 3, 8)), first)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_the_function_gets_float32_and_the_training_its_type() -> None:
    seen: list[torch.dtype] = []

    def keep(pixels: Tensor, _: torch.Generator) -> Tensor:
        seen.append(pixels.dtype)
        return pixels

    found = apply_augment(keep, PIXELS.bfloat16(), (0,))
    assert seen == [torch.float32]
    assert found.dtype == torch.bfloat16
    assert apply_augment(None, PIXELS, (0,)) is PIXELS


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda pixels, _: pixels[:1], UsageError),
        (lambda pixels, _: pixels[..., :2], UsageError),
        (lambda pixels, _: pixels.byte(), UsageError),
        (lambda _, __: None, UsageError),
        (lambda pixels, _: pixels + "x", PluginError),
        (lambda pixels: pixels, PluginError),
    ],
    ids=["images", "size", "type", "nothing", "exception", "arguments"],
)
def test_other_results_are_one_line(function: Callable[..., Any], error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        check_augment(function, RECIPES["quick"])
    assert "\n" not in str(raised.value)


def test_a_linear_probe_augments_nothing() -> None:
    check_augment(noise, RECIPES["finetune"])
    check_augment(None, RECIPES["probe"])
    with pytest.raises(UsageError, match="`augment`"):
        check_augment(noise, RECIPES["probe"])


def test_names() -> None:
    assert name_of_augment(noise) == "noise"
    assert name_of_augment(torch.nn.Identity()) == "Identity"
