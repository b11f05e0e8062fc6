"""Estimates for images without labels: the accuracy to expect, and the frequencies of the classes."""

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.monitoring.result import ExpectedAccuracy

MAX_ITERATIONS = 1000
TOLERANCE = 1e-7
RESAMPLES = 1000  # of the bootstrap
Floats = NDArray[np.float64]


def expect_accuracy(is_correct: NDArray[np.bool_], confidence: Floats, new_confidence: Floats) -> ExpectedAccuracy:
    """Return the accuracy to expect on new images.

    Average thresholded confidence (ATC, Garg et al. 2022, https://arxiv.org/abs/2201.04234): the fraction of images
    above the confidence that as many test images exceed as are correct. Beside it, the difference of confidences
    (Guillory et al. 2021, https://arxiv.org/abs/2107.03315): the accuracy on the test images plus the change of the
    mean confidence. The interval, a bootstrap of both samples, has their error, not that of the assumptions.

    Args:
        is_correct: (N,), of the test images.
        confidence: (N,), calibrated, of the test images.
        new_confidence: (M,), of the new images.
    """
    rng, ordered = np.random.default_rng(0), np.sort(new_confidence)
    resampled = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(confidence), len(confidence))
        fraction = _thresholded(is_correct[chosen], confidence[chosen], ordered)
        resampled.append(rng.binomial(len(ordered), fraction) / len(ordered))
    low, high = np.quantile(resampled, [0.025, 0.975])
    difference = float(is_correct.mean() + new_confidence.mean() - confidence.mean())
    value = _thresholded(is_correct, confidence, ordered)
    return ExpectedAccuracy(value, float(low), float(high), min(1.0, max(0.0, difference)))


def _thresholded(is_correct: NDArray[np.bool_], confidence: Floats, ordered: Floats) -> float:
    """Return the fraction of ascending values, (M,), above the confidence that the correct fraction exceeds.

    The same part of the values equal to it, such as 1.0, counts as among the test images.
    """
    threshold = np.quantile(confidence, 1 - is_correct.mean())
    part = (is_correct.mean() - (confidence > threshold).mean()) / max((confidence == threshold).mean(), 1e-12)
    first, last = (np.searchsorted(ordered, threshold, side) for side in ("left", "right"))
    return float(len(ordered) - last + np.clip(part, 0, 1) * (last - first)) / len(ordered)


def estimate_class_frequencies(labels: NDArray[np.int64], new_probabilities: Floats) -> Floats:
    """Return the estimated frequency of each class among new images, (K,).

    Expectation maximization (Saerens et al. 2002, https://doi.org/10.1162/089976602753284446). It assumes that the
    images of a class look as before, and that only the frequencies of the classes changed.

    Args:
        labels: (N,), 0 to K - 1, of the test images.
        new_probabilities: (M, K), calibrated, of the new images.
    """
    num_classes = new_probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes) + 0.5  # a class without test images is possible
    prior = counts / counts.sum()
    frequencies = prior
    for _ in range(MAX_ITERATIONS):
        weighted = new_probabilities * (frequencies / prior)
        updated = (weighted / np.maximum(weighted.sum(1, keepdims=True), 1e-300)).mean(0)
        if np.abs(updated - frequencies).max() < TOLERANCE:
            break
        frequencies = updated
    return np.asarray(updated)
