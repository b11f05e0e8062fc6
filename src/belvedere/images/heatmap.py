"""Where in a picture the evidence for a class is, laid over the picture.

Knows maps of numbers and pixels; does not know models or files.
"""

import numpy as np
from numpy.typing import NDArray

from belvedere.images.decode import RGB
from belvedere.images.resize import resize_image
from belvedere.types.model import Preprocess

OPACITY = 0.75  # of the strongest evidence; weaker evidence lets more of the picture through
# From violet over red to yellow, lighter as the evidence grows, so that it also reads in grey.
STRENGTHS = (0.0, 0.35, 0.7, 1.0)
COLOURS = np.array([(70, 0, 110), (190, 30, 90), (255, 130, 30), (255, 240, 120)], np.float32)


def overlay(pixels: RGB, evidence: NDArray[np.float32]) -> RGB:
    """Lays one class's evidence over a picture, the rest of which turns grey.

    Args:
        pixels: The picture, (H, W, 3).
        evidence: (h, w), any size: how much each place speaks for the class, 0 (nothing) to 1 (see `relative`).

    Returns:
        (H, W, 3).
    """
    height, width = pixels.shape[:2]
    strength = _upsample(np.clip(evidence, 0, 1), height, width)[..., None]  # (H, W, 1)
    grey = pixels.mean(2, keepdims=True) * 0.8
    base = grey + (pixels - grey) * (0.35 + 0.65 * strength)
    colour = np.stack([np.interp(strength[..., 0], STRENGTHS, COLOURS[:, k]) for k in range(3)], -1)
    opacity = OPACITY * strength
    return np.asarray(base * (1 - opacity) + colour * opacity).round().clip(0, 255).astype(np.uint8)


def relative(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales evidence, (K, h, w) of one picture, so that it can be shown: the share of each class at each place.

    Returns:
        (K, h, w), from 0 to 1; at each place the classes add up to 1.
    """
    powers = np.exp(evidence - evidence.max(0, keepdims=True))
    return np.asarray(powers / powers.sum(0, keepdims=True), np.float32)


def _upsample(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Values from 0 to 1, (h, w), at the size of a picture, as smoothly as 8 bits have it."""
    levels = np.repeat((values * 255).round().astype(np.uint8)[..., None], 3, 2)
    enlarged = resize_image(levels, Preprocess(height, width, interpolation="bicubic"))[..., 0]
    return (enlarged / np.float32(255)).astype(np.float32)
