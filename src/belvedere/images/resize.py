"""Pixels fitted to the input of a model, or into a size for people to look at."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from belvedere.types.model import Preprocess

RESIZE_RULES = ("stretch", "crop")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
RGB = NDArray[np.uint8]


def resize_image(pixels: RGB, preprocess: Preprocess) -> RGB:
    """Fits a picture to a model's input size, by the model's rule.

    Args:
        pixels: (H, W, 3).
        preprocess: The size and the rule: "stretch" scales both sides to it; "crop" scales until the picture covers
            it and keeps the middle. Scaling is bilinear or bicubic with antialiasing (Pillow's).

    Returns:
        (preprocess.height, preprocess.width, 3); the same array where it already has that size.
    """
    size = (preprocess.width, preprocess.height)
    if pixels.shape[:2] == (preprocess.height, preprocess.width):
        return pixels
    image, scaling = Image.fromarray(pixels), INTERPOLATIONS[preprocess.interpolation]
    fitted = ImageOps.fit(image, size, scaling) if preprocess.resize == "crop" else image.resize(size, scaling)
    return np.array(fitted)


def visible_region(pixels: RGB, preprocess: Preprocess) -> RGB:
    """Returns the part of a picture that a model sees: all of it, or the middle where its rule is "crop"."""
    if preprocess.resize != "crop":
        return pixels
    height, width = pixels.shape[:2]
    scale = min(height / preprocess.height, width / preprocess.width)
    top, left = round((height - preprocess.height * scale) / 2), round((width - preprocess.width * scale) / 2)
    return pixels[top : height - top, left : width - left]


def within(height: int, width: int, side: int) -> Preprocess:
    """Returns the size of a picture scaled down, if need be, until its longer side is at most `side` pixels."""
    scale = min(1.0, side / max(height, width))
    return Preprocess(max(1, round(height * scale)), max(1, round(width * scale)))
