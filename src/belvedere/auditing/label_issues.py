"""Label issues from out-of-fold probabilities, after confident learning.

Scores rank labels by their probability, weighted by the frequency of each confusion in the dataset. A label is flagged
if (a) its probability is below 10% of the class mean, (b) its log-odds fit the distribution of other labels 100 times
better, or (c) the pair is a frequent confusion and the other class reaches its own mean. Class means as thresholds:
Northcutt, Jiang, Chuang 2021, https://doi.org/10.1613/jair.1.12125.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.outliers import MAD_TO_STD

LABEL_ISSUE = "label_issue"
MIN_RELATIVE_PROBABILITY = 0.1  # of the class mean
MIN_LIKELIHOOD_RATIO = 100.0  # of other labels' distribution to the own one's
MIN_PROBABILITY, MIN_DEVIATION = 1e-6, 0.3  # bounds; the latter of log-odds
CONFIDENT_FRACTION, MIN_CONFIDENT, MAX_CONFIDENT_FRACTION = 0.1, 200, 1 / 3  # of the images of each class
SYMMETRIC_PRIOR = 50  # images, of a confusion being as frequent in both directions
DEVIATIONS, MIN_CONFUSIONS = 4.0, 3  # standard deviations and images above the expectation of a frequent confusion
MAX_WEIGHT = 50.0

Floats = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LabelIssues:
    """Scores of N labels."""

    scores: NDArray[np.float64]  # (N,) 0 to 1; 1: certainly wrong
    flagged: NDArray[np.bool_]  # (N,)
    suggestions: Labels  # (N,) most probable class except the label
    probabilities: NDArray[np.float64]  # (N,) of the suggestion
    weights: NDArray[np.float64]  # (K, K) weight of each confusion: row true class, column label; 1 unless frequent


def find_label_issues(probabilities: Floats, labels: Labels) -> LabelIssues:
    """Score labels, (N,), by out-of-fold probabilities, (N, K)."""
    rows = np.arange(len(labels))
    thresholds = class_means(probabilities, labels)
    weights = confusion_weights(probabilities, labels)
    improbable = probabilities[rows, labels] < MIN_RELATIVE_PROBABILITY * thresholds[labels]
    confident = confident_class(probabilities, thresholds)
    frequent = (confident >= 0) & (confident != labels) & (weights[confident, labels] > 1)
    unusual = fits_other_labels(probabilities, labels)
    flagged = (improbable | frequent | unusual) & (probabilities.argmax(1) != labels)
    evidence = probabilities.astype(np.float64) * weights[:, labels].T  # (N, K), of each class being the true one
    scores = 1 - evidence[rows, labels] / evidence.sum(1)
    evidence[rows, labels] = -1
    suggestions = evidence.argmax(1).astype(np.int64)
    return LabelIssues(scores, flagged, suggestions, probabilities[rows, suggestions].astype(np.float64), weights)


def merge_extra_labels(probabilities: Floats, labels: Labels, extra_labels: Sequence[Sequence[int]]) -> Floats:
    """Add the probabilities, (N, K), of each image's extra labels to that of its label, and set them to 0."""
    merged = probabilities.copy()
    for row, (label, classes) in enumerate(zip(labels.tolist(), extra_labels, strict=True)):
        others = [each for each in classes if each != label]
        if others:
            merged[row, label] += merged[row, others].sum()
            merged[row, others] = 0
    return merged


def class_means(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return the mean probability of each class on images with this label, (K,); 2 without images."""
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=of_label, minlength=num_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 2.0)


def fits_other_labels(probabilities: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Return whether each label's log-odds fit the images with other labels better, (N,).

    Small datasets give no extreme probabilities, but the two distributions may still be separated. Both count as
    normal, with median and median absolute deviation.
    """
    clipped = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    log_odds, unusual = np.log(clipped / (1 - clipped)), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own, others = log_odds[labels == label, label], log_odds[labels != label, label]
        if len(others):
            clipped_own = np.maximum(own, np.median(others))  # values below are not extra evidence
            ratio = _log_density(clipped_own, others) - _log_density(clipped_own, own)
            unusual[labels == label] = ratio > np.log(MIN_LIKELIHOOD_RATIO)
    return unusual


def _log_density(values: NDArray[np.float64], sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-density, except for a constant, of a normal distribution fitted to a sample."""
    median = np.median(sample)
    deviation = max(MAD_TO_STD * float(np.median(np.abs(sample - median))), MIN_DEVIATION)
    density: NDArray[np.float64] = -0.5 * ((values - median) / deviation) ** 2 - np.log(deviation)
    return density


def confident_class(probabilities: Floats, thresholds: NDArray[np.float64]) -> Labels:
    """Return the most probable class that reaches its threshold, (N,), or -1."""
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), -1).astype(np.int64)


def confusion_weights(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Return the relative frequency of each confusion, (K, K): row true class, column label; 1 unless frequent.

    Only the most confident images of each class are counted. Similar classes are separated there, so the remaining
    confusions are label errors. Weights apply to pairs that are significantly more frequent than the others.
    """
    counts = _confident_counts(probabilities, labels)
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    wrong = ~np.eye(len(counts), dtype=bool)
    pairs, pair_totals = counts + counts.T, totals + totals.T
    expected = pair_totals * (counts[wrong].sum() / max(totals[wrong].sum(), 1.0))
    frequent = wrong & (pairs > expected + DEVIATIONS * np.sqrt(expected) + MIN_CONFUSIONS)
    rare = wrong & ~frequent
    rare_rate = (counts[rare].sum() + 1) / (totals[rare].sum() + 1)
    symmetric_rate = pairs / np.maximum(pair_totals, 1)
    rate = (counts + SYMMETRIC_PRIOR * symmetric_rate) / (totals + SYMMETRIC_PRIOR)
    return np.where(frequent, np.clip(rate / rare_rate, 1, MAX_WEIGHT), 1.0)


def _confident_counts(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Count the labels (columns) of the images most confidently of each class (rows), (K, K)."""
    num_classes = probabilities.shape[1]
    counts = np.zeros((num_classes, num_classes))
    predicted = probabilities.argmax(1)
    for k in range(num_classes):
        own = probabilities[:, k]
        if (labels == k).any():
            size = np.count_nonzero(labels == k)
            fraction = min(max(CONFIDENT_FRACTION, MIN_CONFIDENT / size), MAX_CONFIDENT_FRACTION)
            confident = (predicted == k) & (own >= np.quantile(own[labels == k], 1 - fraction))
            counts[k] = np.bincount(labels[confident], minlength=num_classes)
    return counts
