"""Cosine similarity to the nearest neighbors."""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)


def unit_vectors(values: NDArray[AnyFloat]) -> NDArray[AnyFloat]:
    """Scale the rows of `values`, (N, D), to length 1; zero rows stay zero."""
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def knn_cosine(
    queries: NDArray[AnyFloat], references: NDArray[np.float32], k: int, below: float = math.inf
) -> NDArray[AnyFloat]:
    """Return the mean cosine of each query to its `k` nearest references, (N,).

    Args:
        queries: (N, D), of length 1.
        references: (M, D), of length 1; all of them are used where M is less than `k`.
        k: Number of neighbors.
        below: Cosine above which a reference counts as a copy of the query and is ignored; default: none is.
    """
    cosines = queries @ references.T
    cosines[cosines > below] = -1
    k = min(k, len(references))
    return np.asarray(np.partition(cosines, -k, axis=1)[:, -k:].mean(1))
