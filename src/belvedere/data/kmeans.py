"""k-means: clusters of vectors, by their directions or by their positions."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)
Rows = NDArray[np.intp]
CHUNK_SIZE = 4096  # vectors


def spherical_kmeans(vectors: NDArray[AnyFloat], centers: NDArray[AnyFloat], num_steps: int) -> NDArray[AnyFloat]:
    """Return the directions, (C, D), of clusters of unit vectors, (N, D); a cluster without vectors keeps its own.

    Args:
        vectors: (N, D), of length 1.
        centers: (C, D), of length 1, to start with.
        num_steps: Number of steps.
    """
    for _ in range(num_steps):
        sums = _sums(vectors, nearest_direction(vectors, centers), len(centers))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centers = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centers).astype(vectors.dtype)
    return centers


def nearest_direction(vectors: NDArray[AnyFloat], centers: NDArray[AnyFloat]) -> Rows:
    """Return the position of the center, (N,), with the largest cosine."""
    nearest = np.empty(len(vectors), np.intp)
    for start in range(0, len(vectors), CHUNK_SIZE):
        part = slice(start, start + CHUNK_SIZE)
        nearest[part] = (vectors[part] @ centers.T).argmax(1)
    return nearest


def kmeans(points: NDArray[AnyFloat], num_clusters: int, num_steps: int, random: np.random.Generator) -> Rows:
    """Return the cluster of each point, (N,); centers start far from each other (k-means++: Arthur et al. 2007).

    Args:
        points: (N, D).
        num_clusters: Number of clusters.
        num_steps: Number of steps at most.
        random: Chooses the first centers.
    """
    centers = points[random.integers(len(points), size=1)]
    for _ in range(num_clusters - 1):
        nearest = _squared_distances(points, centers).min(1)
        total = nearest.sum()
        chances = nearest / total if total > 0 else None
        centers = np.vstack([centers, points[random.choice(len(points), p=chances)]])
    assigned = _squared_distances(points, centers).argmin(1)
    for _ in range(num_steps):
        counts = np.bincount(assigned, minlength=num_clusters)[:, None]
        centers = np.where(counts, _sums(points, assigned, num_clusters) / np.maximum(counts, 1), centers)
        moved = _squared_distances(points, centers).argmin(1)
        if (moved == assigned).all():
            break
        assigned = moved
    return np.asarray(assigned)


def _sums(vectors: NDArray[AnyFloat], assigned: Rows, num_clusters: int) -> NDArray[AnyFloat]:
    """Return the sum of the vectors of each cluster, (C, D)."""
    sums = np.zeros((num_clusters, vectors.shape[1]), vectors.dtype)
    np.add.at(sums, assigned, vectors)
    return sums


def _squared_distances(points: NDArray[AnyFloat], centers: NDArray[AnyFloat]) -> NDArray[AnyFloat]:
    distances = (points**2).sum(1)[:, None] - 2 * points @ centers.T + (centers**2).sum(1)
    return np.asarray(np.maximum(distances, 0))
