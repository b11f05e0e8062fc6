"""Temperature scaling (Guo et al. 2017), softmax and log loss."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Float = TypeVar("Float", np.float32, np.float64)

TEMPERATURE_RANGE = (0.1, 10.0)
MIN_IMAGES = 30  # to fit anything on held-out images


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Fit the temperature by which logits are divided to minimize the log loss.

    Predicted classes do not change (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        logits: (N, K), of held-out images.
        labels: (N,), 0 to K - 1.

    Returns:
        The temperature, 0.1 to 10; 1 for fewer than 30 images.
    """
    if len(labels) < MIN_IMAGES:
        return 1.0
    logits = logits.astype(np.float64)
    low, high = np.log(TEMPERATURE_RANGE)
    exponent = golden_section_minimize(lambda exponent: log_loss(logits / np.exp(exponent), labels), low, high)
    return float(np.exp(exponent))


def golden_section_minimize(
    function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-5
) -> float:
    """Return the minimum of a unimodal function between two bounds (Kiefer 1953)."""
    golden = (5**0.5 - 1) / 2
    points = [high - golden * (high - low), low + golden * (high - low)]
    values = [function(point) for point in points]
    while high - low > tolerance:
        if values[0] <= values[1]:
            high, points, values = points[1], [0.0, points[0]], [0.0, values[0]]
            points[0] = high - golden * (high - low)
            values[0] = function(points[0])
        else:
            low, points, values = points[0], [points[1], 0.0], [values[1], 0.0]
            points[1] = low + golden * (high - low)
            values[1] = function(points[1])
    return (low + high) / 2


def log_loss(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy, in nats, of logits (N, K) and labels (N,)."""
    shifted = logits - logits.max(1, keepdims=True)
    of_labels = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(1)) - of_labels).mean())


def softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Return the softmax over axis 1, in the precision of the logits."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[Float] = powers / powers.sum(1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def remove_temperature(probabilities: Floats, temperature: float) -> NDArray[np.float64]:
    """Return the probabilities, (N, K), before their logits were divided by a temperature."""
    powers = np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny) ** temperature
    restored: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return restored
