"""Model outputs to predictions: class, tags, prediction set, "none of these"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.tags import area_fractions, choose_tags, tag_confidences
from belvedere.inference.uncertainty.conformal import prediction_sets
from belvedere.inference.uncertainty.ood import to_percentile
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Prediction, Tag


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """Outputs of the graph for N images; optional ones are None if the model lacks them or they were not computed."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    embedding: NDArray[np.float32]  # (N, D)
    class_activation_maps: NDArray[np.float32] | None = None  # (N, K, h, w)
    ood_score: NDArray[np.float32] | None = None  # (N,)


def to_predictions(
    outputs: ModelOutputs,
    card: ModelCard,
    names: Sequence[str],
    warnings: Sequence[tuple[str, ...]],
    accept_rate: float | None = None,
) -> list[Prediction]:
    """Convert model outputs for N images to N predictions.

    Args:
        outputs: Outputs for the images.
        card: Card of the model.
        names: N names.
        warnings: N tuples of warnings from reading the images.
        accept_rate: Fraction of in-distribution images that are not "none of these"; default: the card's.
    """
    predicted = outputs.probabilities.argmax(1)
    rows = zip(
        names,
        warnings,
        predicted.tolist(),
        outputs.probabilities.tolist(),
        *_tags(outputs, card, predicted),
        _prediction_sets(outputs, card),
        _ood_scores(outputs, card),
        strict=True,
    )
    threshold = card.uncertainty.ood_acceptance if accept_rate is None else accept_rate
    return [
        Prediction(
            name,
            card.class_names[k],
            probabilities[k],
            tuple(probabilities),
            warnings=warning,
            tags=() if none_of_these else tags,
            tag_probability_values=tag_probabilities,
            prediction_set=prediction_set,
            none_of_these=none_of_these,
            none_of_these_score=score,
            class_names=card.class_names,
        )
        for name, warning, k, probabilities, tags, tag_probabilities, prediction_set, score in rows
        for none_of_these in (None if score is None else score > threshold,)
    ]


def _tags(
    outputs: ModelOutputs, card: ModelCard, predicted: NDArray[np.intp]
) -> tuple[Sequence[tuple[Tag, ...]], Sequence[tuple[float, ...]]]:
    """Return the tags of each image, and the probability of each class being present."""
    model, maps = card.uncertainty.tag_model, outputs.class_activation_maps
    if model is None or maps is None:
        return [()] * len(predicted), [()] * len(predicted)
    confidences = tag_confidences(model, maps)
    fractions = area_fractions(maps, card.uncertainty.temperature)
    tags = choose_tags(confidences, fractions, predicted, card.class_names)
    return tags, [tuple(row) for row in confidences.tolist()]


def _prediction_sets(outputs: ModelOutputs, card: ModelCard) -> Sequence[tuple[str, ...]]:
    if card.uncertainty.conformal_threshold is None:
        return [()] * len(outputs.probabilities)
    chosen = prediction_sets(outputs.probabilities, card.uncertainty.conformal_threshold)
    order = np.argsort(-outputs.probabilities, 1, kind="stable")
    return [
        tuple(card.class_names[k] for k in ranked if in_set[k]) for ranked, in_set in zip(order, chosen, strict=True)
    ]


def _ood_scores(outputs: ModelOutputs, card: ModelCard) -> Sequence[float | None]:
    if not card.uncertainty.ood_score_quantiles or outputs.ood_score is None:
        return [None] * len(outputs.probabilities)
    scores: list[float | None] = to_percentile(outputs.ood_score, card.uncertainty.ood_score_quantiles).tolist()
    return scores
