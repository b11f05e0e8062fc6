"""Prediction sets by split conformal prediction."""

from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import Floats

COVERAGE = 0.95  # target: fraction of images whose label is in the prediction set
CONFIDENCE = 0.95  # that the coverage on new images reaches the target


def fit_conformal_threshold(probabilities: Floats, labels: NDArray[np.int64]) -> float | None:
    """Fit the largest score of a class in the prediction set.

    The score is that of adaptive prediction sets without randomization (Romano et al. 2020,
    https://arxiv.org/abs/2006.02544): the total probability of the classes that are more probable. Standard split
    conformal prediction guarantees the coverage on average over calibration sets; this threshold guarantees it with
    95% confidence for the given one (Vovk 2012, https://arxiv.org/abs/1209.2673). The guarantee holds for images that
    were used for nothing else. If they also chose epoch and temperature, coverage drops by a point or two, which the
    confidence level usually covers.

    Args:
        probabilities: (N, K), of held-out images.
        labels: (N,), 0 to K - 1.

    Returns:
        The threshold; None if there are too few images for the guarantee.
    """
    rank = _rank(len(labels))
    if rank is None:
        return None
    scores = np.sort(aps_scores(probabilities)[np.arange(len(labels)), labels])
    return float(scores[rank - 1])


def aps_scores(probabilities: Floats) -> NDArray[np.float64]:
    """Return for each class the total probability of the more probable ones, (N, K); 0 for the most probable."""
    order = np.argsort(-probabilities, 1, kind="stable")
    ranked = np.take_along_axis(probabilities.astype(np.float64), order, 1)
    before = np.cumsum(ranked, 1) - ranked
    before[:, 0] = 0.0
    scores = np.empty_like(before)
    np.put_along_axis(scores, order, before, 1)
    return scores


def prediction_sets(probabilities: Floats, threshold: float) -> NDArray[np.bool_]:
    """Return which classes are in the prediction sets, (N, K)."""
    return aps_scores(probabilities) <= threshold


def _rank(count: int) -> int | None:
    """Return the smallest rank whose score covers `COVERAGE` of new images with `CONFIDENCE`.

    The coverage of the score of rank r of n follows Beta(r, n + 1 - r), and is below p with the probability that r or
    more of n draws are below p.
    """
    tail = 0.0  # probability of `rank` or more of `count`
    for rank in range(count, 0, -1):
        tail += _binomial(count, rank, COVERAGE)
        if tail > 1 - CONFIDENCE:
            return rank + 1 if rank < count else None
    return None


def _binomial(count: int, hits: int, probability: float) -> float:
    ways = lgamma(count + 1) - lgamma(hits + 1) - lgamma(count - hits + 1)
    return exp(ways + hits * log(probability) + (count - hits) * log(1 - probability))
