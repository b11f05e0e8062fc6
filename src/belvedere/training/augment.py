"""Chance in the pictures of a batch: crops, flips, colours, erased squares, mixtures; the whole batch at once.

Knows how to cut, scale and mix pictures on the device they are on; does not know networks or photographs on disk.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.training.recipes import Recipe

GREY, SPREAD = 115.0, 60.0  # about the mean and the standard deviation of photographs
ERASED_SIDE = 0.4  # of the picture's
MIX_ALPHA = 0.2  # of the beta distribution of a mixture's shares


@dataclass(frozen=True)
class Boxes:
    """What to cut from each of N pictures, in pixels, and whether to mirror it; (N,) each."""

    top: NDArray[np.float64]
    left: NDArray[np.float64]
    height: NDArray[np.float64]
    width: NDArray[np.float64]
    mirrored: NDArray[np.bool_]


def sample_crops(
    mirrored: NDArray[np.bool_], height: int, width: int, recipe: Recipe, random: np.random.Generator
) -> Boxes:
    """Draws a crop for each picture: its area, its shape, its place (Szegedy et al. 2014, arXiv 1409.4842)."""
    count = len(mirrored)
    area = random.uniform(*recipe.crop_scale, count) * height * width
    ratio = np.exp(random.uniform(-1, 1, count) * math.log(recipe.crop_ratio)) * width / height
    columns, rows = np.minimum(np.sqrt(area * ratio), width), np.minimum(np.sqrt(area / ratio), height)
    top, left = random.random(count) * (height - rows), random.random(count) * (width - columns)
    return Boxes(top, left, rows, columns, mirrored)


def cut(images: Tensor, boxes: Boxes, side: int, precision: torch.dtype) -> Tensor:
    """Cuts a box from each picture and scales it, bilinear with antialiasing, as two products of matrices.

    Args:
        images: (N, H, W, 3) uint8.
        boxes: What to cut.
        side: Of the result, in pixels.
        precision: To compute in; a byte is exact in bfloat16.

    Returns:
        (N, 3, side, side) of that precision, 0 to 255.
    """
    count, height, width, _ = images.shape
    rows = _weights(boxes.top, boxes.height, height, side, images.device).to(precision)  # (N, side, H)
    columns = _weights(boxes.left, boxes.width, width, side, images.device).to(precision)  # (N, side, W)
    mirrored = torch.from_numpy(boxes.mirrored).to(images.device)[:, None, None]
    columns = torch.where(mirrored, columns.flip(1), columns)
    lines = torch.bmm(rows, images.to(precision).view(count, height, width * 3))  # (N, side, W x 3)
    planes = lines.view(count, side, width, 3).permute(0, 3, 1, 2).reshape(count, 3 * side, width)
    return torch.bmm(planes, columns.mT).view(count, 3, side, side)


def resize_batch(images: Tensor, side: int | None) -> Tensor:
    """Scales whole pictures, (N, H, W, 3) uint8, as `cut` does: (N, 3, side, side), float32; None: to their height."""
    return cut(images, whole_boxes(images), side or images.shape[1], torch.float32)


def whole_boxes(images: Tensor) -> Boxes:
    """Returns boxes that hold all of each picture, (N, H, W, 3)."""
    count, height, width, _ = images.shape
    nothing = np.zeros(count)
    return Boxes(nothing, nothing, np.full(count, height), np.full(count, width), np.zeros(count, bool))


def fit_whole(images: Tensor, side: int) -> Tensor:
    """Fits whole pictures, (N, H, W, 3) uint8, to a side: (N, 3, side, side), float32; as they are if they have it."""
    if images.shape[1] == side:
        return images.permute(0, 3, 1, 2).float()
    return resize_batch(images, side)


def _weights(
    start: NDArray[np.float64], length: NDArray[np.float64], size: int, side: int, device: torch.device
) -> Tensor:
    """How much of each of `size` pixels goes into each of `side`: (N, side, size), triangles as Pillow's bilinear."""
    begin, extent = (torch.from_numpy(each.astype(np.float32)).to(device)[:, None, None] for each in (start, length))
    scale = extent / side
    centres = begin + (torch.arange(side, device=device)[:, None] + 0.5) * scale
    # In place: there are more of these numbers than pixels in the result.
    distances = (torch.arange(size, device=device) + 0.5 - centres).abs_()
    weights = distances.mul_(-1 / scale.clamp(min=1)).add_(1).clamp_(min=0)
    return weights.mul_(1 / weights.sum(2, keepdim=True))


def vary(
    images: Tensor, boxes: Boxes, side: int, recipe: Recipe, random: np.random.Generator, precision: torch.dtype
) -> Tensor:
    """Makes of each picture another one of the same thing.

    Args:
        images: (N, H, W, 3) uint8.
        boxes: What to cut from them.
        side: Of the result, in pixels.
        recipe: Says how much may change.
        random: Draws.
        precision: To compute in.

    Returns:
        (N, 3, side, side) of that precision, channels_last, about 0 to 255.
    """
    pixels = cut(images, boxes, side, precision)
    if recipe.color_jitter:
        pixels = color_jitter_batch(pixels, recipe.color_jitter, random)
    if recipe.cutout_prob:
        pixels = cutout(pixels, recipe.cutout_prob, random)
    return pixels.contiguous(memory_format=torch.channels_last)


def color_jitter_batch(pixels: Tensor, amount: float, random: np.random.Generator) -> Tensor:
    """Draws contrast, brightness and saturation for each picture."""
    drawn = random.uniform(-amount, amount, (3, len(pixels), 1, 1, 1)).astype(np.float32)
    contrast, brightness, saturation = torch.from_numpy(drawn).to(pixels.device)
    shift = brightness * SPREAD - contrast * GREY
    pixels = torch.addcmul(shift.to(pixels.dtype), pixels, (1 + contrast).to(pixels.dtype))
    return torch.lerp(pixels.mean(1, keepdim=True), pixels, (1 + saturation).to(pixels.dtype))


def cutout(pixels: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """Lays a grey square on some pictures (DeVries and Taylor 2017, arXiv 1708.04552)."""
    count, _, side, _ = pixels.shape
    chosen = random.random(count) < share
    centres = random.integers(0, side, (2, count, 1))
    inside = np.abs(np.arange(side) - centres) < ERASED_SIDE * side / 2  # (2, N, side)
    erased = inside[0][:, :, None] & inside[1][:, None, :] & chosen[:, None, None]
    return pixels.masked_fill(torch.from_numpy(erased).to(pixels.device)[:, None], GREY)


def mix(pixels: Tensor, recipe: Recipe, random: np.random.Generator) -> tuple[Tensor, float]:
    """Mixes a batch with itself in reverse order, or leaves it as it is.

    Half-transparent (Zhang et al. 2017, arXiv 1710.09412) or by a rectangle (Yun et al. 2019, arXiv 1905.04899).

    Args:
        pixels: (N, 3, H, W); a rectangle is pasted in place.
        recipe: Says how often.
        random: Draws.

    Returns:
        The batch, and how much its own labels count; those of the reverse count the rest.
    """
    way = random.random()
    if way < recipe.mixup_prob:
        share = float(random.beta(MIX_ALPHA, MIX_ALPHA))
        return torch.lerp(pixels.flip(0), pixels, share), share
    if way < recipe.mixup_prob + recipe.cutmix_prob:
        height, width = pixels.shape[2:]
        cut_side = math.sqrt(random.random())
        rows, columns = int(height * cut_side), int(width * cut_side)
        top, left = (int(random.integers(0, rest + 1)) for rest in (height - rows, width - columns))
        place = (..., slice(top, top + rows), slice(left, left + columns))
        pixels[place] = pixels.flip(0)[place]
        return pixels, 1 - rows * columns / (height * width)
    return pixels, 1.0
