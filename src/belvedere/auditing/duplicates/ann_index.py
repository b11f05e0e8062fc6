"""The nearest of many directions, sought in a few cells instead of among all.

Knows vectors of length 1 and their cosines; does not know what they describe.

The vectors are divided into about as many cells as each cell then has members (an inverted file: Jégou et al. 2011,
https://doi.org/10.1109/TPAMI.2010.57), so that the work grows with N^1.5 instead of N^2.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

FEW = 4000  # vectors that are not worth dividing
CELL_SIZE = 1.5  # of a cell, in square roots of N
CELLS_SOUGHT = 6  # nearest cells that a vector's neighbours are sought in
LEARNT_FROM = 20_000  # vectors that the cells are made by
ROUNDS = 8
TOGETHER = 4096  # vectors compared with a cell at once


class Neighbours:
    """Vectors to be sought among."""

    def __init__(self, vectors: Floats) -> None:
        """Divides vectors, (N, D) of length 1, into cells; the same vectors are divided in the same way."""
        self._vectors = vectors
        self._centres = _make_centres(vectors)
        cells = np.concatenate([nearest_centres(part, self._centres, 1)[:, 0] for part in _parts(vectors)])
        order = np.argsort(cells, kind="stable")
        self._members = np.split(order, np.searchsorted(cells[order], np.arange(1, len(self._centres))))

    def search(self, queries: Floats, own: Rows, count: int, least: float) -> tuple[Rows, Rows, Floats]:
        """Finds the nearest vectors of each query.

        Args:
            queries: (M, D) of length 1.
            own: (M,), a vector for each query that does not count: itself.
            count: How many to find for each query, at most.
            least: Cosine that they must have.

        Returns:
            Places of queries and of vectors, and their cosines, each (P,).
        """
        sought = np.concatenate([nearest_centres(part, self._centres, CELLS_SOUGHT) for part in _parts(queries)])
        found: list[tuple[Rows, Rows, Floats]] = []
        flat = sought.ravel()
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], np.arange(len(self._centres) + 1))
        for cell, members in enumerate(self._members):
            asking = order[bounds[cell] : bounds[cell + 1]] // sought.shape[1]
            for start in range(0, len(asking) if len(members) else 0, TOGETHER):
                rows = asking[start : start + TOGETHER]
                found.append(self._search_cell(queries[rows], rows, own[rows], members, count, least))
        if not found:
            return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
        queried, columns, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return _keep_nearest(queried, columns, cosines, count)

    def _search_cell(
        self, queries: Floats, rows: Rows, own: Rows, members: Rows, count: int, least: float
    ) -> tuple[Rows, Rows, Floats]:
        cosines = queries @ self._vectors[members].T
        cosines[members[None] == own[:, None]] = -1
        best = np.argpartition(-cosines, min(count, len(members)) - 1, axis=1)[:, :count]
        values = np.take_along_axis(cosines, best, 1)
        near = values >= least
        return np.broadcast_to(rows[:, None], best.shape)[near], members[best][near], values[near]


def nearest_centres(vectors: Floats, centres: Floats, count: int) -> Rows:
    """Returns the places of the nearest centres of each vector, (n, count or all)."""
    count = min(count, len(centres))
    found: Rows = np.argpartition(-(vectors @ centres.T), count - 1, axis=1)[:, :count]
    return found


def _make_centres(vectors: Floats) -> Floats:
    """Spherical k-means on some of the vectors."""
    if len(vectors) < FEW:
        return np.zeros((1, vectors.shape[1]), np.float32)
    random = np.random.default_rng(0)
    some = vectors[np.sort(random.permutation(len(vectors))[:LEARNT_FROM])]
    cells = max(1, round(math.sqrt(len(vectors)) / CELL_SIZE))
    centres = some[random.permutation(len(some))[:cells]]
    for _ in range(ROUNDS):
        cell = np.concatenate([nearest_centres(part, centres, 1)[:, 0] for part in _parts(some)])
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, some)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres).astype(np.float32)
    return centres


def _parts(vectors: Floats) -> list[Floats]:
    return [vectors[start : start + TOGETHER] for start in range(0, len(vectors), TOGETHER)]


def _keep_nearest(queried: Rows, columns: Rows, cosines: Floats, count: int) -> tuple[Rows, Rows, Floats]:
    """Of each query's finds in several cells, the nearest."""
    order = np.lexsort((columns, -cosines, queried))
    queried, columns, cosines = queried[order], columns[order], cosines[order]
    place = np.arange(len(queried)) - np.searchsorted(queried, queried)  # among the query's own
    kept = place < count
    return queried[kept], columns[kept], cosines[kept]
