"""Weak slices of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.intervals import wilson_interval
from belvedere.evaluation.weak_slices.attributes import ImageAttributes
from belvedere.evaluation.weak_slices.candidates import attribute_families, cluster_family
from belvedere.evaluation.weak_slices.describe import describe
from belvedere.evaluation.weak_slices.search import TestedSlice, find_weakest
from belvedere.types.evaluation import WeakSlice
from belvedere.types.prediction import Prediction

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

# Probabilities of reporting a slice where there is none, together 5%.
ATTRIBUTE_SIGNIFICANCE, CLUSTER_SIGNIFICANCE = 0.04, 0.01
MARGIN = 0.05  # by which the accuracy of a slice must be lower
MIN_DATA = 100  # images; fewer cannot show a weak slice
MAX_SLICES = 4
CONFIDENCE_GROUPS = 10  # of images with about the same confidence, within which clusters are compared


def find_weak_slices(
    predictions: Sequence[Prediction], attributes: Mapping[str, ImageAttributes], seed: int = 0
) -> tuple[WeakSlice, ...]:
    """Return the slices in which the accuracy is significantly lower than elsewhere, the most significant first.

    Slices by attributes are compared with other images of the same labels, clusters of embeddings with images of the
    same confidence: the model is less certain between classes, which the confidence shows.

    Args:
        predictions: Predictions with labels.
        attributes: Attributes of the images, by name; images without any are left out.
        seed: Seed of the permutations and clusters.
    """
    known = [each for each in predictions if each.error is None and each.image in attributes]
    rows = _with_folders([attributes[each.image] for each in known], known)
    found: list[WeakSlice] = []
    while len(known) >= MIN_DATA and len(found) < MAX_SLICES:
        correct = np.array([each.predicted_label == each.label for each in known])
        tested = _find_one(known, rows, correct, seed)
        if tested is None:
            break
        found.append(_to_slice(tested, known, correct))
        kept = np.flatnonzero(~tested.members)
        known, rows = [known[i] for i in kept], [rows[i] for i in kept]
    return tuple(found)


def _find_one(
    predictions: Sequence[Prediction], rows: Sequence[ImageAttributes], correct: Bools, seed: int
) -> TestedSlice | None:
    """Return the weakest slice of the images that are in none yet, by an attribute if possible."""
    found = find_weakest(attribute_families(rows), correct, _labels(predictions), MARGIN, seed)
    if found is not None and found.p_value <= ATTRIBUTE_SIGNIFICANCE:
        return found
    embeddings = [row.embedding for row in rows if row.embedding is not None]
    if len(embeddings) < len(rows):
        return None
    family = cluster_family(np.stack(embeddings), seed)
    found = find_weakest([family], correct, _confidence_groups(predictions), MARGIN, seed)
    return found if found is not None and found.p_value <= CLUSTER_SIGNIFICANCE else None


def _with_folders(rows: Sequence[ImageAttributes], predictions: Sequence[Prediction]) -> list[ImageAttributes]:
    """Add the folder of each image, without the parts that name its class and those that all images share."""
    folders = [[part for part in Path(each.image).parts[:-1] if part != each.label] for each in predictions]
    columns = zip(*folders, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return [
        replace(row, categories=row.categories | {"folder": "/".join(parts[shared:])})
        for row, parts in zip(rows, folders, strict=True)
    ]


def _labels(predictions: Sequence[Prediction]) -> Indices:
    return np.unique([str(each.label) for each in predictions], return_inverse=True)[1]


def _confidence_groups(predictions: Sequence[Prediction]) -> Indices:
    """Return numbers of groups of equal size, by confidence."""
    confidence = np.array([each.confidence or 0.0 for each in predictions])
    ranks = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    return np.asarray(ranks * CONFIDENCE_GROUPS // len(ranks))


def _to_slice(tested: TestedSlice, predictions: Sequence[Prediction], correct: Bools) -> WeakSlice:
    candidate, inside = tested.candidate, tested.members
    num_images, num_correct = int(inside.sum()), int((correct & inside).sum())
    members = [each for each, is_member in zip(predictions, inside, strict=True) if is_member]
    members.sort(key=lambda each: (each.predicted_label == each.label, -(each.confidence or 0.0)))
    low, high = wilson_interval(num_correct / num_images, num_images)
    return WeakSlice(
        description=describe(candidate),
        attribute=candidate.attribute,
        num_images=num_images,
        accuracy=num_correct / num_images,
        ci_low=low,
        ci_high=high,
        accuracy_elsewhere=_accuracy_elsewhere(correct, inside, tested.strata),
        p_value=tested.p_value,
        images=tuple(each.image for each in members),
    )


def _accuracy_elsewhere(correct: Bools, inside: Bools, strata: Indices) -> float:
    """Return the accuracy outside a slice, with the strata as frequent as inside it."""
    rates, weights = [], []
    for stratum in np.unique(strata[inside]):
        others = correct[(strata == stratum) & ~inside]
        if len(others):
            rates.append(others.mean())
            weights.append(int((inside & (strata == stratum)).sum()))
    return float(np.average(rates, weights=weights))
