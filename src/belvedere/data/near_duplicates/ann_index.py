"""Approximate nearest neighbors by cosine, in an inverted file index.

N vectors are divided into cells of about sqrt(N) vectors, so a search of all takes N^1.5 instead of N^2 products
(Jégou et al. 2011, https://doi.org/10.1109/TPAMI.2010.57).
"""

import math

import numpy as np
from numpy.typing import NDArray

from belvedere.data.kmeans import nearest_direction, spherical_kmeans

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

MIN_INDEXED = 4000  # fewer vectors are searched exhaustively
CELL_SIZE = 1.5  # in square roots of N
NUM_PROBES = 6  # nearest cells that are searched
NUM_TRAINING = 20_000  # vectors for k-means
NUM_ITERATIONS = 8
CHUNK_SIZE = 1024  # queries


class InvertedFileIndex:
    """An index of unit vectors."""

    def __init__(self, vectors: Floats) -> None:
        """Build a deterministic index of vectors, (N, D) of length 1."""
        self._vectors = vectors
        self._centers = _kmeans(vectors)
        cells = nearest_direction(vectors, self._centers)
        order = np.argsort(cells, kind="stable")
        self._members = np.split(order, np.searchsorted(cells[order], np.arange(1, len(self._centers))))

    def search(self, queries: Floats, own: Rows, k: int, min_cosine: float) -> tuple[Rows, Rows, Floats]:
        """Find up to `k` nearest vectors of each query, (M, D) of length 1, except that at its own position, (M,).

        Returns:
            Positions of queries and of vectors, and their cosines, each (P,).
        """
        cells = np.concatenate([nearest_centers(chunk, self._centers, NUM_PROBES) for chunk in _chunks(queries)])
        found: list[tuple[Rows, Rows, Floats]] = []
        flat = cells.ravel()
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], np.arange(len(self._centers) + 1))
        for cell, members in enumerate(self._members):
            queries_of_cell = order[bounds[cell] : bounds[cell + 1]] // cells.shape[1]
            for start in range(0, len(queries_of_cell) if len(members) else 0, CHUNK_SIZE):
                rows = queries_of_cell[start : start + CHUNK_SIZE]
                found.append(self._search_cell(queries[rows], rows, own[rows], members, k, min_cosine))
        if not found:
            return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
        neighbors_of, neighbors, cosines = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return _nearest_of_each(neighbors_of, neighbors, cosines, k)

    def _search_cell(
        self, queries: Floats, rows: Rows, own: Rows, members: Rows, k: int, min_cosine: float
    ) -> tuple[Rows, Rows, Floats]:
        cosines = queries @ self._vectors[members].T
        cosines[members[None] == own[:, None]] = -1
        best = np.argpartition(-cosines, min(k, len(members)) - 1, axis=1)[:, :k]
        values = np.take_along_axis(cosines, best, 1)
        near = values >= min_cosine
        return np.broadcast_to(rows[:, None], best.shape)[near], members[best][near], values[near]


def nearest_centers(vectors: Floats, centers: Floats, k: int) -> Rows:
    """Return the positions of the `k` nearest centers of each vector, (N, k or fewer)."""
    k = min(k, len(centers))
    nearest: Rows = np.argpartition(-(vectors @ centers.T), k - 1, axis=1)[:, :k]
    return nearest


def _kmeans(vectors: Floats) -> Floats:
    """Return centers by spherical k-means on some of the vectors."""
    if len(vectors) < MIN_INDEXED:
        return np.zeros((1, vectors.shape[1]), np.float32)
    random = np.random.default_rng(0)
    sample = vectors[np.sort(random.permutation(len(vectors))[:NUM_TRAINING])]
    num_cells = max(1, round(math.sqrt(len(vectors)) / CELL_SIZE))
    centers = sample[random.permutation(len(sample))[:num_cells]]
    return spherical_kmeans(sample, centers, NUM_ITERATIONS)


def _chunks(vectors: Floats) -> list[Floats]:
    return [vectors[start : start + CHUNK_SIZE] for start in range(0, len(vectors), CHUNK_SIZE)]


def _nearest_of_each(queries: Rows, neighbors: Rows, cosines: Floats, k: int) -> tuple[Rows, Rows, Floats]:
    """Return the `k` nearest neighbors of each query from several cells."""
    order = np.lexsort((neighbors, -cosines, queries))
    queries, neighbors, cosines = queries[order], neighbors[order], cosines[order]
    rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
    nearest = rank < k
    return queries[nearest], neighbors[nearest], cosines[nearest]
