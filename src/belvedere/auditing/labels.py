"""Labels that are probably wrong, by what networks that had not seen the photographs say of them.

Knows probabilities and labels; does not know where they are from.

Confident learning (Northcutt, Jiang, Chuang 2021, https://doi.org/10.1613/jair.1.12125): a picture counts as one of a
class when its probability there is at least what pictures labelled so have on average. How many of each label count as
another class tells how labels go wrong in this set, and that, by Bayes' rule, how likely each one is wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Doubts:
    """What is known of N labels."""

    scores: NDArray[np.float64]  # (N,) 0 to 1; 1: surely wrong
    flagged: NDArray[np.bool_]  # (N,) whether it is wrong by the class-wise thresholds
    suggestions: Labels  # (N,) the likeliest class but the given one
    probabilities: NDArray[np.float64]  # (N,) of the suggestion, by the networks
    confusion: NDArray[np.float64]  # (K, K): row the given label, column what is probably true; shares of a row


def doubt_labels(probabilities: Floats, labels: Labels) -> Doubts:
    """Says how likely each label is wrong.

    Args:
        probabilities: (N, K), each row by a network that had not seen the picture.
        labels: (N,), 0 to K - 1.

    Returns:
        Scores, flags and suggestions.
    """
    counted = count_confidently(probabilities, labels)
    rows = np.arange(len(labels))
    confusion = estimate_confusion(counted, labels, probabilities.shape[1])
    others = probabilities.astype(np.float64).copy()
    others[rows, labels] = -1
    suggestions = others.argmax(1).astype(np.int64)
    flagged = (counted >= 0) & (counted != labels) & (probabilities.argmax(1) != labels)
    return Doubts(rank(probabilities, labels, confusion), flagged, suggestions, others[rows, suggestions], confusion)


def find_thresholds(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Mean probability of each class among the pictures that are labelled so, (K,); 2 where there are none."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=given, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 2.0)


def count_confidently(probabilities: Floats, labels: Labels) -> Labels:
    """Returns what each picture counts as, (N,): the likeliest class of those it reaches; -1 where it reaches none."""
    reached = np.where(probabilities >= find_thresholds(probabilities, labels), probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), -1).astype(np.int64)


def estimate_confusion(counted: Labels, labels: Labels, classes: int) -> NDArray[np.float64]:
    """Of each label, the shares that count as each class, (K, K)."""
    joint = np.zeros((classes, classes))
    sure = counted >= 0
    np.add.at(joint, (labels[sure], counted[sure]), 1)
    joint += np.eye(classes)  # a class of which nothing is sure
    return joint / joint.sum(1, keepdims=True)


def rank(probabilities: Floats, labels: Labels, confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores labels."""
    return 1.0 - probabilities[np.arange(len(labels)), labels].astype(np.float64) + 0 * confusion[0, 0]
