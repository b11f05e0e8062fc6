"""Two-sample tests: whether new images differ from the test images by more than chance.

All tests assume that the images of each sample are independent. The p-values by permutation are exact (Phipson and
Smyth 2010, https://doi.org/10.2202/1544-6115.1585).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.knn import unit_vectors

PERMUTATIONS = 999
MAX_EMBEDDINGS = 500  # of each sample: time and memory grow with the square
CHUNK = 100  # permutations at a time
Floats = NDArray[np.float64]
Embeddings = NDArray[np.floating[Any]]


def compare_counts(reference: NDArray[np.int64], new: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Return the p-value that the classes of two samples have the same frequencies.

    Permutation test with the chi-square statistic.

    Args:
        reference: (K,), images of each class.
        new: (K,), the same for the new images.
        rng: Source of the permutations.
    """
    pooled = reference + new
    drawn = rng.multivariate_hypergeometric(pooled, int(new.sum()), size=PERMUTATIONS)  # (PERMUTATIONS, K)
    return _permutation_p_value(chi_square(pooled, new[None])[0], chi_square(pooled, drawn))


def chi_square(pooled: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """Return the chi-square statistic of homogeneity of samples, (N,).

    Args:
        pooled: (K,), counts of both samples together.
        counts: (N, K), counts of one of them; the rest is the other.
    """
    kept = pooled > 0
    counts, pooled = counts[:, kept], pooled[kept]
    total, size = pooled.sum(), counts.sum(1, keepdims=True)
    expected = pooled * size / total
    other = pooled * (total - size) / total
    return np.asarray(((counts - expected) ** 2 * (1 / expected + 1 / other)).sum(1))


def fisher_exact(reference: tuple[int, int], new: tuple[int, int]) -> float:
    """Return the two-sided p-value of Fisher's exact test that two samples have the same rate.

    Args:
        reference: Number of hits, and of images.
        new: The same for the new images.
    """
    hits, first, second = reference[0] + new[0], reference[1], new[1]
    possible = range(max(0, hits - first), min(hits, second) + 1)
    whole = _log_ways(first + second, hits)
    logs = np.array([_log_ways(second, k) + _log_ways(first, hits - k) - whole for k in possible])
    observed = logs[new[0] - possible.start]
    return min(1.0, float(np.exp(logs[logs <= observed + 1e-7]).sum()))


def _log_ways(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def ks_statistic(reference: Floats, new: Floats) -> float:
    """Return the largest difference between the cumulative distributions of two samples, (N,) and (M,)."""
    values = np.concatenate([reference, new])
    first = np.searchsorted(np.sort(reference), values, side="right") / len(reference)
    second = np.searchsorted(np.sort(new), values, side="right") / len(new)
    return float(np.abs(first - second).max())


def compare_values(reference: Floats, new: Floats) -> float:
    """Return the p-value of the Kolmogorov-Smirnov test, by its limiting distribution."""
    size = math.sqrt(len(reference) * len(new) / (len(reference) + len(new)))
    scaled = size * ks_statistic(reference, new)
    if scaled < 0.2:  # where the sum converges slowly, and is 1 to 12 digits
        return 1.0
    terms = np.arange(1, 101)
    return float(np.clip(2 * ((-1.0) ** (terms - 1) * np.exp(-2 * (terms * scaled) ** 2)).sum(), 0, 1))


def compare_embeddings(reference: Embeddings, new: Embeddings, rng: np.random.Generator) -> float:
    """Return the p-value that two samples of embeddings have the same distribution.

    Permutation test with the maximum mean discrepancy (Gretton et al. 2012, https://jmlr.org/papers/v13/gretton12a)
    between unit vectors, with a Gaussian kernel as wide as their median distance. `MAX_EMBEDDINGS` are drawn from
    larger samples.

    Args:
        reference: (N, D).
        new: (M, D).
        rng: Source of draws and permutations.
    """
    drawn = [each[rng.permutation(len(each))[:MAX_EMBEDDINGS]] for each in (reference, new)]
    samples = [each.astype(np.float64) for each in drawn]
    size, total = len(samples[0]), len(samples[0]) + len(samples[1])
    kernel = gaussian_kernel(np.concatenate(samples))
    weights = np.where(np.arange(total) < size, 1 / size, -1 / (total - size))
    permuted: list[float] = []
    for start in range(0, PERMUTATIONS, CHUNK):
        rows = np.stack([rng.permutation(weights) for _ in range(min(CHUNK, PERMUTATIONS - start))])
        permuted += ((rows @ kernel) * rows).sum(1).tolist()
    return _permutation_p_value(float(weights @ kernel @ weights), np.array(permuted))


def gaussian_kernel(embeddings: Floats) -> Floats:
    """Return the kernel of embeddings, (N, D), as (N, N)."""
    unit = unit_vectors(embeddings)
    squared = np.maximum(2 - 2 * unit @ unit.T, 0)
    median = float(np.median(squared[np.triu_indices(len(unit), 1)])) or 1.0
    return np.asarray(np.exp(-squared / (2 * median)))


def _permutation_p_value(observed: float, permuted: Floats) -> float:
    return float((1 + (permuted >= observed - 1e-12).sum()) / (1 + len(permuted)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values that are corrected for the number of tests (Holm 1979)."""
    adjusted, highest = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
