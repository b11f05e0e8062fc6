"""Finds the slice whose accuracy is lowest for its size, and tests it against all others that were tried.

Images are compared with images of the same stratum, such as those with the same label: a slice is not weak because it
holds many images of a difficult class. The test permutes which images of a stratum were predicted correctly, and takes
the most extreme of all slices each time, so that the p-value holds however many slices are tried and however much they
overlap (Westfall and Young 1993, Resampling-Based Multiple Testing).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.weak_slices.candidates import Candidate, Family

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

PERMUTATIONS = 999
LESS_CLEAR = ("file_size",)  # attributes that are named only if no other is about as extreme: they follow from others
BLOCK = 64  # permutations, or strata, that are computed together


@dataclass(frozen=True, slots=True)
class TestedSlice:
    """The most extreme slice."""

    candidate: Candidate
    members: Bools  # (N,)
    strata: Indices  # (N,), those within which images were compared
    p_value: float  # adjusted for all slices that were tried


def find_weakest(
    families: Sequence[Family], correct: Bools, strata: Indices, margin: float, seed: int = 0
) -> TestedSlice | None:
    """Return the slice with the most extreme statistic; None if no slice is worse than elsewhere.

    Args:
        families: Slices of N images.
        correct: (N,), which images were predicted correctly.
        strata: (N,), numbers of the groups within which images are compared.
        margin: Tested is whether the accuracy is lower than elsewhere by more than this, 0 to 1.
        seed: Seed of the permutations.
    """
    candidates = [(family, each) for family in families for each in family.candidates]
    if not candidates:
        return None
    sizes = np.bincount(strata).astype(np.float64)  # (K,)
    rates = np.bincount(strata, correct) / np.maximum(sizes, 1)  # (K,)
    counts = _count_strata(families, strata, len(sizes))  # (S, K)
    spread = counts * (sizes - counts) / np.maximum(sizes, 1)  # (S, K)
    variances = (spread * sizes / np.maximum(sizes - 1, 1) * rates * (1 - rates)).sum(1)  # hypergeometric
    deviations = np.where(variances > 0, np.sqrt(variances), np.inf)  # (S,)
    residuals = correct - rates[strata]  # (N,)
    observed = -(_sums(families, residuals[:, None])[:, 0] + margin * spread.sum(1)) / deviations
    best = int((observed - [each.attribute in LESS_CLEAR for _, each in candidates]).argmax())
    if observed[best] <= 0:
        return None
    chosen = _at_largest_gap([each for _, each in candidates], observed, best)
    extremes = _permuted_extremes(families, residuals, strata, deviations, seed)
    p_value = (1 + int((extremes >= observed[chosen]).sum())) / (1 + PERMUTATIONS)
    family, candidate = candidates[chosen]
    return TestedSlice(candidate, family.members(candidate), strata, p_value)


def _count_strata(families: Sequence[Family], strata: Indices, number: int) -> Floats:
    """Return the number of images of each stratum in each slice, (S, K), in blocks of strata to bound the memory."""
    blocks = (np.arange(start, min(start + BLOCK, number)) for start in range(0, number, BLOCK))
    return np.concatenate([_sums(families, (strata[:, None] == each).astype(np.float64)) for each in blocks], axis=1)


def _at_largest_gap(candidates: Sequence[Candidate], observed: Floats, best: int) -> int:
    """Return the slice by the same attribute, hardly less extreme, whose threshold is in the largest gap."""
    chosen = candidates[best]
    alike = [
        i
        for i, each in enumerate(candidates)
        if (each.attribute, each.is_above) == (chosen.attribute, chosen.is_above) and observed[i] >= observed[best] - 1
    ]
    return best if chosen.threshold is None else max(alike, key=lambda i: candidates[i].gap)


def _permuted_extremes(
    families: Sequence[Family], residuals: Floats, strata: Indices, deviations: Floats, seed: int
) -> Floats:
    """Return the most extreme statistic of each permutation within the strata, (PERMUTATIONS,)."""
    random, groups = np.random.default_rng(seed), [np.flatnonzero(strata == each) for each in np.unique(strata)]
    found = []
    for start in range(0, PERMUTATIONS, BLOCK):
        permuted = np.repeat(residuals[:, None], min(BLOCK, PERMUTATIONS - start), axis=1)
        for rows in groups:
            permuted[rows] = random.permuted(permuted[rows], axis=0)
        found.append((-_sums(families, permuted) / deviations[:, None]).max(0))
    return np.concatenate(found)


def _sums(families: Sequence[Family], values: Floats) -> Floats:
    """Return the sums of values, (N, n), over each slice of all families, (S, n)."""
    return np.concatenate([family.sums(values) for family in families])
