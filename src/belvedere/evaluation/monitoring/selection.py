"""Selection of images: those least like the training images, and those to label first."""

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.monitoring.result import ChosenImage
from belvedere.evaluation.monitoring.samples import Sampled
from belvedere.inference.uncertainty.knn import unit_vectors

NUM_TO_LABEL = 30
NUM_UNUSUAL = 24
CANDIDATES_PER_IMAGE = 10  # from which diverse ones are chosen


def most_unusual(new: Sampled) -> tuple[ChosenImage, ...]:
    """Return the images with the highest score of "none of these", highest first; none without a score or files."""
    if new.none_of_these_score is None or not new.images:
        return ()
    order = np.argsort(-new.none_of_these_score, kind="stable")[:NUM_UNUSUAL]
    return tuple(_describe(new, index, "unusual") for index in order)


def choose_to_label(new: Sampled, number: int = NUM_TO_LABEL) -> tuple[ChosenImage, ...]:
    """Return images that are worth a label: uncertain or unusual, and diverse.

    Candidates are those of the highest rank by margin, the difference between the two highest probabilities, or by the
    score of "none of these". From these, each next one is the farthest from those chosen (farthest-first traversal),
    weighted with its rank. There are none without files.
    """
    if not new.images or new.embeddings is None:
        return ()
    two = np.sort(new.probabilities, 1)[:, -2:]  # (N, 2)
    uncertain = _ranks(two[:, 0] - two[:, 1])
    unusual = np.zeros(len(new)) if new.none_of_these_score is None else _ranks(new.none_of_these_score)
    priority = np.maximum(uncertain, unusual)
    candidates = np.argsort(-priority, kind="stable")[: number * CANDIDATES_PER_IMAGE]
    unit = unit_vectors(new.embeddings[candidates].astype(np.float64))
    chosen, distance = [0], 1 - unit @ unit[0]
    while len(chosen) < min(number, len(candidates)):
        weighted = np.maximum(distance, 0) * priority[candidates]
        weighted[chosen] = -1
        chosen.append(int(weighted.argmax()))
        distance = np.minimum(distance, 1 - unit @ unit[chosen[-1]])
    return tuple(
        _describe(new, index, "unusual" if unusual[index] > uncertain[index] else "uncertain")
        for index in candidates[chosen]
    )


def _describe(new: Sampled, index: np.intp, reason: str) -> ChosenImage:
    scores = new.none_of_these_score
    return ChosenImage(
        new.images[index],
        new.class_names[int(new.probabilities[index].argmax())],
        float(new.confidence[index]),
        None if scores is None else float(scores[index]),
        reason,
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value, (N,), from 0 for the lowest to 1."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)
