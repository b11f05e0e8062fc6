"""The probability of each answer of a person, before and after some were given.

These probabilities choose the images and reduce the variance. Wrong ones cost precision, and do not bias the estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

NONE, UNSURE = -1, -2  # answers beside the index of a class
SMALLEST = 1e-6  # probability of a class
NOISE_RANGE = (0.005, 0.5)  # of the estimated fraction of wrong labels
NOISE_STEPS = 50  # of expectation maximization
LOG_TEMPERATURES = np.log([0.5, 0.7, 1.0, 1.4, 2.0, 2.8])
TEMPERATURE_STD = 0.5  # of the logarithm, before any answer
UNIFORM_FRACTIONS = np.geomspace(1e-5, 0.5, 20)  # of answers that no prediction explains; each equally likely before
ACCEPTED = 0.95  # percentile of the OOD score that most images of a class are below
NONE_RANGE, BASE_NONE, UNFLAGGED = (0.02, 0.95), 0.002, 0.1  # see `none_probabilities`
UNSURE_RATE, BASE_UNSURE = 0.1, 0.002
LARGEST_RATE = 0.9
PRIOR_EVENTS = 0.1  # images that are added to the observed and the expected number


@dataclass(frozen=True)
class Outcomes:
    """Probabilities of the answers for N images and C classes."""

    classes: NDArray[np.float64]  # (N, C), of a class, given that it is one; rows add up to 1
    none: NDArray[np.float64]  # (N,), that an image shows none of the classes
    unsure: NDArray[np.float64]  # (N,), that a person cannot tell

    @property
    def known(self) -> NDArray[np.float64]:
        """The probability of any class, (N,)."""
        return 1 - self.none - self.unsure

    def of_class(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of one class for each image, (N,); 0 where the index is negative."""
        found = self.classes[np.arange(len(indices)), indices] * self.known
        return np.where(indices >= 0, found, 0.0)


def expect_outcomes(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64] | None = None,
    ood_percentiles: NDArray[np.float64] | None = None,
) -> Outcomes:
    """Return the probabilities before any answer.

    Args:
        probabilities: (N, C), predicted.
        labels: (N,), index of the given label, which may be wrong; None without labels.
        ood_percentiles: (N,), fraction of in-distribution images with a lower OOD score; None without one.
    """
    classes = np.maximum(probabilities, SMALLEST)
    classes = classes / classes.sum(1, keepdims=True)
    if labels is not None and classes.shape[1] > 1:
        classes = _with_labels(classes, labels)
    unsure = UNSURE_RATE * (1 - classes.max(1)) + BASE_UNSURE
    none = np.full(len(classes), BASE_NONE) if ood_percentiles is None else none_probabilities(ood_percentiles)
    return Outcomes(classes, none, unsure)


def none_probabilities(ood_percentiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of "none of these", (N,), from the excess of images with a high OOD score."""
    is_high = ood_percentiles > ACCEPTED
    fraction = float(is_high.mean())
    excess = max(0.0, (fraction - (1 - ACCEPTED)) / ACCEPTED)
    high = float(np.clip(excess / max(fraction, SMALLEST), *NONE_RANGE))
    return np.where(is_high, high, max(BASE_NONE, UNFLAGGED * excess))


def calibrate_outcomes(outcomes: Outcomes, images: NDArray[np.int64], answers: Sequence[int]) -> Outcomes:
    """Fit the probabilities to answers.

    Those of the classes become (1 - u) p^(1/T) + u / C; T and u are the posterior means on a grid. The probabilities of
    "none of these" and "unsure" are scaled by (observed + 0.1) / (expected + 0.1).

    Args:
        outcomes: Before any answer.
        images: (n,), indices of the images with an answer.
        answers: (n,), index of a class, `NONE` or `UNSURE`.
    """
    found = np.asarray(answers, np.int64)
    is_class = found >= 0
    temperature, uniform = _fit_classes(outcomes.classes[images[is_class]], found[is_class])
    classes = (1 - uniform) * _tempered(outcomes.classes, temperature) + uniform / outcomes.classes.shape[1]
    none, unsure = (
        np.minimum(
            column * (PRIOR_EVENTS + (found == kind).sum()) / (PRIOR_EVENTS + column[images].sum()), LARGEST_RATE
        )
        for column, kind in ((outcomes.none, NONE), (outcomes.unsure, UNSURE))
    )
    total = np.maximum(1.0, (none + unsure) / LARGEST_RATE)
    return replace(outcomes, classes=classes, none=none / total, unsure=unsure / total)


def _with_labels(classes: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the posterior of the true class: a label is right with one probability, else any other class.

    Expectation maximization estimates this probability; the predictions are the prior.
    """
    rows, others = np.arange(len(labels)), classes.shape[1] - 1
    prior, noise = classes[rows, labels], 0.05
    for _ in range(NOISE_STEPS):
        right, wrong = prior * (1 - noise), (1 - prior) * noise / others
        noise = float(np.clip(1 - (right / (right + wrong)).mean(), *NOISE_RANGE))
    posterior = classes * (noise / others)
    posterior[rows, labels] = prior * (1 - noise)
    return np.asarray(posterior / posterior.sum(1, keepdims=True))


def _fit_classes(classes: NDArray[np.float64], answers: NDArray[np.int64]) -> tuple[float, float]:
    """Return the posterior means of temperature (geometric) and uniform fraction."""
    likelihoods = np.stack(
        [
            np.log(
                (1 - UNIFORM_FRACTIONS) * _tempered(classes, float(np.exp(log)))[np.arange(len(answers)), answers, None]
                + UNIFORM_FRACTIONS / classes.shape[1]
            ).sum(0)
            for log in LOG_TEMPERATURES
        ]
    )  # (temperatures, fractions)
    logits = likelihoods - 0.5 * (LOG_TEMPERATURES[:, None] / TEMPERATURE_STD) ** 2
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    return float(np.exp(weights.sum(1) @ LOG_TEMPERATURES)), float(weights.sum(0) @ UNIFORM_FRACTIONS)


def _tempered(classes: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = classes ** (1 / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))
