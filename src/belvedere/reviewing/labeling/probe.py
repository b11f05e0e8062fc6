"""Linear probe that is fitted again after every few labels: fast, and careful while labels are few."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.linear_probe import LinearProblem
from belvedere.data.sampling import evenly_spaced
from belvedere.inference.uncertainty.temperature_scaling import softmax

PENALTY = 3.0  # divided by the number of labels: factor of |weights|^2 / 2 in the mean loss
MIN_PENALTY = 0.003
WEIGHT_EXPONENT = 0.5  # of 1 / number of labels of the class: 0 weighs all images the same, 1 all classes
UNSEEN_LOGIT = -1e4  # of classes without a label
MAX_DIRECTIONS = 256  # principal directions of the embeddings that are used
MAX_FITTED = 5000  # images that the directions are computed from

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Features:
    """Embeddings along their principal directions, strongest first."""

    values: Floats  # (N, D)
    variances: Floats  # (D,)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Probe:
    """A linear layer."""

    weight: Floats  # (D, K)
    bias: Floats  # (K,)

    def logits(self, values: Floats) -> Floats:
        """Return the logits, (n, K), of features, (n, D)."""
        logits: Floats = values @ self.weight + self.bias
        return logits

    def probabilities(self, values: Floats) -> Floats:
        """Return the probabilities, (n, K), of features, (n, D)."""
        return softmax(self.logits(values))


def make_features(embeddings: Floats) -> tuple[Features, Callable[[Floats], Floats]]:
    """Standardize embeddings, (N, E), and rotate them to the strongest of their principal directions.

    Returns:
        The features, and a function that computes those, (n, D), of other embeddings, (n, E).
    """
    sample = embeddings[evenly_spaced(len(embeddings), min(len(embeddings), MAX_FITTED))]
    mean, std = sample.mean(0), sample.std(0) + np.float32(1e-6)
    standardized = (sample - mean) / std
    variances, directions = np.linalg.eigh(standardized.T @ standardized / len(sample))
    strongest = slice(None, -MAX_DIRECTIONS - 1, -1)
    rotation = directions[:, strongest] / std[:, None]

    def rotate(others: Floats) -> Floats:
        values: Floats = (others @ rotation - mean @ rotation).astype(np.float32)
        return values

    return Features(rotate(embeddings), np.maximum(variances[strongest], 0).astype(np.float32)), rotate


def fit_probe(features: Features, rows: Rows, labels: Labels, num_classes: int) -> Probe:
    """Fit a probe to labeled images; rare classes weigh more, but less than if all weighed the same.

    Args:
        features: Of all images.
        rows: (n,) labeled images, one at least.
        labels: (n,) their classes, 0 to K - 1.
        num_classes: K; a class without labels has the probability 0.
    """
    seen, targets = np.unique(labels, return_inverse=True)
    counts = np.bincount(targets)
    weights = ((1 / counts) ** WEIGHT_EXPONENT)[targets].astype(np.float32)
    problem = LinearProblem(
        features.values[rows], features.variances, np.eye(len(seen), dtype=np.float32)[targets], weights
    )
    penalty = max(MIN_PENALTY, PENALTY / len(labels))
    seen_weight, seen_bias = problem.fit(np.ones(len(labels), bool), penalty)
    weight = np.zeros((features.values.shape[1], num_classes), np.float32)
    bias = np.full(num_classes, UNSEEN_LOGIT, np.float32)
    weight[:, seen], bias[seen] = seen_weight, seen_bias
    return Probe(weight, bias)
