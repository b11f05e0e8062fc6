"""Figures for how far answers can be trusted: calibration, abstaining, prediction sets, tags, none of these.

Knows probabilities, scores and truth as arrays; does not know models or how figures are shown.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.types.evaluation import (
    CalibrationBin,
    OutlierFigures,
    Reliability,
    SelectivePoint,
    SetFigures,
    TagFigures,
)

Truth = NDArray[np.bool_]
Numbers = NDArray[np.float64]

CALIBRATION_BINS = 15
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
KEPT = 0.95  # of the true pictures, when outliers are counted that pass for one


def measure_reliability(labels: NDArray[np.intp], probabilities: Numbers) -> Reliability:
    """Works out log loss and calibration of probabilities, (N, K), with labels, (N,)."""
    bins = _calibration(probabilities.max(1), probabilities.argmax(1) == labels)
    ece = sum(row.images * abs(row.confidence - row.accuracy) for row in bins) / len(labels)
    # A float32 softmax can give exactly 0 for the true class, which would be an infinite loss.
    given = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).eps)
    return Reliability(float(-np.log(given).mean()), ece, bins)


def selective_accuracy(confidence: Numbers, right: Truth) -> tuple[SelectivePoint, ...]:
    """Works out how often it is right on the share of photographs that it is surest of."""
    ranked = right[np.argsort(-confidence, kind="stable")]
    counts = [max(1, round(share * len(ranked))) for share in COVERAGES]
    return tuple(
        SelectivePoint(share, count, float(ranked[:count].mean()), float(np.sort(confidence)[-count]))
        for share, count in zip(COVERAGES, counts, strict=True)
    )


def measure_sets(inside: Truth, labels: NDArray[np.intp], promised: float) -> SetFigures:
    """Works out how often sets, (N, K), hold the label, (N,), over all and for each class."""
    hit = inside[np.arange(len(labels)), labels]
    by_class = [hit[labels == place] for place in range(inside.shape[1])]
    return SetFigures(
        promised,
        float(hit.mean()),
        float(inside.sum(1).mean()),
        tuple(float(each.mean()) if len(each) else None for each in by_class),
    )


def measure_tags(chosen: Truth, confidence: Numbers, shares: Numbers, present: Truth, areas: Numbers) -> TagFigures:
    """Works out what tags are worth where all labels of a photograph are known.

    Args:
        chosen: (N, K), the tags.
        confidence: (N, K), by which photographs are ranked for each class.
        shares: (N, K), of the picture, 0 where there is no tag.
        present: (N, K), the truth.
        areas: (N, K), the true shares; rows of NaN where they are not known.
    """
    known = ~np.isnan(areas[:, 0])
    precision = [average_precision(confidence[:, place], present[:, place]) for place in range(present.shape[1])]
    told = [value for value in precision if value is not None]
    f1 = [value for place in range(present.shape[1]) if (value := _f1(chosen[:, place], present[:, place])) is not None]
    return TagFigures(
        images=len(present),
        mean_average_precision=float(np.mean(told)) if told else None,
        micro_f1=_f1(chosen, present),
        macro_f1=float(np.mean(f1)) if f1 else None,
        average_precision=tuple(precision),
        share_error=float(np.abs(shares[known] - areas[known]).mean()) if known.any() else None,
    )


def measure_outliers(
    inside: Numbers, outside: Numbers, inside_baseline: Numbers, outside_baseline: Numbers, limit: float
) -> OutlierFigures:
    """Works out how well pictures of none of the classes are told from the others.

    Args:
        inside: (N,) scores of photographs of the classes, higher for what is less like them.
        outside: (M,) scores of others.
        inside_baseline: (N,) the largest probabilities of the first.
        outside_baseline: (M,) and of the others.
        limit: The score over which the model says "none of these".
    """
    return OutlierFigures(
        images=len(outside),
        auroc=roc_auc(inside, outside),
        accepted=float((outside <= np.quantile(inside, KEPT)).mean()),
        kept_by_model=float((inside <= limit).mean()),
        accepted_by_model=float((outside <= limit).mean()),
        baseline_auroc=roc_auc(-inside_baseline, -outside_baseline),
        baseline_accepted=float((-outside_baseline <= np.quantile(-inside_baseline, KEPT)).mean()),
    )


def roc_auc(low: Numbers, high: Numbers) -> float:
    """Returns how often one of `high` is over one of `low`, ties counting half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / 2 / len(low))


def average_precision(scores: Numbers, truth: Truth) -> float | None:
    """Returns the mean precision over the ranks of what is true, ties as one rank; None where nothing is."""
    if not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    last = np.r_[np.flatnonzero(np.diff(ranked)), len(ranked) - 1]  # of each run of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


def _f1(chosen: Truth, truth: Truth) -> float | None:
    total = int(chosen.sum() + truth.sum())
    return 2 * int((chosen & truth).sum()) / total if total else None


def _calibration(confidence: Numbers, right: Truth) -> tuple[CalibrationBin, ...]:
    """Equal bins over the confidence, as Guo et al., On Calibration of Modern Neural Networks (2017)."""
    edges: Sequence[float] = np.linspace(0, 1, CALIBRATION_BINS + 1).tolist()
    inside = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, CALIBRATION_BINS - 1)
    rows = []
    for k in range(CALIBRATION_BINS):
        chosen = inside == k
        count = int(chosen.sum())
        mean = (float(confidence[chosen].mean()), float(right[chosen].mean())) if count else (0.0, 0.0)
        rows.append(CalibrationBin(edges[k], edges[k + 1], count, *mean))
    return tuple(rows)
