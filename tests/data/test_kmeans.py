"""k-means by directions and by positions."""

import numpy as np
import pytest

from belvedere.data.kmeans import CHUNK_SIZE, kmeans, nearest_direction, spherical_kmeans


def make_clusters(number: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors, float32, around three axes, and their axes."""
    random = np.random.default_rng(0)
    truth = random.permutation(np.repeat([0, 1, 2], number))
    vectors = np.eye(3)[truth] + random.normal(scale=0.1, size=(len(truth), 3))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


def is_same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(set(one.tolist())) == len(set(other.tolist()))
    )


def test_directions_of_clusters_are_found() -> None:
    vectors, truth = make_clusters()
    away = np.array([[-1, 0, 0]], np.float32)  # has no vectors
    start = np.concatenate([vectors[[int((truth == each).argmax()) for each in range(3)]], away])
    centers = spherical_kmeans(vectors, start, 10)
    assert centers.dtype == np.float32
    assert np.allclose(np.linalg.norm(centers, axis=1), 1)
    assert np.allclose(centers[:3], np.eye(3), atol=0.1)
    assert np.array_equal(centers[3:], away)
    assert np.array_equal(nearest_direction(vectors, centers), truth)


def test_many_vectors_are_compared_in_parts() -> None:
    vectors, truth = make_clusters(CHUNK_SIZE // 2)
    assert np.array_equal(nearest_direction(vectors, np.eye(3, dtype=np.float32)), truth)
    assert len(nearest_direction(vectors[:0], np.eye(3, dtype=np.float32))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_clusters_of_positions_are_found(seed: int) -> None:
    vectors, truth = make_clusters()
    points = 5 + vectors.astype(np.float64)
    assert is_same_partition(kmeans(points, 3, 20, np.random.default_rng(seed)), truth)
    same = kmeans(np.ones((6, 2)), 3, 20, np.random.default_rng(seed))  # equal points are one cluster
    assert len(set(same.tolist())) == 1
