"""The order in which images are drawn: with unequal probabilities, and extendable.

Each image has a fixed random number u from its content. Images are drawn by ascending u / q, where q is the probability
of a draw (sequential Poisson sampling: Ohlsson 1998, Sequential Poisson sampling). So the first n images are a sample
for each n, a longer sample contains the shorter one, and a restart draws the same images.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNIFORM_FLOOR = 0.3  # fraction of the draws that do not depend on the predictions


def draw_probabilities(variances: NDArray[np.float64], floor: float = UNIFORM_FLOOR) -> NDArray[np.float64]:
    """Return the probability of each image, (N,), in one draw: proportional to its standard deviation, plus a floor.

    The standard deviation is optimal for a difference estimator (Sarndal et al. 1992, Model Assisted Survey Sampling,
    section 12.2). The floor bounds the weight of an image at 1 / floor, so that confident errors are found too.
    """
    sizes = np.sqrt(np.maximum(variances, 0.0))
    uniform = np.full(len(sizes), 1 / len(sizes))
    total = sizes.sum()
    return floor * uniform + (1 - floor) * (sizes / total if total > 0 else uniform)


def inclusion_probabilities(draws: NDArray[np.float64], num_drawn: int) -> NDArray[np.float64]:
    """Return the probability of each image, (N,), to be among the first `num_drawn`: min(1, c q), with their sum."""
    if num_drawn >= len(draws):
        return np.ones(len(draws))
    largest_first = np.sort(draws)[::-1]
    rest = np.cumsum(largest_first[::-1])[::-1]  # rest[k]: sum without the k largest
    factors = (num_drawn - np.arange(num_drawn)) / rest[:num_drawn]  # c if the k largest are certain
    k = int(np.argmax(factors * largest_first[:num_drawn] <= 1))
    return np.asarray(np.minimum(1.0, factors[k] * draws))


def random_numbers(hashes: Sequence[str], seed: int = 0) -> NDArray[np.float64]:
    """Return a random number in (0, 1) for each image, (N,), from the hash of its content; copies have different ones.

    Args:
        hashes: SHA-256 of each file, hexadecimal.
        seed: Another seed gives an independent sample.
    """
    copies: Counter[str] = Counter()
    numbers = np.empty(len(hashes))
    for index, content in enumerate(hashes):
        text = f"{seed} {content} {copies[content]}"
        copies[content] += 1
        value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        numbers[index] = (value + 0.5) / 2**64
    return numbers


def draw_order(numbers: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of all images, (N,), in the order in which they are drawn."""
    return np.argsort(numbers / draws, kind="stable")
