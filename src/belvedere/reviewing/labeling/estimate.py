"""Estimates of the accuracy of the probe on the pool, and of what more labels would give.

The accuracy comes from random images only, predicted by probes that were not fitted to them. The confidence of the
probe on all images of the pool makes the interval narrower (prediction-powered inference: Angelopoulos et al. 2023),
unless images of no class are among the random ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.splits import stratified_group_folds
from belvedere.evaluation.intervals import wilson_interval
from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, softmax
from belvedere.reviewing.labeling.probe import Features, Floats, Labels, Probe, Rows, fit_probe

MIN_SAMPLE = 10  # random images, for an estimate
MIN_LABELS = 40  # for a forecast
NUM_FOLDS = 10  # of the cross-validation for the accuracy
FRACTIONS = (0.4, 0.6, 0.8, 1.0)  # of the labels of the other folds, for the curve
CURVE_FOLDS, REPEATS = 5, 2  # of the cross-validation for the curve
MORE_LABELS = 50  # of the forecast
STOP_GAIN = 0.005  # of the accuracy by `MORE_LABELS`; below it, labeling can stop
MAX_EXPONENT = 1.0  # of the power law
PRIOR_SAMPLE = 20  # random images that it takes to trust the confidence half
MAX_EFFECTIVE = 1.5  # factor of the sample size by the confidence


@dataclass(frozen=True)
class Accuracy:
    """Estimated fraction of the images of the pool, those of no class excluded, that the probe predicts correctly."""

    value: float
    low: float  # of the 95 % interval
    high: float
    sample_size: int  # random images


@dataclass(frozen=True)
class Forecast:
    """What more labels would give."""

    more_labels: int
    gain: float  # of the accuracy

    @property
    def can_stop(self) -> bool:
        """Whether more labels would hardly help."""
        return self.gain < STOP_GAIN


@dataclass(frozen=True)
class OutOfFoldLogits:
    """Labeled images, predicted by probes that were not fitted to them."""

    rows: Rows  # (n,)
    logits: Floats  # (n, K)
    labels: Labels  # (n,)

    def recalls(self) -> dict[int, float]:
        """Return the fraction of the labeled images of each class that is predicted correctly."""
        is_correct = self.logits.argmax(1) == self.labels
        return {int(each): float(is_correct[self.labels == each].mean()) for each in np.unique(self.labels)}


def predict_out_of_fold(
    features: Features, labels: Labels, num_classes: int, before_fit: Callable[[], object] = lambda: None
) -> OutOfFoldLogits | None:
    """Cross-validate probes on the labeled images.

    Args:
        features: Of the N images.
        labels: (N,) classes; negative: none.
        num_classes: K.
        before_fit: Called before each fit.

    Returns:
        The predictions; None for fewer than two classes, or as many labels as folds.
    """
    rows = np.flatnonzero(labels >= 0)
    own = labels[rows]
    if len(rows) <= NUM_FOLDS or len(np.unique(own)) < 2:
        return None
    folds = stratified_group_folds(own, range(len(own)), 0, NUM_FOLDS)
    logits = np.empty((len(rows), num_classes), np.float32)
    for fold in np.unique(folds):
        before_fit()
        part, others = rows[folds == fold], folds != fold
        logits[folds == fold] = fit_probe(features, rows[others], own[others], num_classes).logits(
            features.values[part]
        )
    return OutOfFoldLogits(rows, logits, own)


def estimate_accuracy(
    features: Features, out_of_fold: OutOfFoldLogits, sample: Rows, probe: Probe, no_class: Rows | Sequence[int] = ()
) -> Accuracy | None:
    """Estimate the accuracy of a probe on all images of the pool.

    Args:
        features: Of the N images.
        out_of_fold: Predictions for the labeled ones.
        sample: Labeled images that are a random sample of the pool.
        probe: Fitted to all labels.
        no_class: Images labeled as of no class.

    Returns:
        The estimate; None for too few random images.
    """
    chosen = np.isin(out_of_fold.rows, sample)
    if chosen.sum() < MIN_SAMPLE:
        return None
    is_correct = (out_of_fold.logits.argmax(1) == out_of_fold.labels).astype(float)
    if chosen.sum() < len(sample):  # the pool has images of no class, and it is not known which: confidence misleads
        return _plain(is_correct[chosen])
    temperature = np.float32(fit_temperature(out_of_fold.logits, out_of_fold.labels))
    confidence = softmax(probe.logits(features.values) / temperature).max(1)
    confidence[out_of_fold.rows] = softmax(out_of_fold.logits / temperature).max(1)
    mean = float(np.delete(confidence, no_class).mean())
    return _prediction_powered(is_correct[chosen], confidence[out_of_fold.rows[chosen]], mean)


def forecast(
    features: Features,
    labels: Labels,
    accuracy: Accuracy,
    num_classes: int,
    seed: int,
    before_fit: Callable[[], object] = lambda: None,
) -> Forecast | None:
    """Estimate the gain by more labels: the error falls as a power of their number.

    The exponent comes from cross-validation with fractions of the labels, the level from the accuracy.

    Returns:
        The forecast; None for too few labels.
    """
    rows = np.flatnonzero(labels >= 0)
    if len(rows) < MIN_LABELS or len(np.unique(labels[rows])) < 2:
        return None
    random = np.random.default_rng(seed)
    errors = np.zeros(len(FRACTIONS))
    for _ in range(REPEATS):
        folds = stratified_group_folds(labels[rows], range(len(rows)), random, CURVE_FOLDS)
        shuffled = random.permutation(len(rows))
        for fold in range(CURVE_FOLDS):
            others, own = shuffled[folds[shuffled] != fold], rows[folds == fold]
            for index, fraction in enumerate(FRACTIONS):
                before_fit()
                part = rows[others[: max(num_classes, int(fraction * len(others)))]]
                probe = fit_probe(features, part, labels[part], num_classes)
                errors[index] += (probe.logits(features.values[own]).argmax(1) != labels[own]).sum()
    rates = (errors + 1) / (REPEATS * len(rows) + 1)
    exponent = -float(np.polyfit(np.log(FRACTIONS), np.log(rates), 1)[0])
    exponent = min(max(exponent, 0.0), MAX_EXPONENT)
    error = 1 - accuracy.value
    return Forecast(MORE_LABELS, error * (1 - (1 + MORE_LABELS / len(rows)) ** -exponent))


def _plain(is_correct: NDArray[np.float64]) -> Accuracy:
    """Estimate a mean from a random sample."""
    value, n = float(is_correct.mean()), len(is_correct)
    return Accuracy(value, *wilson_interval(value, n), n)


def _prediction_powered(is_correct: NDArray[np.float64], confidence: Floats, mean_confidence: float) -> Accuracy:
    """Estimate a mean from a random sample, and from a prediction of each value that is known for the whole pool."""
    n = len(is_correct)
    spread = confidence - confidence.mean()
    slope = float((spread * is_correct).sum() / max(float((spread**2).sum()), 1e-9))
    slope = min(max(slope, 0.0), 1.0) * n / (n + PRIOR_SAMPLE)
    value = float(is_correct.mean()) + slope * (mean_confidence - float(confidence.mean()))
    plain, rest = float(is_correct.var()), float((is_correct - slope * confidence).var())
    rest *= n / (n - 2)  # mean and slope are fitted
    effective = n * min(max(plain / max(rest, 1e-9), 1.0), MAX_EFFECTIVE)
    low, high = wilson_interval(min(max(value, 0.0), 1.0), effective)
    return Accuracy(min(max(value, 0.0), 1.0), low, high, n)
