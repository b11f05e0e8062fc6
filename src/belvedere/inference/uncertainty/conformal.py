"""Sets of classes that hold the true one as often as promised: split conformal prediction.

Knows probabilities and labels; does not know class names, or how a set is shown.
"""

from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import Floats

COVERAGE = 0.95  # how often the true class is in a set
CERTAINTY = (
    0.95  # that this holds for the photographs to come, whichever were drawn to fit on (see `fit_conformal_threshold`)
)


def fit_conformal_threshold(probabilities: Floats, labels: NDArray[np.int64]) -> float | None:
    """Finds how much probability likelier classes may hold before a class is ruled out.

    The score of a class is the probability of all likelier ones, as adaptive prediction sets have it (Romano et al.
    2020, https://arxiv.org/abs/2006.02544) but without chance: the same picture always has the same set, and the
    likeliest class is in it. Split conformal prediction keeps its promise on average over the photographs it is fitted
    on; here it is kept with a certainty of 95% for those at hand (Vovk 2012, https://arxiv.org/abs/1209.2673). Both
    hold of photographs that nothing else was chosen by. Where these chose the epoch and the temperature as well, they
    flatter by a point or two, which the certainty makes up for, but nothing is proven.

    Args:
        probabilities: (N, K), of photographs that were not learnt from.
        labels: (N,), 0 to K - 1.

    Returns:
        The mass; None where there are too few photographs to promise anything.
    """
    rank = _rank(len(labels))
    if rank is None:
        return None
    scores = np.sort(aps_scores(probabilities)[np.arange(len(labels)), labels])
    return float(scores[rank - 1])


def aps_scores(probabilities: Floats) -> NDArray[np.float64]:
    """Returns for each class the probability of all likelier ones, (N, K); 0 for the likeliest."""
    order = np.argsort(-probabilities, 1, kind="stable")
    ranked = np.take_along_axis(probabilities.astype(np.float64), order, 1)
    before = np.cumsum(ranked, 1) - ranked
    before[:, 0] = 0.0
    masses = np.empty_like(before)
    np.put_along_axis(masses, order, before, 1)
    return masses


def choose_sets(probabilities: Floats, mass: float) -> NDArray[np.bool_]:
    """Says which classes are in the prediction set, (N, K), by what `fit_conformal_threshold` found."""
    return aps_scores(probabilities) <= mass


def _rank(count: int) -> int | None:
    """The smallest rank whose score covers `COVERAGE` of what is to come, with `CERTAINTY`.

    The share covered by the score of rank r of n follows Beta(r, n + 1 - r), and is under p with the probability that
    of n draws r or more fall under p.
    """
    tail = 0.0  # the probability of `rank` or more of `count`
    for rank in range(count, 0, -1):
        tail += _binomial(count, rank, COVERAGE)
        if tail > 1 - CERTAINTY:
            return rank + 1 if rank < count else None
    return None


def _binomial(count: int, hits: int, share: float) -> float:
    ways = lgamma(count + 1) - lgamma(hits + 1) - lgamma(count - hits + 1)
    return exp(ways + hits * log(share) + (count - hits) * log(1 - share))
