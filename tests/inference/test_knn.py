"""Mean cosine to the nearest references, by hand."""

import numpy as np
import pytest

from belvedere.inference.uncertainty.knn import knn_cosine, unit_vectors

# Cosines to (1, 0): 1, 0.8, 0.6, -0.6.
REFERENCES = np.array([[1, 0], [0.8, 0.6], [0.6, -0.8], [-0.6, 0.8]], np.float32)
QUERY = np.array([[1.0, 0.0]], np.float32)


def test_rows_are_scaled_to_length_one() -> None:
    found = unit_vectors(np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    assert found == pytest.approx(np.array([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(("k", "mean"), [(1, 1.0), (2, 0.9), (3, 0.8), (4, 0.45), (9, 0.45)])
def test_mean_over_the_nearest(k: int, mean: float) -> None:
    assert knn_cosine(QUERY, REFERENCES, k) == pytest.approx([mean])


@pytest.mark.parametrize(
    ("below", "k", "mean"),
    [(0.9, 1, 0.8), (0.9, 2, 0.7), (0.7, 1, 0.6), (0.7, 2, 0.0), (0.7, 4, (0.6 - 0.6 - 1 - 1) / 4), (1.0, 1, 1.0)],
)
def test_copies_are_ignored(below: float, k: int, mean: float) -> None:
    """A copy, with a cosine above the limit, counts as the least similar reference: -1."""
    assert knn_cosine(QUERY, REFERENCES, k, below) == pytest.approx([mean], abs=1e-6)
