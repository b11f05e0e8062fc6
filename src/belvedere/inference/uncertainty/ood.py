"""How unlike a picture is to all that a model has learnt: the score behind "none of these".

Knows embeddings, logits and labels; does not know pictures. No outlier is needed to fit anything.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import Floats

FLOOR = 0.01  # of the mean variance, added to each: the weakest directions are mostly noise
NEIGHBOURS = 2048  # embeddings that are kept
NEAREST = 10  # of them are asked
QUANTILES = 201  # of the scores of true pictures that a model keeps
LEAST_FITTED_ON = 30  # photographs


@dataclass(frozen=True)
class OODScorer:
    """What makes a score of an embedding and its logits: see `score_outliers`."""

    quadratic: NDArray[np.float32]  # (D, D)
    linear: NDArray[np.float32]  # (K, D)
    offsets: NDArray[np.float32]  # (K,), or fewer where a class has nobody to be like
    energy: float
    neighbours: NDArray[np.float32]  # (M, D), of length 1; none where there are fewer than `NEAREST`
    nearness: float

    @staticmethod
    def unknown(classes: int, width: int) -> "OODScorer":
        """A score that says nothing: 0 for every picture."""
        zeros = np.zeros((classes, width), np.float32)
        return OODScorer(np.zeros((width, width), np.float32), zeros, zeros[:, 0].copy(), 0.0, zeros[:0], 0.0)


def fit_outlier_score(
    embeddings: Floats,
    labels: NDArray[np.int64],
    held_embeddings: Floats,
    held_logits: Floats,
    neighbours: int = NEIGHBOURS,
) -> OODScorer:
    """Fits the score: relative Mahalanobis distance less energy and nearness, each in units of its own deviation.

    The distance to the nearest class, by the covariance within the classes, less the distance to all of them together
    (Ren et al. 2021, https://arxiv.org/abs/2106.09022); less the log of the sum of the exponentials of the logits,
    which is high where any class is sure (Liu et al. 2020, https://arxiv.org/abs/2010.03759); less the mean cosine to
    the nearest of some that were learnt from (Sun et al. 2022, https://arxiv.org/abs/2204.06507). Together they tell
    more than each.

    Args:
        embeddings: (N, D), of photographs that were learnt from.
        labels: (N,), 0 to K - 1; a class that is not among them has no distance.
        held_embeddings: (M, D), of photographs that were not: the deviations are theirs.
        held_logits: (M, K), of these.
        neighbours: How many embeddings are kept to measure nearness by; 0 leaves it out, for a smaller file.
    """
    values = embeddings.astype(np.float64)
    centre = values.mean(0)  # (D,)
    classes, places = np.unique(labels, return_inverse=True)
    centres = np.stack([values[labels == label].mean(0) for label in classes])  # (K, D)
    within, around = _inverse_covariance(values - centres[places]), _inverse_covariance(values - centre)  # (D, D)
    # Both distances are quadratic in the embedding: what they have in common is worked out once.
    kept = _unit(values[np.linspace(0, len(values) - 1, min(neighbours, len(values))).astype(np.intp)])
    kept = kept if len(kept) >= NEAREST else kept[:0]
    distance = OODScorer(
        (within - around).astype(np.float32),
        (2 * centre @ around - 2 * centres @ within).astype(np.float32),
        (np.einsum("kd,de,ke->k", centres, within, centres) - centre @ around @ centre).astype(np.float32),
        0.0,
        kept.astype(np.float32),
        0.0,
    )
    spread = _spread(score_outliers(distance, held_embeddings, held_logits))
    return OODScorer(
        (distance.quadratic / spread).astype(np.float32),
        (distance.linear / spread).astype(np.float32),
        (distance.offsets / spread).astype(np.float32),
        1 / _spread(_energy(held_logits)),
        distance.neighbours,
        1 / _spread(_nearness(distance, held_embeddings)) if len(kept) else 0.0,
    )


def score_outliers(rule: OODScorer, embeddings: Floats, logits: Floats) -> NDArray[np.float64]:
    """Scores pictures, (N,): the higher, the less they are like any that was learnt from."""
    values = embeddings.astype(np.float64)
    shared = np.einsum("nd,nd->n", values @ rule.quadratic, values)
    nearest = (values @ rule.linear.T + rule.offsets).min(1)
    near = rule.nearness * _nearness(rule, embeddings) if rule.nearness else 0.0
    return np.asarray(shared + nearest - rule.energy * _energy(logits) - near)


def fit_quantiles(scores: Floats) -> tuple[float, ...]:
    """Returns the scores of true pictures from the least to the most, evenly spread; none of too few pictures."""
    if len(scores) < LEAST_FITTED_ON:
        return ()
    return tuple(float(value) for value in np.quantile(scores, np.linspace(0, 1, QUANTILES)))


def to_percentile(scores: Floats, quantiles: tuple[float, ...]) -> NDArray[np.float64]:
    """Returns the share of true pictures that are less unlike, (N,), from 0 to 1.

    Beyond the last of them it comes closer and closer to 1, so that of two outliers the stranger has the higher rank.
    """
    known = np.array(quantiles)
    ranks = np.linspace(0, 1, len(known))
    ranks[-1] = (ranks[-1] + ranks[-2]) / 2
    beyond = np.maximum(scores - known[-1], 0) / max(known[-1] - known[len(known) // 2], 1e-6)
    return np.asarray(1 - (1 - np.interp(scores, known, ranks)) * np.exp(-beyond))


def _inverse_covariance(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of the covariance."""
    covariance = deviations.T @ deviations / len(deviations)
    width = len(covariance)
    return np.asarray(np.linalg.inv(covariance + np.eye(width) * (FLOOR * np.trace(covariance) / width + 1e-12)))


def _nearness(rule: OODScorer, embeddings: Floats) -> NDArray[np.float64]:
    """The mean cosine to the nearest."""
    cosines = _unit(embeddings.astype(np.float64)) @ rule.neighbours.T
    return np.asarray(np.partition(cosines, -NEAREST, 1)[:, -NEAREST:].mean(1))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def _energy(logits: Floats) -> NDArray[np.float64]:
    highest = logits.max(1).astype(np.float64)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(1)))


def _spread(values: NDArray[np.float64]) -> float:
    return float(values.std()) + 1e-6
