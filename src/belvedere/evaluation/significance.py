"""Significance of the difference between two models on the same images."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 20_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Accuracy of two models on the same images."""

    num_images: int
    num_correct_before: int
    num_correct_after: int
    num_gained: int  # wrong before, correct after
    num_lost: int  # correct before, wrong after
    ci_low: float  # 95% confidence interval of the accuracy change
    ci_high: float
    p_value: float  # McNemar's exact test

    @property
    def accuracy_before(self) -> float:
        """Accuracy of the first model."""
        return self.num_correct_before / self.num_images

    @property
    def accuracy_after(self) -> float:
        """Accuracy of the second model."""
        return self.num_correct_after / self.num_images

    @property
    def accuracy_change(self) -> float:
        """Accuracy after minus accuracy before."""
        return (self.num_correct_after - self.num_correct_before) / self.num_images


def compare_paired(before: np.ndarray, after: np.ndarray, seed: int = 0) -> PairedComparison:
    """Compare two models on N images.

    Args:
        before: (N,) bool, whether the first model was correct.
        after: (N,) bool, whether the second model was correct; N is at least 1.
        seed: Seed for the bootstrap.
    """
    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
    interval = bootstrap_interval(gained, lost, len(before), seed)
    p_value = mcnemar_exact(gained, lost)
    return PairedComparison(len(before), int(before.sum()), int(after.sum()), gained, lost, *interval, p_value)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Two equally good models are each correct on half of the images on which they differ: a binomial test of the
    smaller count (McNemar 1947, Note on the sampling error of the difference between correlated proportions).
    """
    differing = gained + lost
    tail = ways = 1  # number of outcomes with k images on one side, from k = 0
    for k in range(min(gained, lost)):
        ways = ways * (differing - k) // (k + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**differing))  # integers of any size, divided once


def bootstrap_interval(gained: int, lost: int, num_images: int, seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap confidence interval of the accuracy change.

    An image counts as gained, lost or neither, so a resample is one multinomial draw. Percentile method: Efron and
    Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    fractions = np.array([gained, lost, num_images - gained - lost]) / num_images
    drawn = np.random.default_rng(seed).multinomial(num_images, fractions, RESAMPLES)  # (RESAMPLES, 3)
    changes = (drawn[:, 0] - drawn[:, 1]) / num_images
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(changes, [tail, 1 - tail])
    return float(low), float(high)
