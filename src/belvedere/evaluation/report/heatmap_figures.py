"""Heatmaps: class activation maps over images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.images.decode import RGB, read_image
from belvedere.images.heatmap import overlay, softmax_over_classes, without_padding
from belvedere.images.resize import resize_image, shrink, visible_region
from belvedere.inference.model import Model
from belvedere.inference.session import Cancellation

GAP = 6  # pixels between images side by side


def side_by_side(model: Model, path: Path, class_names: Sequence[str], max_size: int) -> RGB:
    """Draw an image, and right of it the heatmap of each of some classes.

    Raises:
        InvalidImageError: The file cannot be read.
    """
    pixels, maps = compute_cam(model, read_image(path), max_size)
    columns = [pixels]
    for name in class_names:
        columns.append(np.full((len(pixels), GAP, 3), 255, np.uint8))
        columns.append(overlay(pixels, maps[model.class_names.index(name)]))
    return np.concatenate(columns, 1)


def compute_cam(
    model: Model, pixels: RGB, max_size: int, cancellation: Cancellation | None = None
) -> tuple[RGB, NDArray[np.float32]]:
    """Return the region of an image that the model uses, and its class activation maps.

    Args:
        model: Model with activation maps.
        pixels: (H, W, 3).
        max_size: Longer side of the returned image, in pixels.
        cancellation: Stops the model; default: none.

    Returns:
        Image (h, w, 3), and maps (K, h', w') that add up to 1 over the classes at each position.
    """
    maps = model.forward_activation_maps(resize_image(pixels, model.card.preprocess)[None], cancellation)[0]
    region = visible_region(pixels, model.card.preprocess)
    maps = softmax_over_classes(maps / model.card.uncertainty.temperature)
    height, width = pixels.shape[:2]
    return shrink(region, max_size), without_padding(maps, height, width, model.card.preprocess)
