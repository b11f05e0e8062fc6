"""What a graph says of pictures, put into words: classes, tags, sets and "none of these".

Knows a model's card and its graph's outputs; does not know how the graph is run or a picture read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.tags import area_fractions, choose_tags, tag_confidences
from belvedere.inference.uncertainty.conformal import choose_sets
from belvedere.inference.uncertainty.ood import to_percentile
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction, Tag


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the graph says of N pictures."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    embedding: NDArray[np.float32]  # (N, D)
    evidence: NDArray[np.float32] | None = None  # (N, K, h, w); None where not asked for, or of an older version
    outlier_score: NDArray[np.float32] | None = None  # (N,); the same


def to_predictions(
    outputs: Outputs,
    card: ModelCard,
    names: Sequence[str],
    notes: Sequence[tuple[str, ...]],
    accept_rate: float | None = None,
) -> list[Prediction]:
    """Makes answers of a graph's outputs.

    Args:
        outputs: Of N pictures.
        card: The model's.
        names: N, of the pictures.
        notes: N, what was decided in reading each.
        accept_rate: Share of true pictures that are not called "none of these", instead of the model's.

    Returns:
        N answers; what the model can't tell is empty in them.
    """
    best = outputs.probabilities.argmax(1)
    rows = zip(
        names,
        notes,
        best.tolist(),
        outputs.probabilities.tolist(),
        *_name_tags(outputs, card, best),
        _name_sets(outputs, card),
        _rank_outliers(outputs, card),
        strict=True,
    )
    limit = card.trust.accept_rate if accept_rate is None else accept_rate
    return [
        Prediction(
            name,
            card.class_names[place],
            probabilities[place],
            tuple(probabilities),
            notes=note,
            tags=() if is_none else tags,
            tag_probabilities=tag_probabilities,
            prediction_set=names_in_set,
            none_of_these=is_none,
            none_of_these_score=score,
        )
        for name, note, place, probabilities, tags, tag_probabilities, names_in_set, score in rows
        for is_none in (None if score is None else score > limit,)
    ]


def _name_tags(
    outputs: Outputs, card: ModelCard, best: NDArray[np.intp]
) -> tuple[Sequence[tuple[Tag, ...]], Sequence[tuple[float, ...]]]:
    """The tags of each picture, and how sure it is that each class is there."""
    rule, evidence = card.trust.tags, outputs.evidence
    if rule is None or evidence is None:
        return [()] * len(best), [()] * len(best)
    confidences = tag_confidences(rule, evidence)
    shares = area_fractions(evidence, card.trust.temperature)
    return choose_tags(confidences, shares, best, card.class_names), [tuple(row) for row in confidences.tolist()]


def _name_sets(outputs: Outputs, card: ModelCard) -> Sequence[tuple[str, ...]]:
    if card.trust.set_mass is None:
        return [()] * len(outputs.probabilities)
    chosen = choose_sets(outputs.probabilities, card.trust.set_mass)
    order = np.argsort(-outputs.probabilities, 1, kind="stable")
    return [
        tuple(card.class_names[place] for place in ranked if inside[place])
        for ranked, inside in zip(order, chosen, strict=True)
    ]


def _rank_outliers(outputs: Outputs, card: ModelCard) -> Sequence[float | None]:
    if not card.trust.outlier_quantiles or outputs.outlier_score is None:
        return [None] * len(outputs.probabilities)
    ranks: list[float | None] = to_percentile(outputs.outlier_score, card.trust.outlier_quantiles).tolist()
    return ranks
