"""Metrics of predictions on labeled images."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import DatasetError, UnknownNameError
from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.inference.uncertainty.temperature_scaling import remove_temperature
from belvedere.types.evaluation import (
    ClassMetrics,
    Confusion,
    Evaluation,
    OODMetrics,
    PredictionSetMetrics,
    Reliability,
    ReliabilityBin,
    SelectivePoint,
    TagMetrics,
)
from belvedere.types.prediction import Prediction

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CALIBRATION_BINS = 15
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
TPR = 0.95  # in-distribution images accepted, for the false positive rate


def compute_metrics(
    predictions: Sequence[Prediction], class_names: Sequence[str], *, split: str, temperature: float = 1.0
) -> Evaluation:
    """Return all metrics that need predictions only.

    Args:
        predictions: Predictions with labels; unreadable images are counted and ignored.
        class_names: The K classes of the model.
        split: "test", "val" or "all".
        temperature: Temperature of the model, to report calibration without it; 1 for none.

    Raises:
        DatasetError: No image could be read.
        UnknownNameError: A label is not a class of the model.
    """
    readable = [prediction for prediction in predictions if prediction.error is None]
    if not readable:
        raise DatasetError(f"None of the {len(predictions)} images to evaluate could be read. Give another `data`.")
    check_labels((str(prediction.label) for prediction in readable), class_names)
    index = {name: k for k, name in enumerate(class_names)}
    labels = np.array([index[str(prediction.label)] for prediction in readable])  # (N,)
    probabilities = np.array([prediction.probability_values for prediction in readable])  # (N, K)
    predicted = probabilities.argmax(1)  # (N,)
    matrix = np.zeros((len(class_names), len(class_names)), np.intp)
    np.add.at(matrix, (labels, predicted), 1)
    per_class = _per_class(matrix, class_names)
    correct, calibration = predicted == labels, reliability(labels, probabilities)
    uncalibrated = remove_temperature(probabilities, temperature)
    in_set = np.array([[name in prediction.prediction_set for name in class_names] for prediction in readable])
    flags = [prediction.none_of_these for prediction in predictions if prediction.none_of_these is not None]
    return Evaluation(
        class_names=tuple(class_names),
        num_images=len(readable),
        num_unreadable=len(predictions) - len(readable),
        accuracy=float(correct.mean()),
        macro_f1=float(np.mean([row.f1 for row in per_class if row.f1 is not None])),
        log_loss=calibration.log_loss,
        ece=calibration.ece,
        per_class=per_class,
        confusion_matrix=matrix.astype(np.int64),
        confusions=_confusions(matrix, class_names),
        reliability_bins=calibration.bins,
        predictions=tuple(predictions),
        uncalibrated=None if temperature == 1 else reliability(labels, uncalibrated),
        split=split,
        selective_accuracy=selective_accuracy(probabilities.max(1), correct),
        num_none_of_these=sum(flags) if flags else None,
        prediction_sets=prediction_set_metrics(in_set, labels, COVERAGE) if in_set.any(1).all() else None,
    )


def check_labels(labels: Iterable[str], class_names: Sequence[str], model: str = "the model") -> None:
    """Raise UnknownNameError for the first label, in alphabetical order, that is no class of the model."""
    for label in sorted(set(labels).difference(class_names)):
        raise UnknownNameError(f"class in {model} for the label", label, class_names)


def most_confident_errors(evaluation: Evaluation, count: int) -> list[Prediction]:
    """Return up to `count` wrong predictions, highest confidence first."""
    wrong = [each for each in evaluation.predictions if each.error is None and each.predicted_label != each.label]
    return sorted(wrong, key=lambda prediction: -(prediction.confidence or 0.0))[:count]


def reliability(labels: Indices, probabilities: Floats) -> Reliability:
    """Return log loss and calibration of probabilities, (N, K), for labels, (N,)."""
    bins = _reliability_bins(probabilities.max(1), probabilities.argmax(1) == labels)
    ece = sum(row.count * abs(row.confidence - row.accuracy) for row in bins) / len(labels)
    # A float32 softmax can give exactly 0 for the true class, which would be an infinite loss.
    of_label = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).eps)
    return Reliability(float(-np.log(of_label).mean()), ece, bins)


def selective_accuracy(confidence: Floats, correct: Bools) -> tuple[SelectivePoint, ...]:
    """Return the accuracy on the most confident fractions of the images."""
    ranked = correct[np.argsort(-confidence, kind="stable")]
    counts = [max(1, round(coverage * len(ranked))) for coverage in COVERAGES]
    return tuple(
        SelectivePoint(coverage, count, float(ranked[:count].mean()), float(np.sort(confidence)[-count]))
        for coverage, count in zip(COVERAGES, counts, strict=True)
    )


def prediction_set_metrics(in_set: Bools, labels: Indices, target_coverage: float) -> PredictionSetMetrics:
    """Return coverage and size of prediction sets, (N, K), for labels, (N,)."""
    covered = in_set[np.arange(len(labels)), labels]
    by_class = [covered[labels == k] for k in range(in_set.shape[1])]
    return PredictionSetMetrics(
        target_coverage,
        float(covered.mean()),
        float(in_set.sum(1).mean()),
        tuple(float(each.mean()) if len(each) else None for each in by_class),
    )


def tag_metrics(tagged: Bools, probabilities: Floats, areas: Floats, present: Bools, true_areas: Floats) -> TagMetrics:
    """Return multi-label metrics.

    Args:
        tagged: (N, K), predicted tags.
        probabilities: (N, K), tag probabilities.
        areas: (N, K), predicted area fractions, 0 without a tag.
        present: (N, K), true labels.
        true_areas: (N, K), true area fractions; rows of NaN where they are unknown.
    """
    known = ~np.isnan(true_areas[:, 0])
    classes = range(present.shape[1])
    precision = [average_precision(probabilities[:, k], present[:, k]) for k in classes]
    defined = [value for value in precision if value is not None]
    f1 = [value for k in classes if (value := _f1(tagged[:, k], present[:, k])) is not None]
    return TagMetrics(
        num_images=len(present),
        mean_average_precision=float(np.mean(defined)) if defined else None,
        micro_f1=_f1(tagged, present),
        macro_f1=float(np.mean(f1)) if f1 else None,
        average_precision=tuple(precision),
        area_mae=float(np.abs(areas[known] - true_areas[known]).mean()) if known.any() else None,
    )


def ood_metrics(
    id_scores: Floats, ood_scores: Floats, id_confidence: Floats, ood_confidence: Floats, threshold: float
) -> OODMetrics:
    """Return out-of-distribution detection metrics.

    Args:
        id_scores: (N,), OOD scores of in-distribution images.
        ood_scores: (M,), OOD scores of out-of-distribution images.
        id_confidence: (N,), maximum softmax probabilities of the first.
        ood_confidence: (M,), maximum softmax probabilities of the others.
        threshold: Score above which the model predicts "none of these".
    """
    return OODMetrics(
        num_images=len(ood_scores),
        auroc=roc_auc(id_scores, ood_scores),
        fpr_at_95_tpr=float((ood_scores <= np.quantile(id_scores, TPR)).mean()),
        id_acceptance_rate=float((id_scores <= threshold).mean()),
        ood_acceptance_rate=float((ood_scores <= threshold).mean()),
        msp_auroc=roc_auc(-id_confidence, -ood_confidence),
        msp_fpr_at_95_tpr=float((-ood_confidence <= np.quantile(-id_confidence, TPR)).mean()),
    )


def roc_auc(negatives: Floats, positives: Floats) -> float:
    """Return the probability that a positive scores above a negative, ties counting half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.mean() / 2 / len(negatives))


def average_precision(scores: Floats, present: Bools) -> float | None:
    """Return the average precision, ties as one rank; None without positives."""
    if not present.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(present[order])
    last = np.r_[np.flatnonzero(np.diff(ranked)), len(ranked) - 1]  # of each run of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


def _f1(predicted: Bools, present: Bools) -> float | None:
    total = int(predicted.sum() + present.sum())
    return 2 * int((predicted & present).sum()) / total if total else None


def _reliability_bins(confidence: Floats, correct: Bools) -> tuple[ReliabilityBin, ...]:
    """Return equal-width bins (Guo et al. 2017, On Calibration of Modern Neural Networks)."""
    edges: Sequence[float] = np.linspace(0, 1, CALIBRATION_BINS + 1).tolist()
    bin_of = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, CALIBRATION_BINS - 1)
    rows = []
    for k in range(CALIBRATION_BINS):
        chosen = bin_of == k
        count = int(chosen.sum())
        means = (float(confidence[chosen].mean()), float(correct[chosen].mean())) if count else (0.0, 0.0)
        rows.append(ReliabilityBin(edges[k], edges[k + 1], count, *means))
    return tuple(rows)


def _per_class(matrix: Indices, class_names: Sequence[str]) -> tuple[ClassMetrics, ...]:
    correct, support, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)  # (K,) each
    return tuple(
        ClassMetrics(
            name,
            _ratio(correct[k], predicted[k]),
            _ratio(correct[k], support[k]),
            _ratio(2 * correct[k], support[k] + predicted[k]),
            int(support[k]),
        )
        if support[k]
        else ClassMetrics(name, None, None, None, 0)  # any precision would be 0, which says nothing about the class
        for k, name in enumerate(class_names)
    )


def _ratio(numerator: int, denominator: int) -> float | None:
    return float(numerator / denominator) if denominator else None


def _confusions(matrix: Indices, class_names: Sequence[str]) -> tuple[Confusion, ...]:
    totals = matrix.sum(1)
    pairs = [
        Confusion(class_names[i], class_names[j], int(matrix[i, j]), float(matrix[i, j] / totals[i]))
        for i, j in np.argwhere(matrix > 0)
        if i != j
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, pair.label, pair.predicted_label)))
