"""Images unlike any of their class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.class_checks import DEVIATION, NEIGHBOURS, OUTLYING, SAME, Floats


@dataclass(frozen=True)
class KnnOutliers:
    """How unlike every other picture each one is."""

    scores: NDArray[np.float64]  # (N,), 0 to 1: one half is where it is flagged
    nearness: Floats  # (N,)
    usual: float  # median nearness


def find_outliers(nearness: Floats) -> KnnOutliers:
    """Scores pictures by how near their nearest ones are.

    Args:
        nearness: (N,) mean cosine to the ten nearest that a network has learnt from or that others are.

    Returns:
        Scores that rise as a picture is further than usual.
    """
    middle = float(np.median(nearness))
    deviation = DEVIATION * float(np.median(np.abs(nearness - middle))) + 1e-6
    far = (middle - nearness) / deviation
    scores = 1 / (1 + np.exp(-np.clip(far - OUTLYING, -50, 50)))
    return KnnOutliers(scores.astype(np.float64), nearness, middle)


def knn_similarity(embeddings: Floats, among: Floats) -> Floats:
    """Mean cosine of embeddings, (n, D), to their ten nearest in (m, D), copies of themselves not counted."""
    directions = _unit(among)
    nearness = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), 1024):
        cosines = _unit(embeddings[start : start + 1024]) @ directions.T
        cosines[cosines > SAME] = -1
        count = min(NEIGHBOURS, cosines.shape[1])
        nearness[start : start + 1024] = np.partition(cosines, -count, axis=1)[:, -count:].mean(1)
    return nearness


def _unit(values: Floats) -> Floats:
    unit: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return unit
