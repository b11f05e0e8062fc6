"""Quantiles and confidence intervals."""

import math

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964  # of 95%


def student_t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return t such that |T| is below it with a probability, for Student's distribution with at least 1 degree.

    Finite sums of Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _central_probability(high, degrees) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _central_probability(t: float, degrees: int) -> float:
    """Return the probability that |T| is below t."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for k in range(1 if is_odd else 0, degrees - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def wilson_interval(value: float, effective_size: float, quantile: float = NORMAL_QUANTILE) -> tuple[float, float]:
    """Return the score interval of a fraction, by default of 95% confidence (Wilson 1927, Probable inference).

    Args:
        value: Estimate, 0 to 1.
        effective_size: Number of independent images with the same variance; may be infinite.
        quantile: Quantile of the standard normal or Student's distribution.
    """
    if math.isinf(effective_size):
        return value, value
    square = quantile**2 / effective_size
    center = (value + square / 2) / (1 + square)
    half = math.sqrt(square * value * (1 - value) + square**2 / 4) / (1 + square)
    low, high = max(0.0, center - half), min(1.0, center + half)
    return low if value > 0 else 0.0, high if value < 1 else 1.0  # exact, without rounding errors
