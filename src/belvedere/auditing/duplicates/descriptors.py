"""What near duplicates are found by: a few numbers of a small grey picture, seen whole, mirrored and cut.

Knows thumbs of 32 x 32 and the ways a copy may differ; does not know how neighbours are sought.

A descriptor is the lowest 8 x 8 of a thumb's cosine transform without their mean, at length 1: brightness and contrast
are gone, and compression and scaling change it little. A copy that was cut or mirrored is near the same view of its
original, and every view's descriptor is two products of matrices with the thumb, so that nothing is read again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.image_statistics import THUMB_SIDE

KEPT_FREQUENCIES = 8  # in each direction
EMPHASIS = 0.375  # power of the frequency by which higher ones count more: they tell scenes of one kind apart
CUT = 0.1  # share of the sides that is missing in a cut view
WIDTH = KEPT_FREQUENCIES**2 - 1  # D

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """A part of a picture, perhaps mirrored; places as shares of the sides."""

    top: float = 0.0
    left: float = 0.0
    size: float = 1.0
    mirrored: bool = False

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Half width and height, and centre from the left and the top, where the picture runs from -1 to 1."""
        return self.size, self.size, 2 * self.left + self.size - 1, 2 * self.top + self.size - 1


WHOLE = View()
VIEWS = (
    WHOLE,
    View(mirrored=True),
    *(View(top, left, 1 - CUT) for top in (0.0, CUT) for left in (0.0, CUT)),
    View(CUT / 2, CUT / 2, 1 - CUT),
)


def describe(thumbs: NDArray[np.uint8], view: View = WHOLE) -> Floats:
    """Describes thumbs, (n, 32, 32), in a view: (n, D) of length 1; zeros where there is nothing to see."""
    down, across = _transform(view.top, view.size), _transform(view.left, view.size)
    seen = thumbs[:, :, ::-1] if view.mirrored else thumbs
    kept = down @ seen.astype(np.float32) @ across.T * _weights()  # (n, 8, 8)
    described = kept.reshape(len(thumbs), -1)[:, 1:]
    lengths = np.linalg.norm(described, axis=1, keepdims=True)
    values: Floats = np.where(lengths > 1, described / np.maximum(lengths, 1), 0).astype(np.float32)
    return values


def _transform(start: float, size: float) -> Floats:
    """Cuts one direction, scales what is left to 32 samples, and takes its lowest cosines: (8, 32)."""
    places = np.clip((np.arange(THUMB_SIDE) + 0.5) * size + start * THUMB_SIDE - 0.5, 0, THUMB_SIDE - 1)
    first = np.minimum(places.astype(np.intp), THUMB_SIDE - 2)
    cut = np.zeros((THUMB_SIDE, THUMB_SIDE), np.float32)
    cut[np.arange(THUMB_SIDE), first] = 1 - (places - first)
    cut[np.arange(THUMB_SIDE), first + 1] = places - first
    angles = np.pi * (2 * np.arange(THUMB_SIDE) + 1) / (2 * THUMB_SIDE)
    cosines = np.cos(np.arange(KEPT_FREQUENCIES)[:, None] * angles) * np.sqrt(2 / THUMB_SIDE)
    transform: Floats = (cosines @ cut).astype(np.float32)
    return transform


def _weights() -> Floats:
    down, across = np.mgrid[:KEPT_FREQUENCIES, :KEPT_FREQUENCIES]
    weights: Floats = (np.hypot(down, across) ** EMPHASIS).astype(np.float32)
    return weights
