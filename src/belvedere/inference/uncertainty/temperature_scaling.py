"""How far an answer can be trusted: what is fitted on photographs that a model has not learnt from.

Knows probabilities and labels; does not know networks, model files or pictures.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Float = TypeVar("Float", np.float32, np.float64)

TEMPERATURES = (0.1, 10.0)  # between which one is sought
LEAST_FITTED_ON = 30  # photographs; fewer say nothing about how sure a model may be


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Finds the number by which logits are best divided, so that probabilities say how often they are right.

    It lowers the log loss on photographs that were not learnt from, and changes no answer (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599).

    Args:
        logits: (N, K), of such photographs.
        labels: (N,), 0 to K - 1.

    Returns:
        The temperature; 1 where there are fewer than 30 photographs to fit it on.
    """
    if len(labels) < LEAST_FITTED_ON:
        return 1.0
    logits = logits.astype(np.float64)
    lowest, highest = np.log(TEMPERATURES)
    return float(
        np.exp(golden_section_minimize(lambda exponent: log_loss(logits / np.exp(exponent), labels), lowest, highest))
    )


def golden_section_minimize(
    function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-5
) -> float:
    """Where a function with one valley is lowest between two bounds, by the golden section (Kiefer 1953).

    The log loss has one valley: it is convex in one over the temperature.
    """
    golden = (5**0.5 - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    values = [function(place) for place in inner]
    while high - low > tolerance:
        if values[0] <= values[1]:
            high, inner, values = inner[1], [0.0, inner[0]], [0.0, values[0]]
            inner[0] = high - golden * (high - low)
            values[0] = function(inner[0])
        else:
            low, inner, values = inner[0], [inner[1], 0.0], [values[1], 0.0]
            inner[1] = low + golden * (high - low)
            values[1] = function(inner[1])
    return (low + high) / 2


def log_loss(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy, in nats, of logits (N, K) and labels (N,)."""
    shifted = logits - logits.max(1, keepdims=True)
    given = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(1)) - given).mean())


def softmax(logits: NDArray[Float]) -> NDArray[Float]:
    """Returns probabilities, (N, K), of logits, in their precision."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[Float] = powers / powers.sum(1, keepdims=True)
    return probabilities


def remove_temperature(probabilities: Floats, temperature: float) -> NDArray[np.float64]:
    """Returns what probabilities, (N, K), had been before their logits were divided by a temperature."""
    powers = np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny) ** temperature
    restored: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return restored
