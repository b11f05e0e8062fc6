"""Out-of-distribution (OOD) score, behind "none of these"; fitted without OOD images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.sampling import evenly_spaced
from belvedere.inference.uncertainty.knn import knn_cosine, unit_vectors
from belvedere.inference.uncertainty.temperature_scaling import MIN_IMAGES, Floats

SHRINKAGE = 0.01  # fraction of the mean variance that is added to each: the weakest directions are mostly noise
NUM_REFERENCES = 2048  # embeddings in the model
NUM_NEIGHBORS = 10
NUM_QUANTILES = 201  # of held-out scores that a model keeps


@dataclass(frozen=True)
class OODScorer:
    """Parameters of the score (see `ood_scores`)."""

    quadratic: NDArray[np.float32]  # (D, D)
    linear: NDArray[np.float32]  # (K', D), a row per class that has training embeddings
    offsets: NDArray[np.float32]  # (K',)
    energy_weight: float
    reference_embeddings: NDArray[np.float32]  # (M, D), of length 1; none if fewer than `NUM_NEIGHBORS`
    knn_weight: float

    @staticmethod
    def null(num_classes: int, embedding_dim: int) -> "OODScorer":
        """Return a scorer whose score is 0 for every image."""
        zeros = np.zeros((num_classes, embedding_dim), np.float32)
        quadratic = np.zeros((embedding_dim, embedding_dim), np.float32)
        return OODScorer(quadratic, zeros, zeros[:, 0].copy(), 0.0, zeros[:0], 0.0)


def fit_ood_scorer(
    embeddings: Floats,
    labels: NDArray[np.int64],
    held_out_embeddings: Floats,
    held_out_logits: Floats,
    num_references: int = NUM_REFERENCES,
) -> OODScorer:
    """Fit the score: relative Mahalanobis distance minus energy minus k-NN similarity, each in standard deviations.

    The terms are the Mahalanobis distance to the nearest class relative to that to all data (Ren et al. 2021,
    https://arxiv.org/abs/2106.09022), the log-sum-exp of the logits (Liu et al. 2020,
    https://arxiv.org/abs/2010.03759), and the mean cosine to the nearest training embeddings (Sun et al. 2022,
    https://arxiv.org/abs/2204.06507). Their sum detects more than each.

    Args:
        embeddings: (N, D), of training images.
        labels: (N,), 0 to K - 1; a class without embeddings has no distance.
        held_out_embeddings: (M, D), of held-out images, for the standard deviations.
        held_out_logits: (M, K).
        num_references: Number of training embeddings for the k-NN term; 0 omits it (smaller file).
    """
    values = embeddings.astype(np.float64)
    center = values.mean(0)  # (D,)
    classes, index = np.unique(labels, return_inverse=True)
    centers = np.stack([values[labels == label].mean(0) for label in classes])  # (K', D)
    within, total = _inverse_covariance(values - centers[index]), _inverse_covariance(values - center)  # (D, D)
    references = unit_vectors(values[evenly_spaced(len(values), min(num_references, len(values)))])
    references = references if len(references) >= NUM_NEIGHBORS else references[:0]
    # Both distances are quadratic in the embedding, so their difference is one quadratic form.
    distance = OODScorer(
        (within - total).astype(np.float32),
        (2 * center @ total - 2 * centers @ within).astype(np.float32),
        (np.einsum("kd,de,ke->k", centers, within, centers) - center @ total @ center).astype(np.float32),
        0.0,
        references.astype(np.float32),
        0.0,
    )
    std = _std(ood_scores(distance, held_out_embeddings, held_out_logits))
    return OODScorer(
        (distance.quadratic / std).astype(np.float32),
        (distance.linear / std).astype(np.float32),
        (distance.offsets / std).astype(np.float32),
        1 / _std(_energy(held_out_logits)),
        distance.reference_embeddings,
        1 / _std(_knn_similarity(distance, held_out_embeddings)) if len(references) else 0.0,
    )


def ood_scores(scorer: OODScorer, embeddings: Floats, logits: Floats) -> NDArray[np.float64]:
    """Return the score of images, (N,): the higher, the less they resemble the training images."""
    values = embeddings.astype(np.float64)
    quadratic = np.einsum("nd,nd->n", values @ scorer.quadratic, values)
    nearest_class = (values @ scorer.linear.T + scorer.offsets).min(1)
    similarity = scorer.knn_weight * _knn_similarity(scorer, embeddings) if scorer.knn_weight else 0.0
    return np.asarray(quadratic + nearest_class - scorer.energy_weight * _energy(logits) - similarity)


def fit_quantiles(scores: Floats) -> tuple[float, ...]:
    """Return evenly spaced quantiles of held-out scores, ascending; none for fewer than 30 scores."""
    if len(scores) < MIN_IMAGES:
        return ()
    return tuple(np.quantile(scores, np.linspace(0, 1, NUM_QUANTILES)).tolist())


def to_percentile(scores: Floats, quantiles: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the fraction of held-out images with a lower score, (N,), 0 to 1.

    It approaches 1 beyond the highest held-out score, so that the order of outliers is kept.
    """
    known = np.array(quantiles)
    ranks = np.linspace(0, 1, len(known))
    ranks[-1] = (ranks[-1] + ranks[-2]) / 2
    beyond = np.maximum(scores - known[-1], 0) / max(known[-1] - known[len(known) // 2], 1e-6)
    return np.asarray(1 - (1 - np.interp(scores, known, ranks)) * np.exp(-beyond))


def _inverse_covariance(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    covariance = deviations.T @ deviations / len(deviations)
    dim = len(covariance)
    return np.asarray(np.linalg.inv(covariance + np.eye(dim) * (SHRINKAGE * np.trace(covariance) / dim + 1e-12)))


def _knn_similarity(scorer: OODScorer, embeddings: Floats) -> NDArray[np.float64]:
    return knn_cosine(unit_vectors(embeddings.astype(np.float64)), scorer.reference_embeddings, NUM_NEIGHBORS)


def _energy(logits: Floats) -> NDArray[np.float64]:
    highest = logits.max(1).astype(np.float64)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(1)))


def _std(values: NDArray[np.float64]) -> float:
    return float(values.std()) + 1e-6
