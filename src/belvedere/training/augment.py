"""Batched random augmentation: crop, flip, color jitter, cutout, mixup and CutMix."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from belvedere.training.degradation import degrade
from belvedere.training.recipes import Recipe

MEAN, STD = 115.0, 60.0  # about those of images, 0 to 255
# With more threads, matrix products take less time than a loop over crops, of which one runs at a time (computed).
MAX_SERIAL_THREADS = 4


@dataclass(frozen=True)
class CropBoxes:
    """A crop of each of N images, pixels, and whether it is mirrored; (N,) each."""

    top: NDArray[np.float64]
    left: NDArray[np.float64]
    height: NDArray[np.float64]
    width: NDArray[np.float64]
    mirrored: NDArray[np.bool_]


def sample_crops(
    mirrored: NDArray[np.bool_], height: int, width: int, recipe: Recipe, random: np.random.Generator
) -> CropBoxes:
    """Draw area, aspect ratio and position of a crop for each image (Szegedy et al. 2014, arXiv 1409.4842)."""
    count = len(mirrored)
    area = random.uniform(*recipe.crop_scale, count) * height * width
    narrowest, widest = recipe.crop_ratio
    middle, spread = math.sqrt(narrowest * widest), math.sqrt(widest / narrowest)
    ratio = middle * np.exp(random.uniform(-1, 1, count) * math.log(spread)) * width / height
    columns, rows = np.minimum(np.sqrt(area * ratio), width), np.minimum(np.sqrt(area / ratio), height)
    top, left = random.random(count) * (height - rows), random.random(count) * (width - columns)
    return CropBoxes(top, left, rows, columns, mirrored)


def crop_resize(images: Tensor, boxes: CropBoxes, size: int, precision: torch.dtype) -> Tensor:
    """Crop each image, (N, H, W, 3) uint8, and resize the crop, bilinear with antialiasing.

    Up to four threads of a CPU crop at whole pixels and round the result to bytes; all else does neither.

    Returns:
        (N, 3, size, size) of a precision, 0 to 255; a byte is exact in bfloat16.
    """
    is_serial = images.device.type == "cpu" and torch.get_num_threads() <= MAX_SERIAL_THREADS
    return (crop_resize_each if is_serial else crop_resize_batched)(images, boxes, size, precision)


def crop_resize_each(images: Tensor, boxes: CropBoxes, size: int, precision: torch.dtype) -> Tensor:
    """Crop and resize as `crop_resize`, one image after another: with two threads, in half of the time."""
    tops, bottoms = _whole_pixels(boxes.top, boxes.height, images.shape[1])
    lefts, rights = _whole_pixels(boxes.left, boxes.width, images.shape[2])
    pixels = images.new_empty((len(images), size, size, 3)).permute(0, 3, 1, 2)
    for index, (top, bottom, left, right) in enumerate(zip(tops, bottoms, lefts, rights, strict=True)):
        pixels[index] = resize(images[index : index + 1, top:bottom, left:right], size)[0]
    mirrored = torch.from_numpy(boxes.mirrored)[:, None, None, None]
    return torch.where(mirrored, pixels.flip(3), pixels).to(precision)


def _whole_pixels(start: NDArray[np.float64], length: NDArray[np.float64], size: int) -> tuple[list[int], list[int]]:
    """Return the first of `size` pixels in each interval, and the one after its last; at least one pixel."""
    first = np.minimum(np.rint(start).astype(int), size - 1)
    return first.tolist(), np.maximum(np.rint(start + length).astype(int), first + 1).tolist()


def crop_resize_batched(images: Tensor, boxes: CropBoxes, size: int, precision: torch.dtype) -> Tensor:
    """Crop and resize as `crop_resize`, as two matrix products for the whole batch."""
    count, height, width, _ = images.shape
    rows = _weights(boxes.top, boxes.height, height, size, images.device).to(precision)  # (N, size, H)
    columns = _weights(boxes.left, boxes.width, width, size, images.device).to(precision)  # (N, size, W)
    mirrored = torch.from_numpy(boxes.mirrored).to(images.device)[:, None, None]
    columns = torch.where(mirrored, columns.flip(1), columns)
    lines = torch.bmm(rows, images.to(precision).view(count, height, width * 3))  # (N, size, W x 3)
    planes = lines.view(count, size, width, 3).permute(0, 3, 1, 2).reshape(count, 3 * size, width)
    return torch.bmm(planes, columns.mT).view(count, 3, size, size)


def resize_batch(images: Tensor, size: int | None) -> Tensor:
    """Resize (N, H, W, 3) uint8 to (N, 3, size, size) float32, bilinear with antialiasing; None: to H x H pixels."""
    # The CPU's kernel for bytes takes an eighth of the time of that for floats; other devices have none.
    return resize(images if images.device.type == "cpu" else images.float(), size or images.shape[1]).float()


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (N, H, W, 3) to (N, 3, size, size), of the same type."""
    return nn.functional.interpolate(images.permute(0, 3, 1, 2), (size, size), mode="bilinear", antialias=True)


def _weights(
    start: NDArray[np.float64], length: NDArray[np.float64], size: int, new_size: int, device: torch.device
) -> Tensor:
    """Return the weight of each of `size` pixels in each of `new_size`, (N, new_size, size): Pillow's triangles."""
    begin, extent = (torch.from_numpy(each.astype(np.float32)).to(device)[:, None, None] for each in (start, length))
    scale = extent / new_size
    centers = begin + (torch.arange(new_size, device=device)[:, None] + 0.5) * scale
    # In place: these are more numbers than pixels in the result.
    distances = (torch.arange(size, device=device) + 0.5 - centers).abs_()
    weights = distances.mul_(-1 / scale.clamp(min=1)).add_(1).clamp_(min=0)
    return weights.mul_(1 / weights.sum(2, keepdim=True))


def augment(
    images: Tensor, boxes: CropBoxes, size: int, recipe: Recipe, random: np.random.Generator, precision: torch.dtype
) -> Tensor:
    """Crop and resize (N, H, W, 3) uint8, jitter or remove colors, degrade images, and cut out squares.

    Returns:
        (N, 3, size, size) of a precision, channels_last, about 0 to 255.
    """
    pixels = crop_resize(images, boxes, size, precision)
    if recipe.color_jitter:
        pixels = color_jitter(pixels, recipe.color_jitter, random)
    if recipe.grayscale_prob:
        pixels = grayscale(pixels, recipe.grayscale_prob, random)
    if recipe.degradation_prob:
        pixels = degrade(pixels, recipe.degradation_prob, random)
    if recipe.cutout_prob:
        pixels = cutout(pixels, recipe.cutout_prob, recipe.cutout_size, random)
    return pixels.contiguous(memory_format=torch.channels_last)


def color_jitter(pixels: Tensor, amount: float, random: np.random.Generator) -> Tensor:
    """Draw contrast, brightness and saturation for each image."""
    drawn = random.uniform(-amount, amount, (3, len(pixels), 1, 1, 1)).astype(np.float32)
    contrast, brightness, saturation = torch.from_numpy(drawn).to(pixels.device)
    shift = brightness * STD - contrast * MEAN
    pixels = torch.addcmul(shift.to(pixels.dtype), pixels, (1 + contrast).to(pixels.dtype))
    return torch.lerp(pixels.mean(1, keepdim=True), pixels, (1 + saturation).to(pixels.dtype))


def grayscale(pixels: Tensor, prob: float, random: np.random.Generator) -> Tensor:
    """Remove the color of some images."""
    chosen = torch.from_numpy(random.random((len(pixels), 1, 1, 1)) < prob).to(pixels.device)
    return torch.where(chosen, pixels.mean(1, keepdim=True), pixels)


def cutout(pixels: Tensor, prob: float, fraction: float, random: np.random.Generator) -> Tensor:
    """Fill a square in some images, of a fraction of their size, with gray (DeVries and Taylor 2017, 1708.04552)."""
    count, _, size, _ = pixels.shape
    chosen = random.random(count) < prob
    centers = random.integers(0, size, (2, count, 1))
    inside = np.abs(np.arange(size) - centers) < fraction * size / 2  # (2, N, size)
    filled = inside[0][:, :, None] & inside[1][:, None, :] & chosen[:, None, None]
    return pixels.masked_fill(torch.from_numpy(filled).to(pixels.device)[:, None], MEAN)


def mixup_or_cutmix(pixels: Tensor, recipe: Recipe, random: np.random.Generator) -> tuple[Tensor, float]:
    """Mix a batch with itself in reverse order, by mixup or CutMix, or return it unchanged.

    Mixup blends whole images (Zhang et al. 2017, arXiv 1710.09412); CutMix pastes a rectangle (Yun et al. 2019, arXiv
    1905.04899), in place.

    Returns:
        The batch, and the weight of its own labels; the rest is the weight of the labels in reverse order.
    """
    draw = random.random()
    if draw < recipe.mixup_prob:
        weight = float(random.beta(recipe.mixup_alpha, recipe.mixup_alpha))
        return torch.lerp(pixels.flip(0), pixels, weight), weight
    if draw < recipe.mixup_prob + recipe.cutmix_prob:
        height, width = pixels.shape[2:]
        scale = math.sqrt(random.random())
        rows, columns = int(height * scale), int(width * scale)
        top, left = (int(random.integers(0, rest + 1)) for rest in (height - rows, width - columns))
        rectangle = (..., slice(top, top + rows), slice(left, left + columns))
        pixels[rectangle] = pixels.flip(0)[rectangle]
        return pixels, 1 - rows * columns / (height * width)
    return pixels, 1.0
