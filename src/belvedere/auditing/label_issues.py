"""Labels that are probably wrong, by what networks that had not seen the photographs say of them.

Knows probabilities and labels; does not know where they are from.

The order is by the probability of the label; where one mistake is far more frequent in a set than others, such as
glaciers called mountains, it weighs more. Flags go by class-wise thresholds, as confident learning does (Northcutt,
Jiang, Chuang 2021, https://doi.org/10.1613/jair.1.12125): by what the pictures that are labeled with a class have on
average. A label is flagged when it has less than a tenth of that; when its probability is far likelier among pictures
that are labeled otherwise, as networks that learnt from few pictures are never that sure; and, of a frequent mistake,
when another class has its average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.class_checks import DEVIATION

WRONG_LABEL = "label_issue"
UNLIKELY = 0.1  # of what is usual for the given class: a label that is less likely is flagged
STRANGE = 100.0  # times likelier among pictures labeled otherwise than among its own: a label that is flagged too
LEAST_PROBABILITY, LEAST_DEVIATION = 1e-6, 0.3  # that count; the latter of log-odds
SURE_SHARE, SURE_LEAST, SURE_MOST_SHARE = 0.1, 200, 1 / 3  # of each class, the pictures that networks are surest of
BELIEVED = 50  # pictures that a mistake must be counted among, to weigh otherwise than the same the other way round
DEVIATIONS, LEAST = 4.0, 3  # standard deviations, and pictures, by which a frequent mistake exceeds what is usual
MOST = 50.0  # times that a mistake weighs, at most

Floats = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Doubts:
    """What is known of N labels."""

    scores: NDArray[np.float64]  # (N,) 0 to 1; 1: surely wrong
    flagged: NDArray[np.bool_]  # (N,) whether it is wrong by the class-wise thresholds
    suggestions: Labels  # (N,) the likeliest class but the given one
    probabilities: NDArray[np.float64]  # (N,) of the suggestion, by the networks
    weights: NDArray[np.float64]  # (K, K) row what is true, column the label: how much a mistake weighs, 1 as a rule


def find_label_issues(probabilities: Floats, labels: Labels) -> Doubts:
    """Says how doubtful each label is.

    Args:
        probabilities: (N, K), each row by a network that had not seen the picture.
        labels: (N,), 0 to K - 1.

    Returns:
        Scores, flags and suggestions.
    """
    rows = np.arange(len(labels))
    thresholds = find_thresholds(probabilities, labels)
    weights = confusion_weights(probabilities, labels)
    unlikely = probabilities[rows, labels] < UNLIKELY * thresholds[labels]
    counted = confident_class(probabilities, thresholds)
    frequent = (counted >= 0) & (counted != labels) & (weights[counted, labels] > 1)
    flagged = (unlikely | frequent | find_unusual_images(probabilities, labels)) & (probabilities.argmax(1) != labels)
    evidence = probabilities.astype(np.float64) * weights[:, labels].T  # (N, K): for each class to be the true one
    given = evidence[rows, labels]
    scores = 1 - given / evidence.sum(1)
    others = evidence.copy()
    others[rows, labels] = -1
    suggestions = others.argmax(1).astype(np.int64)
    suggested = probabilities[rows, suggestions].astype(np.float64)
    return Doubts(scores, flagged, suggestions, suggested, weights)


def merge_extra_labels(probabilities: Floats, labels: Labels, further: Sequence[Sequence[int]]) -> Floats:
    """Counts what else a picture is labeled with as its label: the networks may say either.

    Args:
        probabilities: (N, K).
        labels: (N,).
        further: N lists of the other classes that each is labeled with.

    Returns:
        (N, K): each label has the probability of all that its picture is labeled with, the others of them have none.
    """
    joined = probabilities.copy()
    for row, (label, classes) in enumerate(zip(labels.tolist(), further, strict=True)):
        others = [each for each in classes if each != label]
        if others:
            joined[row, label] += joined[row, others].sum()
            joined[row, others] = 0
    return joined


def find_thresholds(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Mean probability of each class among the pictures that are labeled so, (K,); 2 where there are none."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=given, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), 2.0)


def find_unusual_images(probabilities: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Says whose label's probability is one that pictures labeled otherwise have, rather than those labeled so, (N,).

    Networks that have learnt from a few dozen pictures are never so sure that a share of what is usual would tell; but
    the two kinds may be well apart. The log-odds of each kind count as normal, by median and median absolute deviation.
    """
    bounded = np.clip(probabilities.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    odds, strange = np.log(bounded / (1 - bounded)), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own, others = odds[labels == label, label], odds[labels != label, label]
        if len(others):
            own_or_usual = np.maximum(own, np.median(others))  # to be even less likely says nothing against the others
            ratio = _log_density(own_or_usual, others) - _log_density(own_or_usual, own)
            strange[labels == label] = ratio > np.log(STRANGE)
    return strange


def _log_density(values: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of values in a normal distribution like that of others, but for a constant."""
    middle = np.median(like)
    deviation = max(DEVIATION * float(np.median(np.abs(like - middle))), LEAST_DEVIATION)
    density: NDArray[np.float64] = -0.5 * ((values - middle) / deviation) ** 2 - np.log(deviation)
    return density


def confident_class(probabilities: Floats, thresholds: NDArray[np.float64]) -> Labels:
    """Returns what each picture counts as, (N,): the likeliest class of those it reaches; -1 where it reaches none."""
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), -1).astype(np.int64)


def confusion_weights(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Says how much more frequent than others each mistake is, (K, K): row what is true, column the label.

    Only the pictures of each class that networks are surest of are counted: there, classes that look alike are told
    apart, and the confusion that is left is in the labels. Mistakes weigh alike, 1, but those between two classes that
    are more frequent than chance explains.
    """
    counts = _count_among_surest(probabilities, labels)
    totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    wrong = ~np.eye(len(counts), dtype=bool)
    pairs, pair_totals = counts + counts.T, totals + totals.T
    expected = pair_totals * (counts[wrong].sum() / max(totals[wrong].sum(), 1.0))
    frequent = wrong & (pairs > expected + DEVIATIONS * np.sqrt(expected) + LEAST)
    rare = wrong & ~frequent
    usual = (counts[rare].sum() + 1) / (totals[rare].sum() + 1)  # share of one of the others
    flip_tta = pairs / np.maximum(pair_totals, 1)
    one_way = (counts + BELIEVED * flip_tta) / (totals + BELIEVED)
    return np.where(frequent, np.clip(one_way / usual, 1, MOST), 1.0)


def _count_among_surest(probabilities: Floats, labels: Labels) -> NDArray[np.float64]:
    """Labels, columns, of the pictures that are surely of a class, rows: (K, K)."""
    classes = probabilities.shape[1]
    counts = np.zeros((classes, classes))
    best = probabilities.argmax(1)
    for true in range(classes):
        own = probabilities[:, true]
        if (labels == true).any():
            size = np.count_nonzero(labels == true)
            share = min(max(SURE_SHARE, SURE_LEAST / size), SURE_MOST_SHARE)
            sure = (best == true) & (own >= np.quantile(own[labels == true], 1 - share))
            counts[true] = np.bincount(labels[sure], minlength=classes)
    return counts
