"""Outlier detection by the distance to the nearest neighbors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.knn import knn_cosine, unit_vectors
from belvedere.inference.uncertainty.temperature_scaling import sigmoid

OUTLIER = "outlier"
NUM_NEIGHBORS = 10
COPY_COSINE = 0.99999  # above: the image itself or an exact copy
OUTLIER_DEVIATIONS = 4.0  # robust standard deviations below the median similarity
MAD_TO_STD = 1.4826  # standard deviation of a normal distribution in median absolute deviations
CHUNK_SIZE = 1024  # images

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class KnnOutliers:
    """Outlier scores of N images."""

    scores: NDArray[np.float64]  # (N,), 0 to 1; 0.5 is the threshold
    similarity: Floats  # (N,)
    median_similarity: float


def find_outliers(similarity: Floats) -> KnnOutliers:
    """Score images by their mean cosine to the nearest neighbors, (N,), against the median of all images."""
    median = float(np.median(similarity))
    deviation = MAD_TO_STD * float(np.median(np.abs(similarity - median))) + 1e-6
    distance = ((median - similarity) / deviation).astype(np.float64)
    return KnnOutliers(sigmoid(distance - OUTLIER_DEVIATIONS), similarity, median)


def knn_similarity(embeddings: Floats, references: Floats) -> Floats:
    """Return the mean cosine of embeddings, (N, D), to their ten nearest references, (M, D), except copies."""
    directions = unit_vectors(references)
    starts = range(0, len(embeddings), CHUNK_SIZE)
    chunks = (unit_vectors(embeddings[start : start + CHUNK_SIZE]) for start in starts)
    return np.concatenate([knn_cosine(chunk, directions, NUM_NEIGHBORS, COPY_COSINE) for chunk in chunks])
