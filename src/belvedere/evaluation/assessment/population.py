"""The images of an assessment: predictions, labels, and the order in which they are drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.assessment.outcomes import Outcomes, expect_outcomes
from belvedere.evaluation.assessment.sampling import (
    draw_order,
    draw_probabilities,
    inclusion_probabilities,
    random_numbers,
)
from belvedere.types.data import ModelId
from belvedere.types.prediction import Prediction

SMOOTHING = 0.02  # of the probabilities that choose images: nothing is certain before an answer


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of one model for N images, with the indices of C classes."""

    model: ModelId
    probabilities: NDArray[np.float64]  # (N, C)
    predicted: NDArray[np.int64]  # (N,)
    confidence: NDArray[np.float64]  # (N,)
    in_set: NDArray[np.bool_] | None  # (N, C), classes of the prediction set
    is_none: NDArray[np.bool_] | None  # (N,), whether the answer is "none of these"
    ood_percentiles: NDArray[np.float64] | None  # (N,)
    target_coverage: float | None = None


@dataclass(frozen=True)
class Population:
    """N images, their predictions, and the order in which they are drawn."""

    class_names: tuple[str, ...]  # C: of the models, then further ones of the labels
    models: tuple[ModelPredictions, ...]  # one, or two that are compared
    labels: NDArray[np.int64] | None  # (N,), as given
    outcomes: Outcomes  # before any answer
    draws: NDArray[np.float64]  # (N,), probability in one draw
    order: NDArray[np.int64]  # (N,), indices as drawn

    def inclusion(self, num_drawn: int) -> NDArray[np.float64]:
        """Return the inclusion probability of each image, (N,), in a sample of the first `num_drawn`."""
        return inclusion_probabilities(self.draws, num_drawn)


def make_population(
    models: Sequence[ModelPredictions],
    class_names: Sequence[str],
    labels: Sequence[str] | None,
    hashes: Sequence[str],
    seed: int,
) -> Population:
    """Return the images in the order in which they are drawn.

    Args:
        models: One model, or two whose difference is estimated as well.
        class_names: C classes, in the order of the predictions.
        labels: N given labels; None without.
        hashes: N hashes of the files, SHA-256 in hexadecimal.
        seed: Seed of the sample.
    """
    index = {name: k for k, name in enumerate(class_names)}
    given = None if labels is None else np.array([index[name] for name in labels])
    percentiles = next((each.ood_percentiles for each in models if each.ood_percentiles is not None), None)
    mean = np.asarray(np.mean([each.probabilities for each in models], axis=0))
    outcomes = expect_outcomes(mean, given, percentiles)
    draws = draw_probabilities(_variances(outcomes, models, given))
    order = draw_order(random_numbers(hashes, seed), draws)
    return Population(tuple(class_names), tuple(models), given, outcomes, draws, order)


def read_model_predictions(
    predictions: Sequence[Prediction],
    class_names: Sequence[str],
    model: ModelId,
    target_coverage: float | None,
) -> ModelPredictions:
    """Convert predictions of one model, all of readable images; classes that it lacks have the probability 0."""
    index = {name: k for k, name in enumerate(class_names)}
    columns = [index[name] for name in predictions[0].class_names]
    probabilities = np.zeros((len(predictions), len(class_names)))
    probabilities[:, columns] = [each.probability_values for each in predictions]
    in_set = np.zeros(probabilities.shape, bool)
    for row, each in enumerate(predictions):
        in_set[row, [index[name] for name in each.prediction_set]] = True
    has_ood = all(each.none_of_these is not None and each.none_of_these_score is not None for each in predictions)
    return ModelPredictions(
        model=model,
        probabilities=probabilities,
        predicted=np.array([index[str(each.predicted_label)] for each in predictions]),
        confidence=np.array([each.confidence for each in predictions], np.float64),
        in_set=in_set if target_coverage is not None else None,
        is_none=np.array([each.none_of_these for each in predictions]) if has_ood else None,
        ood_percentiles=np.array([each.none_of_these_score for each in predictions], np.float64) if has_ood else None,
        target_coverage=target_coverage,
    )


def join_class_names(models: Sequence[Sequence[str]], labels: Sequence[str] | None) -> tuple[str, ...]:
    """Return the classes of all models, then those of the labels."""
    names: Mapping[str, None] = dict.fromkeys(name for model in models for name in model)
    return (*names, *sorted(set(labels or ()) - set(names)))


def _variances(
    outcomes: Outcomes, models: Sequence[ModelPredictions], labels: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return the mean variance, (N,), of everything to estimate: correct predictions, wrong labels, their difference.

    Rare images of no class count where a model has an OOD score.
    """
    num_classes = outcomes.classes.shape[1]
    classes = (1 - SMOOTHING) * outcomes.classes + SMOOTHING / num_classes
    smooth = Outcomes(classes, np.zeros(len(classes)), np.zeros(len(classes)))
    correct = [smooth.of_class(each.predicted) for each in models]
    rates = [*correct, *([] if labels is None else [smooth.of_class(labels)])]
    variances = [rate * (1 - rate) for rate in rates]
    if any(each.is_none is not None for each in models):
        variances.append(outcomes.none * (1 - outcomes.none))
    if len(models) > 1:
        differs = models[0].predicted != models[1].predicted
        variances.append(differs * (correct[0] + correct[1] - (correct[1] - correct[0]) ** 2))
    return np.asarray(np.mean(variances, axis=0))
