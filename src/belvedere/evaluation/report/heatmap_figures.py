"""Pictures that show where the evidence for a class is.

Knows how a model is asked for it and what is drawn beside a photograph; does not know files or pages.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.report.image_grid import Tile, draw_grid
from belvedere.evaluation.report.plots import Figure
from belvedere.images.decode import RGB, read_image
from belvedere.images.heatmap import overlay, relative
from belvedere.images.resize import resize_image, visible_region, within
from belvedere.inference.model import Model
from belvedere.inference.session import Cancellation
from belvedere.types.prediction import Prediction

SIDE = 300  # longer side of a picture, pixels
MAX_TAGS = 5  # of a picture are drawn
GAP = 6  # pixels between pictures in a strip


def draw_tags(model: Model, answer: Prediction) -> Figure:
    """Draws a picture, and beside it where the evidence for each of its tags is.

    Args:
        model: It tells places.
        answer: Its answer for a file, which is read again.

    Raises:
        InvalidImageError: The file can't be read any more.
    """
    pixels, shares = image_with_cam(model, Path(answer.image), SIDE)
    tiles = [Tile(pixels, Path(answer.image).name)]
    if not answer.tags:  # none of these, or too few photographs were held out to fit any
        main = model.class_names.index(str(answer.predicted_label))
        caption = f"most probable: {answer.predicted_label}" if answer.none_of_these else str(answer.predicted_label)
        tiles.append(Tile(overlay(pixels, shares[main]), caption))
    for tag in answer.tags[:MAX_TAGS]:
        place = model.class_names.index(tag.name)
        caption = f"{tag.name} {tag.share:.0%}\n{tag.confidence:.0%} confident"
        tiles.append(Tile(overlay(pixels, shares[place]), caption))
    title = "None of these" if answer.none_of_these else f"{answer.predicted_label} {answer.confidence:.3f}"
    return draw_grid(tiles, title, columns=len(tiles))


def side_by_side(model: Model, path: Path, class_names: Sequence[str], side: int) -> RGB:
    """Draws a photograph, and right of it the evidence for each of some classes.

    Raises:
        InvalidImageError: The file can't be read.
    """
    pixels, shares = image_with_cam(model, path, side)
    parts = [pixels]
    for name in class_names:
        parts.append(np.full((len(pixels), GAP, 3), 255, np.uint8))
        parts.append(overlay(pixels, shares[model.class_names.index(name)]))
    return np.concatenate(parts, 1)


def image_with_cam(model: Model, path: Path, side: int) -> tuple[RGB, NDArray[np.float32]]:
    """Reads a photograph again.

    Returns:
        What the model sees of it, (H, W, 3), the longer side scaled down to `side`, and the share that each class has
        of each place of that, (K, h, w).
    """
    return look_at(model, read_image(path), side)


def look_at(
    model: Model, whole: RGB, side: int, cancellation: Cancellation | None = None
) -> tuple[RGB, NDArray[np.float32]]:
    """Looks at a photograph, (H, W, 3), as `image_with_cam` does."""
    evidence = model.explain(resize_image(whole, model.card.preprocess)[None], cancellation)[0]
    seen = visible_region(whole, model.card.preprocess)
    pixels = resize_image(seen, within(seen.shape[0], seen.shape[1], side))
    return pixels, relative(evidence / model.card.trust.temperature)
