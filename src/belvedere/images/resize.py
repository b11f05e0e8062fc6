"""Resizes images to a model's input, or to a size for display."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from belvedere.types.model import Preprocess

RESIZE_RULES = ("stretch", "crop", "letterbox")
PADDING = 114  # gray level around a letterboxed image, as in YOLO
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
RGB = NDArray[np.uint8]


def resize_image(pixels: RGB, preprocess: Preprocess) -> RGB:
    """Resize an image to a model's input size, with antialiasing (Pillow's).

    Args:
        pixels: (H, W, 3).
        preprocess: The size, the interpolation and the rule. "stretch" scales both sides; "crop" scales until the
            image covers the size, and keeps the center; "letterbox" scales until the image fits into the size, and
            pads it with gray.

    Returns:
        (preprocess.height, preprocess.width, 3); the same array where it already has that size.
    """
    size = (preprocess.width, preprocess.height)
    if pixels.shape[:2] == (preprocess.height, preprocess.width):
        return pixels
    image, interpolation = Image.fromarray(pixels), INTERPOLATIONS[preprocess.interpolation]
    if preprocess.resize == "crop":
        return np.array(ImageOps.fit(image, size, interpolation))
    if preprocess.resize == "letterbox":
        top, left, rows, columns = letterbox_region(image.height, image.width, preprocess)
        padded = np.full((preprocess.height, preprocess.width, 3), PADDING, np.uint8)
        padded[top : top + rows, left : left + columns] = np.array(image.resize((columns, rows), interpolation))
        return padded
    return np.array(image.resize(size, interpolation))


def letterbox_region(height: int, width: int, preprocess: Preprocess) -> tuple[int, int, int, int]:
    """Return top, left, height and width, in pixels of a model's input, of a letterboxed image of a size.

    They are those of `PIL.ImageOps.pad`, so that other programs can prepare the same pixels.
    """
    rows, columns = preprocess.height, preprocess.width
    if width / height > columns / rows:
        rows = max(1, round(height / width * columns))
    else:
        columns = max(1, round(width / height * rows))
    return round((preprocess.height - rows) * 0.5), round((preprocess.width - columns) * 0.5), rows, columns


def shrink(pixels: RGB, max_size: int) -> RGB:
    """Shrink an image, (H, W, 3), until its longer side is at most `max_size` pixels."""
    height, width = pixels.shape[:2]
    scale = min(1.0, max_size / max(height, width))
    return resize_image(pixels, Preprocess(max(1, round(height * scale)), max(1, round(width * scale))))


def visible_region(pixels: RGB, preprocess: Preprocess) -> RGB:
    """Return the region of an image that a model receives: all of it, or the center where the rule is "crop"."""
    if preprocess.resize != "crop":
        return pixels
    height, width = pixels.shape[:2]
    scale = min(height / preprocess.height, width / preprocess.width)
    top, left = round((height - preprocess.height * scale) / 2), round((width - preprocess.width * scale) / 2)
    return pixels[top : height - top, left : width - left]
