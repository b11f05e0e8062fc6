"""Augmentation of the user's: a function of a batch and a generator of random numbers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from belvedere.errors import UsageError
from belvedere.runtime.registry import plugin_errors
from belvedere.training.recipes import Recipe

# Pixels, (N, 3, H, W), float32, RGB of 0 to 255, and a generator on their device -> pixels of the same shape.
Augment = Callable[[Tensor, torch.Generator], Tensor]


def name_of_augment(augment: Augment) -> str:
    """Return the name of a function, or of the class of an object."""
    return str(getattr(augment, "__qualname__", type(augment).__qualname__))


def apply_augment(augment: Augment | None, pixels: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Augment a batch.

    Args:
        augment: The function; None returns the batch.
        pixels: (N, 3, H, W), floating point.
        seed: Numbers that determine the draws, such as seed and step.

    Returns:
        Pixels of the same shape and type, channels_last.

    Raises:
        PluginError: The function raised an exception.
        UsageError: It returned something else than such a batch.
    """
    if augment is None:
        return pixels
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    generator = torch.Generator(pixels.device).manual_seed(int(state >> np.uint64(1)))
    name = f"The augmentation {name_of_augment(augment)!r}"
    with plugin_errors(name):
        found = augment(pixels.float(), generator)
    if not isinstance(found, Tensor) or found.shape != pixels.shape or not found.is_floating_point():
        received = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"{name} must return floating-point pixels of shape {tuple(pixels.shape)}. Received: {received}."
        )
    return found.to(pixels).contiguous(memory_format=torch.channels_last)


def check_augment(augment: Augment | None, recipe: Recipe) -> None:
    """Try the function on a batch of noise.

    Raises:
        PluginError: The function raised an exception.
        UsageError: It returned something else than a batch, or only a linear probe is fitted, which augments nothing.
    """
    if augment is None:
        return
    if recipe.linear_probe_only:
        raise UsageError(
            f"`augment` has no effect on a linear probe, which embeds each image once. Set `epochs` to 1 or more, or "
            f"choose another recipe than {recipe.name!r}."
        )
    generator = torch.Generator().manual_seed(0)
    apply_augment(augment, 255 * torch.rand((2, 3, 64, 64), generator=generator), (0,))
