"""Out-of-fold predictions of linear probes on embeddings, in numpy: an audit needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import softmax

PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # strong to weak: factors of |weights|^2 / 2 in the mean loss
DEFAULT_PENALTY = 0.01
NUM_STEPS = 60
CURVATURE = 0.1  # of the loss along a direction of variance 1: p (1 - p) of a fairly confident prediction
MAX_CURVATURE = 0.5

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LinearProblem:
    """Embeddings along their principal directions, where few steps suffice."""

    embeddings: Floats  # (N, D)
    variances: Floats  # (D,)
    targets: Floats  # (N, K)
    weights: Floats  # (N,) sample weights

    def fit(self, rows: NDArray[np.bool_], penalty: float) -> tuple[Floats, Floats]:
        """Minimize mean cross-entropy and penalty by Nesterov's accelerated gradients: (D, K) and (K,)."""
        scale = 1 / np.sqrt(CURVATURE * self.variances + penalty)
        values, targets, weights = self.embeddings[rows] * scale, self.targets[rows], self.weights[rows]
        weights = (weights / weights.sum())[:, None].astype(np.float32)
        values = np.concatenate([values, np.full((len(values), 1), CURVATURE**-0.5, np.float32)], axis=1)
        decay = np.append(penalty * scale**2, 0).astype(np.float32)[:, None]
        layer = ahead = np.zeros((values.shape[1], targets.shape[1]), np.float32)
        rate = 1 / (MAX_CURVATURE / CURVATURE + 1)
        for step in range(NUM_STEPS):
            slope = values.T @ ((softmax(values @ ahead) - targets) * weights) + decay * ahead
            new = ahead - rate * slope
            ahead = new + step / (step + 3) * (new - layer)
            layer = new
        return layer[:-1] * scale[:, None], layer[-1] * np.float32(CURVATURE**-0.5)


def cross_val_logits(
    embeddings: Floats,
    labels: Labels,
    folds: NDArray[np.intp],
    num_classes: int,
    weights: Floats | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Floats, float]:
    """Predict each image by a probe that is fitted to the other folds, with sample weights, (N,), 1 by default.

    Returns:
        Logits, (N, K), and the penalty with the lowest out-of-fold log loss, of those given from strong to weak.
    """
    rotated, variances = _principal_directions(embeddings)
    sample_weights = np.ones(len(labels), np.float32) if weights is None else weights
    targets = np.eye(num_classes, dtype=np.float32)[labels]
    problem = LinearProblem(rotated, variances, targets, sample_weights)
    best, best_logits, chosen = float("inf"), np.zeros((len(labels), num_classes), np.float32), penalties[0]
    for penalty in penalties:
        logits = np.empty((len(labels), num_classes), np.float32)
        for fold in np.unique(folds):
            layer, bias = problem.fit(folds != fold, penalty)
            logits[folds == fold] = problem.embeddings[folds == fold] @ layer + bias
        likelihoods = softmax(logits)[np.arange(len(labels)), labels]
        loss = float(-(sample_weights * np.log(np.maximum(likelihoods, 1e-9))).mean())
        if loss > best:
            break
        best, best_logits, chosen = loss, logits, penalty
    return best_logits, chosen


def predict_others(
    embeddings: Floats, labels: Labels, others: Floats, num_classes: int, penalty: float = DEFAULT_PENALTY
) -> Floats:
    """Return the logits, (M, K), of `others`, (M, D), by a probe that is fitted to embeddings, (N, D), and labels."""
    rotated, variances = _principal_directions(np.concatenate([embeddings, others]))
    fitted = np.arange(len(rotated)) < len(embeddings)
    targets = np.zeros((len(rotated), num_classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    layer, bias = LinearProblem(rotated, variances, targets, np.ones(len(rotated), np.float32)).fit(fitted, penalty)
    logits: Floats = rotated[~fitted] @ layer + bias
    return logits


def _principal_directions(embeddings: Floats) -> tuple[Floats, Floats]:
    """Standardize embeddings and rotate them to their principal directions, (N, D); also return the variances."""
    standardized = embeddings - embeddings.mean(0)
    standardized /= embeddings.std(0) + 1e-6
    variances, directions = np.linalg.eigh(standardized.T @ standardized / len(standardized))
    return standardized @ directions, np.maximum(variances, 0)
