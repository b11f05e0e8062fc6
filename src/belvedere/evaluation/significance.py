"""Paired tests: two answers to each of the same questions.

Knows counts of right and wrong; does not know photographs. Needs numpy only.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 20_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Paired:
    """How two models fare on the same photographs."""

    images: int
    right_before: int
    right_after: int
    gained: int  # wrong before, right after
    lost: int  # right before, wrong after
    low: float  # of the change in accuracy: the interval that chance leaves open
    high: float
    p_value: float  # of a difference at least this large where both models are equally good

    @property
    def change(self) -> float:
        """The change in accuracy."""
        return (self.right_after - self.right_before) / self.images if self.images else 0.0


def compare_paired(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Paired:
    """Compares answers in pairs.

    Args:
        before: (N,) bool, whether the first model was right.
        after: (N,) bool, whether the second was.
        seed: Of the resampling.
    """
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    low, high = bootstrap_interval(gained, lost, len(before), seed)
    return Paired(
        len(before), int(before.sum()), int(after.sum()), gained, lost, low, high, mcnemar_exact(gained, lost)
    )


def mcnemar_exact(gained: int, lost: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    Of the photographs on which two equally good models differ, each is right on one half: a binomial test of the
    smaller count. McNemar, Note on the sampling error of the difference between correlated proportions (1947).
    """
    differing = gained + lost
    tail = ways = 1  # in which k of them are on one side, from k = 0 on
    for k in range(min(gained, lost)):
        ways = ways * (differing - k) // (k + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**differing))  # whole numbers of any size, divided once


def bootstrap_interval(gained: int, lost: int, images: int, seed: int = 0) -> tuple[float, float]:
    """Returns the interval of the change in accuracy that resampling the photographs gives.

    A photograph counts as gained, lost or neither, so drawing N photographs anew is drawing how many there are of each
    kind: one multinomial draw a resample. Percentile method: Efron and Tibshirani, An Introduction to the Bootstrap
    (1993), chapter 13.
    """
    if images == 0:
        return 0.0, 0.0
    shares = np.array([gained, lost, images - gained - lost]) / images
    drawn = np.random.default_rng(seed).multinomial(images, shares, RESAMPLES)  # (RESAMPLES, 3)
    changes = (drawn[:, 0] - drawn[:, 1]) / images
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(changes, [tail, 1 - tail])
    return float(low), float(high)
