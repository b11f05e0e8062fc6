"""Boxes of crops."""

import numpy as np
from torch import Tensor

from belvedere.training.augment import CropBoxes


def full_boxes(images: Tensor) -> CropBoxes:
    """Return boxes that contain all of each image, (N, H, W, 3)."""
    count, height, width, _ = images.shape
    zeros = np.zeros(count)
    return CropBoxes(zeros, zeros, np.full(count, height), np.full(count, width), np.zeros(count, bool))
