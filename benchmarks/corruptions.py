"""Corruptions of images, after ImageNet-C (Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261).

Each takes pixels (H, W, 3), uint8, an amount and a random generator, and returns pixels of the same shape. An amount
of 0 changes nothing. The three amounts of noise, blur, pixelation, JPEG, contrast and brightness are those of severity
1, 3 and 5 there; lengths are divided by its 224 pixels and apply to the shorter side. Motion blur and fog are simpler:
weighted shifts along a line, and octaves of smooth noise. Gray takes the place of saturation. Stretch and zoom are
additions.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating[Any]]
Generator = np.random.Generator
BICUBIC, BILINEAR, BOX = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
FOG_DECAY = 1.7  # of the amplitude from an octave to the next, as at severity 3 and 4 of ImageNet-C
STRENGTHS = (1, 2, 3)


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption and its amounts."""

    apply: Callable[[Pixels, float, Generator], Pixels]
    amounts: tuple[float, float, float]  # of strength 1, 2 and 3


def to_uint8(values: Values) -> Pixels:
    """Round values on a scale of 0 to 1."""
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def add_gaussian_noise(pixels: Pixels, standard_deviation: float, rng: Generator) -> Pixels:
    """Add noise as that of weak light in a sensor, on a scale of 0 to 1."""
    return to_uint8(pixels / 255 + standard_deviation * rng.standard_normal(pixels.shape))


def add_shot_noise(pixels: Pixels, brightest: float, rng: Generator) -> Pixels:
    """Add Poisson noise of discrete photons.

    Args:
        pixels: The image.
        brightest: 1 / number of photons at a value of 255.
        rng: Random generator.
    """
    return pixels.copy() if brightest == 0 else to_uint8(rng.poisson(pixels / 255 / brightest) * brightest)


def weighted_shifts(pixels: Pixels, shifts: NDArray[np.intp], weights: Values) -> Pixels:
    """Convolve with a sparse kernel; the edges are repeated.

    Args:
        pixels: The image.
        shifts: (N, 2) rows down and columns to the right.
        weights: (N,) of any sum above 0.
    """
    height, width = pixels.shape[:2]
    largest = int(np.abs(shifts).max(initial=0))
    padded = np.pad(pixels.astype(np.float32), ((largest, largest), (largest, largest), (0, 0)), mode="edge")
    total = np.zeros(pixels.shape, np.float32)
    for (down, right), weight in zip(shifts + largest, weights / weights.sum(), strict=True):
        total += np.float32(weight) * padded[down : down + height, right : right + width]
    return to_uint8(total / 255)


def defocus(pixels: Pixels, radius: float, _: Generator) -> Pixels:
    """Average over a disk; its radius is a fraction of the shorter side."""
    length = radius * min(pixels.shape[:2])
    side = np.arange(-int(length + 1), int(length + 1) + 1)
    shifts = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    weights = (length + 0.5 - np.hypot(*shifts.T)).clip(0, 1)  # pixels at the rim count in part
    return weighted_shifts(pixels, shifts[weights > 0], weights[weights > 0])


def blur_motion(pixels: Pixels, length: float, rng: Generator) -> Pixels:
    """Blur within 45 degrees of the horizontal.

    Args:
        pixels: The image.
        length: Standard deviation of the weights along the line, as a fraction of the shorter side.
        rng: Random generator of the direction.
    """
    deviation = length * min(pixels.shape[:2])
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    steps = np.arange(int(2 * deviation) + 1)
    shifts = np.round(np.outer(steps, [np.sin(angle), np.cos(angle)])).astype(np.intp)
    return weighted_shifts(pixels, shifts, np.exp(-((steps / max(deviation, 1e-9)) ** 2) / 2))


def pixelate(pixels: Pixels, amount: float, _: Generator) -> Pixels:
    """Reduce both sides by a fraction of them, and enlarge without interpolation."""
    image = Image.fromarray(pixels)
    small = [max(1, round(side * (1 - amount))) for side in image.size]
    return np.asarray(image.resize((small[0], small[1]), BOX).resize(image.size, BOX))


def compress_jpeg(pixels: Pixels, amount: float, _: Generator) -> Pixels:
    """Encode as JPEG with quality 100 - `amount`; only 0 changes nothing."""
    if amount == 0:
        return pixels.copy()
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=round(100 - amount))
    return np.asarray(Image.open(content))


def reduce_contrast(pixels: Pixels, amount: float, _: Generator) -> Pixels:
    """Move each channel toward its mean by a fraction of the distance."""
    values = pixels / 255
    mean = values.mean((0, 1))
    return to_uint8(mean + (1 - amount) * (values - mean))


def brighten(pixels: Pixels, amount: float, _: Generator) -> Pixels:
    """Add to the value of HSV, on a scale of 0 to 1; hue and saturation stay."""
    values = pixels / 255
    value = values.max(2, keepdims=True)
    brighter = (value + amount).clip(0, 1)
    # Black has no hue: it becomes gray.
    return to_uint8(np.where(value > 0, values * brighter / np.maximum(value, 1e-9), brighter))


def turn_gray(pixels: Pixels, amount: float, _: Generator) -> Pixels:
    """Move colors toward the gray of equal luma by a fraction of the distance."""
    values = pixels / 255
    gray = (values @ LUMA)[..., None]
    return to_uint8(values + amount * (gray - values))


def smooth_noise(height: int, width: int, rng: Generator) -> Values:
    """Return octaves of noise, (height, width), 0 to 1."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, max(height, width).bit_length()):
        grid = rng.random((2**octave + 1, 2**octave + 1), np.float32) * FOG_DECAY**-octave
        total += np.asarray(Image.fromarray(grid).resize((width, height), BILINEAR))
    scaled: Values = (total - total.min()) / max(float(np.ptp(total)), 1e-9)
    return scaled


def add_fog(pixels: Pixels, amount: float, rng: Generator) -> Pixels:
    """Add noise of this amplitude, on a scale of 0 to 1, and scale to the old maximum."""
    values = pixels / 255
    largest = max(float(values.max()), 1e-9)
    fog = smooth_noise(pixels.shape[0], pixels.shape[1], rng)[..., None]
    return to_uint8((values + amount * fog) * largest / (largest + amount))


def crop_box(pixels: Pixels, box: tuple[float, float, float, float]) -> Pixels:
    """Enlarge a box (left, upper, right, lower) to the whole image."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(image.size, BICUBIC, box=box))


def stretch(pixels: Pixels, amount: float, rng: Generator) -> Pixels:
    """Stretch width or height by a factor of 1 + `amount` about the center; what lies outside then is cut off."""
    height, width = pixels.shape[:2]
    cut = (1 - 1 / (1 + amount)) / 2
    if rng.random() < 0.5:
        return crop_box(pixels, (cut * width, 0, width - cut * width, height))
    return crop_box(pixels, (0, cut * height, width, height - cut * height))


def zoom(pixels: Pixels, amount: float, rng: Generator) -> Pixels:
    """Enlarge a random part, whose sides are smaller by a fraction of `amount`."""
    height, width = pixels.shape[:2]
    left, upper = rng.random(2) * amount * (width, height)
    return crop_box(pixels, (left, upper, left + (1 - amount) * width, upper + (1 - amount) * height))


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian noise": Corruption(add_gaussian_noise, (0.08, 0.18, 0.38)),
    "shot noise": Corruption(add_shot_noise, (1 / 60, 1 / 12, 1 / 3)),
    "defocus": Corruption(defocus, (3 / 224, 6 / 224, 10 / 224)),
    "motion blur": Corruption(blur_motion, (3 / 224, 8 / 224, 15 / 224)),
    "pixelate": Corruption(pixelate, (0.4, 0.6, 0.75)),
    "jpeg": Corruption(compress_jpeg, (75, 85, 93)),
    "contrast": Corruption(reduce_contrast, (0.6, 0.8, 0.95)),
    "brightness": Corruption(brighten, (0.1, 0.3, 0.5)),
    "gray": Corruption(turn_gray, (0.5, 0.8, 1.0)),
    "fog": Corruption(add_fog, (1.5, 2.5, 3.0)),
    "stretch": Corruption(stretch, (0.2, 0.5, 1.0)),
    "zoom": Corruption(zoom, (0.2, 0.4, 0.6)),
}
