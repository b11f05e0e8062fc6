"""Descriptors of grayscale thumbnails for near-duplicate detection.

A descriptor is the lowest 8 x 8 frequencies of a thumbnail's cosine transform without the mean, scaled to length 1, so
brightness and contrast have no effect, and compression and scaling little. Descriptors of cropped and mirrored views
are computed from the thumbnail by two matrix products; no file is read again.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

THUMBNAIL_SIZE = 32  # pixels
NUM_FREQUENCIES = 8  # in each direction
EMPHASIS = 0.375  # exponent of the frequency: weight of the higher ones, which separate similar scenes
CROP = 0.1  # fraction of each side that a cropped view lacks

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """A region of an image, possibly mirrored; positions and size as fractions of the sides."""

    top: float = 0.0
    left: float = 0.0
    size: float = 1.0
    mirrored: bool = False

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Half width, half height, and center from left and top; the image runs from -1 to 1."""
        return self.size, self.size, 2 * self.left + self.size - 1, 2 * self.top + self.size - 1


WHOLE = View()
VIEWS = (
    WHOLE,
    View(mirrored=True),
    *(View(top, left, 1 - CROP) for top in (0.0, CROP) for left in (0.0, CROP)),
    View(CROP / 2, CROP / 2, 1 - CROP),
)


def make_thumbnails(images: Floats) -> NDArray[np.uint8]:
    """Return thumbnails, (N, 32, 32), of grayscale images, (N, H, W), bilinear with antialiasing."""
    down, across = (_resizing_matrix(length) for length in images.shape[1:])
    thumbnails: NDArray[np.uint8] = (down @ images @ across.T).round().astype(np.uint8)
    return thumbnails


@lru_cache(maxsize=256)
def _resizing_matrix(length: int) -> Floats:
    """Return the weights of the pixels of one direction, (32, length): Pillow's triangles."""
    scale = length / THUMBNAIL_SIZE
    centers = (np.arange(THUMBNAIL_SIZE)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(length) + 0.5 - centers) / max(scale, 1)
    weights = np.maximum(1 - distances, 0)
    matrix: Floats = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def describe(thumbnails: NDArray[np.uint8], view: View = WHOLE) -> Floats:
    """Return descriptors of a view of thumbnails, (N, 32, 32): (N, 63) of length 1, or 0 for uniform images."""
    down, across = _transform(view.top, view.size), _transform(view.left, view.size)
    images = thumbnails[:, :, ::-1] if view.mirrored else thumbnails
    frequencies = down @ images.astype(np.float32) @ across.T * _weights()  # (N, 8, 8)
    descriptors = frequencies.reshape(len(thumbnails), -1)[:, 1:]
    lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
    values: Floats = np.where(lengths > 1, descriptors / np.maximum(lengths, 1), 0).astype(np.float32)
    return values


def _transform(start: float, size: float) -> Floats:
    """Return the matrix, (8, 32), that crops one direction, scales it to 32 samples and takes its lowest cosines."""
    positions = np.clip((np.arange(THUMBNAIL_SIZE) + 0.5) * size + start * THUMBNAIL_SIZE - 0.5, 0, THUMBNAIL_SIZE - 1)
    first = np.minimum(positions.astype(np.intp), THUMBNAIL_SIZE - 2)
    crop = np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.float32)
    crop[np.arange(THUMBNAIL_SIZE), first] = 1 - (positions - first)
    crop[np.arange(THUMBNAIL_SIZE), first + 1] = positions - first
    angles = np.pi * (2 * np.arange(THUMBNAIL_SIZE) + 1) / (2 * THUMBNAIL_SIZE)
    cosines = np.cos(np.arange(NUM_FREQUENCIES)[:, None] * angles) * np.sqrt(2 / THUMBNAIL_SIZE)
    transform: Floats = (cosines @ crop).astype(np.float32)
    return transform


def _weights() -> Floats:
    down, across = np.mgrid[:NUM_FREQUENCIES, :NUM_FREQUENCIES]
    weights: Floats = (np.hypot(down, across) ** EMPHASIS).astype(np.float32)
    return weights
