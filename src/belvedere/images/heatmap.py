"""Draws class activation maps over images."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from belvedere.images.resize import RGB, letterbox_region, resize_image
from belvedere.types.model import Preprocess

OPACITY = 0.75  # at activation 1
# From violet over red to yellow; lightness grows with activation, so that it is also readable in gray.
ACTIVATIONS = (0.0, 0.35, 0.7, 1.0)
COLORS = np.array([(70, 0, 110), (190, 30, 90), (255, 130, 30), (255, 240, 120)], np.float32)


def overlay(pixels: RGB, activation: NDArray[np.float32]) -> RGB:
    """Draw the activation map of one class over an image; regions without activation turn gray.

    Args:
        pixels: Image, (H, W, 3).
        activation: (h, w) of any size, from 0 to 1 (see `softmax_over_classes`).

    Returns:
        (H, W, 3).
    """
    height, width = pixels.shape[:2]
    strength = _upsample(np.clip(activation, 0, 1), height, width)[..., None]  # (H, W, 1)
    gray = pixels.mean(2, keepdims=True) * 0.8
    base = gray + (pixels - gray) * (0.35 + 0.65 * strength)
    color = np.stack([np.interp(strength[..., 0], ACTIVATIONS, COLORS[:, k]) for k in range(3)], -1)
    opacity = OPACITY * strength
    return np.asarray(base * (1 - opacity) + color * opacity).round().clip(0, 255).astype(np.uint8)


def softmax_over_classes(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the activation maps of one image, (K, h, w), to probabilities that add up to 1 at each position."""
    powers = np.exp(activations - activations.max(0, keepdims=True))
    return np.asarray(powers / powers.sum(0, keepdims=True), np.float32)


def without_padding(maps: NDArray[np.float32], height: int, width: int, preprocess: Preprocess) -> NDArray[np.float32]:
    """Cut the padding of a letterboxed image off its maps, so that they cover the image as those of other rules do.

    Args:
        maps: (K, h, w) of the model's input.
        height: Height of the image before it was resized, pixels.
        width: Its width.
        preprocess: The model's input.

    Returns:
        (K, h', w'), interpolated linearly; the given maps for other rules.
    """
    if preprocess.resize != "letterbox":
        return maps
    top, left, rows, columns = letterbox_region(height, width, preprocess)
    down, across = maps.shape[1] / preprocess.height, maps.shape[2] / preprocess.width
    box = (left * across, top * down, (left + columns) * across, (top + rows) * down)
    size = (max(1, round(columns * across)), max(1, round(rows * down)))
    cut = [Image.fromarray(each).resize(size, Image.Resampling.BILINEAR, box=box) for each in maps]
    return np.stack([np.asarray(each, np.float32) for each in cut])


def _upsample(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize values from 0 to 1, (h, w), with 8 bits of precision."""
    levels = np.repeat((values * 255).round().astype(np.uint8)[..., None], 3, 2)
    resized = resize_image(levels, Preprocess(height, width, interpolation="bicubic"))[..., 0]
    return (resized / np.float32(255)).astype(np.float32)
