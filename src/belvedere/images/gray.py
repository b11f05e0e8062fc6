"""Luminance of RGB images."""

import numpy as np
from numpy.typing import NDArray

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
Gray = NDArray[np.float32]


def to_gray(pixels: NDArray[np.uint8]) -> Gray:
    """Return the luminance, (H, W), 0 to 255, of RGB pixels, (H, W, 3)."""
    gray: Gray = pixels.astype(np.float32) @ LUMINANCE
    return gray
