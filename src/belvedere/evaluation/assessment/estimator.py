"""Estimates fractions of all images from a sample, with confidence intervals.

A fraction is Y / D: D counts images such as those of a class, Y those of them that are, for example, predicted as it.
Both are difference estimates: the sum of the expected values of all images, plus the weighted sum of what the sample
differs from it (Sarndal et al. 1992, Model Assisted Survey Sampling, chapter 6; Kossen et al. 2021, Active Testing,
https://arxiv.org/abs/2103.05331). The variance is that of the ratio under Poisson-like sampling of a fixed size
(Hajek 1964), averaged with the one that the expected values predict, which counts as `PRIOR_IMAGES` images: in few
images, there is often no error at all. The interval is Wilson's with the effective sample size and Student's quantile,
whose degrees of freedom are Satterthwaite's: a few images with a large weight may make up most of the variance.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.intervals import student_t_quantile, wilson_interval
from belvedere.types.assessment import Estimate

PRIOR_IMAGES = 8
FEW_IMAGES = 5  # with fewer, the interval is that of simple random sampling, at least
PRIOR_VALUES = 2  # images that pull the value in the binomial variance from 0 and 1
SMALLEST_TOTAL = 0.2  # of the expected total, as a lower limit of its estimate


@dataclass(frozen=True)
class LabeledDraw:
    """The images that a person classified, n of N."""

    images: NDArray[np.int64]  # (n,), their indices
    inclusion: NDArray[np.float64]  # (N,), probability of each image to be in the sample


@dataclass(frozen=True)
class Fraction:
    """A fraction to estimate; its numerator counts a subset of its denominator, or the difference of two subsets."""

    expected: NDArray[np.float64]  # (N,), probability that an image counts in the numerator
    expected_total: NDArray[np.float64]  # (N,), in the denominator
    found: NDArray[np.float64]  # (n,), 1 if an image of the sample counts in the numerator
    found_total: NDArray[np.float64]  # (n,), in the denominator
    lost: NDArray[np.float64] | None = None  # (N,), of a difference: probability that an image counts as -1


def estimate_fraction(sample: LabeledDraw, fraction: Fraction, *, is_rare: bool = False) -> Estimate:
    """Estimate a fraction with its 95% interval.

    Args:
        sample: The sample.
        fraction: The fraction.
        is_rare: Whether cases or counterexamples are rare; the variance is then at least the predicted one.
    """
    num_images = round(fraction.found_total.sum())
    value, variance, degrees = _estimate(sample, fraction, num_images, is_rare=is_rare)
    binomial = _binomial_variance(fraction, value, num_images)
    size = math.inf if variance <= 0 else binomial / variance
    if num_images < FEW_IMAGES and len(sample.images) < len(sample.inclusion):
        size = min(size, num_images)
    if num_images == 0 or size == 0:
        return Estimate(None, 0.0, 1.0, 0, None, None)
    low, high = wilson_interval(value, size, student_t_quantile(degrees))
    if variance > 0:  # without a case, or a counterexample, nothing excludes 0 or 1
        low = low if fraction.found.any() else 0.0
        high = high if (fraction.found < fraction.found_total).any() else 1.0
    without_replacement = 1 / (1 / size + 1 / len(sample.inclusion))
    return Estimate(value, low, high, num_images, math.sqrt(variance), without_replacement)


def estimate_difference(sample: LabeledDraw, fraction: Fraction) -> Estimate:
    """Estimate a difference of two fractions, with Student's 95% interval.

    The variance is at least the predicted one, since few images of a sample are predicted differently.
    """
    num_images = round(fraction.found_total.sum())
    value, variance, degrees = _estimate(sample, fraction, num_images, is_rare=True)
    half = student_t_quantile(degrees) * math.sqrt(variance)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), num_images, math.sqrt(variance), None)


def _estimate(
    sample: LabeledDraw, fraction: Fraction, num_images: int, *, is_rare: bool = False
) -> tuple[float, float, int]:
    """Return the value, its variance, and its degrees of freedom; see `estimate_fraction`."""
    weights = 1 / sample.inclusion[sample.images]
    surplus = fraction.found - fraction.expected[sample.images]
    surplus_total = fraction.found_total - fraction.expected_total[sample.images]
    expected_total = float(fraction.expected_total.sum())
    total = max(expected_total + float(weights @ surplus_total), SMALLEST_TOTAL * expected_total, 1e-9)
    lowest = 0.0 if fraction.lost is None else -1.0
    value = min(1.0, max(lowest, (float(fraction.expected.sum()) + float(weights @ surplus)) / total))
    terms = _variance_terms(sample, weights * (surplus - value * surplus_total))
    predicted = _predicted_variance(sample, fraction, value)
    variance = (num_images * float(terms.sum()) + PRIOR_IMAGES * predicted) / (num_images + PRIOR_IMAGES)
    variance = max(variance, predicted) if is_rare else variance
    return value, variance / total**2, _degrees_of_freedom(terms)


def _variance_terms(sample: LabeledDraw, residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms, (n,), of the variance of the sum of weighted residuals, (n,)."""
    missing = 1 - sample.inclusion[sample.images]
    n = len(residuals)
    if n < 2 or not missing.any():
        return np.zeros(n)
    mean = missing @ residuals / missing.sum()
    return np.asarray(n / (n - 1) * missing * (residuals - mean) ** 2)


def _degrees_of_freedom(terms: NDArray[np.float64]) -> int:
    """Return the degrees of freedom of a variance from its terms, (n,), and the prior images; at most n - 1."""
    limit, squared = max(1, len(terms) - 1), float(terms.sum()) ** 2
    spread = float((terms**2).sum()) - squared / max(1, len(terms))
    return limit if spread <= 0 else min(limit, PRIOR_IMAGES + round(2 * squared / spread))


def _predicted_variance(sample: LabeledDraw, fraction: Fraction, value: float) -> float:
    """Return the same variance by the expected values of all images."""
    lost = np.zeros(1) if fraction.lost is None else fraction.lost
    gained = fraction.expected + lost  # of a difference, `expected` is the probability of 1 minus that of -1
    rest = fraction.expected_total - gained - lost
    mean = gained * (1 - value) - lost * (1 + value) - rest * value
    variances = gained * (1 - value) ** 2 + lost * (1 + value) ** 2 + rest * value**2 - mean**2
    return float(((1 - sample.inclusion) / sample.inclusion) @ np.maximum(variances, 0.0))


def _binomial_variance(fraction: Fraction, value: float, num_images: int) -> float:
    """Return v (1 - v), where v is pulled from 0 and 1 toward the expected fraction."""
    expected = float(fraction.expected.sum()) / max(float(fraction.expected_total.sum()), 1e-9)
    pulled = (num_images * value + PRIOR_VALUES * expected) / (num_images + PRIOR_VALUES)
    pulled = min(max(pulled, 1e-3), 1 - 1e-3)
    return pulled * (1 - pulled)
