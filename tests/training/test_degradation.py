"""Degradations of images."""

import numpy as np
import pytest
import torch
from torch import Tensor

from belvedere.training import degradation
from belvedere.training.augment import grayscale
from belvedere.training.degradation import degrade

METHODS = (degradation._blur, degradation._add_noise, degradation._compress, degradation._reduce)


def textures(count: int = 6, height: int = 32, width: int = 40) -> Tensor:
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(0, 255, (count, 3, 8, 8)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_changes_images_and_keeps_brightness_and_range(method: object) -> None:
    images = textures()
    found = method(images, np.random.default_rng(1))  # type: ignore[operator]
    assert found.shape == images.shape
    assert found.min() >= -1e-3
    assert found.max() <= 255 + 1e-3
    assert 0 < (found - images).abs().mean() < 30
    assert (found.mean((2, 3)) - images.mean((2, 3))).abs().max() < 8


@pytest.mark.parametrize("method", [METHODS[0], METHODS[3]])
def test_blur_and_fewer_pixels_keep_an_even_image(method: object) -> None:
    images = torch.full((2, 3, 24, 24), 77.0)
    assert torch.allclose(method(images, np.random.default_rng(0)), images, atol=1e-3)  # type: ignore[operator]


def test_only_a_fraction_is_degraded_and_the_seed_decides() -> None:
    images = textures(400, 16, 16)
    first, second = (degrade(images, 0.25, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, second)
    changed = (first != images).flatten(1).any(1).float().mean()
    assert 0.15 < changed < 0.35
    assert degrade(images.bfloat16(), 0.25, np.random.default_rng(3)).dtype == torch.bfloat16
    assert torch.equal(degrade(images, 0.0, np.random.default_rng(3)), images)


def test_grayscale_has_equal_channels_in_a_fraction() -> None:
    images = textures(200, 8, 8)
    found = grayscale(images, 0.5, np.random.default_rng(0))
    gray = (found.amax(1) - found.amin(1)).flatten(1).amax(1) == 0
    assert 0.4 < gray.float().mean() < 0.6
    assert torch.equal(found[~gray], images[~gray])
    assert torch.allclose(found[gray][:, 0], images[gray].mean(1))
