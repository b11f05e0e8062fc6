"""Answers on labeled photographs to figures of merit.

Knows what accuracy, calibration and confusion are; does not know how they are drawn or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import UNDIVIDED, Dataset
from belvedere.errors import DatasetError, UnknownNameError, UsageError
from belvedere.evaluation.metrics import (
    measure_outliers,
    measure_reliability,
    measure_sets,
    measure_tags,
    selective_accuracy,
)
from belvedere.images.inputs import Source
from belvedere.images.listing import expand
from belvedere.inference.model import Model
from belvedere.inference.model_paths import refuse_models
from belvedere.inference.tags import PRESENT, is_multilabel_data, multi_hot
from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.inference.uncertainty.temperature_scaling import remove_temperature
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from belvedere.types.evaluation import ClassFigures, Confusion, Evaluation, OutlierFigures, TagFigures
from belvedere.types.prediction import Prediction


def evaluate(
    model: Model, dataset: Dataset, progress: Progress | None = None, outliers: Path | str | None = None
) -> Evaluation:
    """Measures a model on a data set's test part, else its validation part, or on all of it where it names no parts.

    Args:
        model: The model.
        dataset: Labelled photographs; their classes must be the model's.
        progress: Shows how far it is.
        outliers: Folder of pictures that show none of the classes, to measure how well they are told from the others.

    Returns:
        The figures, with the answer for every photograph.

    Raises:
        UnknownNameError: A label is no class of the model's.
        UsageError: The model can't tell what is none of its classes, or there are no pictures of such.
        DatasetError: There is nothing to measure on, or nothing of it can be read.
    """
    named = any(sample.part != UNDIVIDED for sample in dataset.samples)
    for part in ("test", "val") if named else (UNDIVIDED,):
        if samples := dataset.part(part):
            strangers = [] if outliers is None else _list_outliers(model, outliers)
            found = evaluate_samples(model, samples, progress or Progress(), part=part or "all")
            return (
                replace(found, outliers=_ask(model, found, strangers, progress or Progress())) if strangers else found
            )
    raise DatasetError(f"{dataset.source} has a training part only. Give a test part, or a folder of class folders.")


def evaluate_samples(
    model: Model,
    samples: Sequence[Sample],
    progress: Progress,
    *,
    part: str,
    known: Mapping[str, Prediction] | None = None,
) -> Evaluation:
    """Measures a model on samples, as `evaluate`.

    Args:
        model: The model.
        samples: Labelled photographs.
        progress: Shows how far it is.
        part: Says which they are.
        known: Answers of the model's by image, where it has been asked already.
    """
    known = known or {}
    for label in sorted({sample.label for sample in samples}):
        if label not in model.class_names:
            raise UnknownNameError(f"class in {model.name} for the label", label, model.class_names)
    predictions = []
    with progress.task("Evaluating", len(samples)) as task:
        asked = model.stream(sample.path for sample in samples if sample.image not in known)
        for sample in samples:
            answer = known[sample.image] if sample.image in known else next(asked)
            predictions.append(replace(answer, image=sample.image, label=sample.label))
            task.advance(1)
    trust = model.card.trust
    found = measure(predictions, model.class_names, part=part, temperature=trust.temperature)
    return replace(found, tags=_compare_tags(predictions, samples, model.class_names))


def measure(
    predictions: Sequence[Prediction], class_names: Sequence[str], *, part: str, temperature: float = 1.0
) -> Evaluation:
    """Works out the figures of merit.

    Args:
        predictions: One a photograph, each with its label; unreadable ones are counted and left out.
        class_names: The model's K classes.
        part: What was measured: "test", "val" or "all".
        temperature: The model's: where it is not 1, the figures without it are worked out as well.

    Returns:
        The figures.

    Raises:
        DatasetError: No photograph could be read.
        UnknownNameError: A label is no class of the model's.
    """
    read = [prediction for prediction in predictions if prediction.error is None]
    if not read:
        raise DatasetError(f"None of the {len(predictions)} photographs to measure on could be read.")
    index = {name: position for position, name in enumerate(class_names)}
    for prediction in read:
        if prediction.label not in index:
            raise UnknownNameError("class of the model's for the label", str(prediction.label), class_names)
    labels = np.array([index[str(prediction.label)] for prediction in read])  # (N,)
    probabilities = np.array([prediction.probabilities for prediction in read])  # (N, K)
    answers = probabilities.argmax(1)  # (N,)
    confusion = np.zeros((len(class_names), len(class_names)), np.intp)  # (K, K): labels by answers
    np.add.at(confusion, (labels, answers), 1)
    per_class = _per_class(confusion, class_names)
    right, reliability = answers == labels, measure_reliability(labels, probabilities)
    before = remove_temperature(probabilities, temperature)
    inside = np.array([[name in answer.prediction_set for name in class_names] for answer in read])  # (N, K)
    return Evaluation(
        class_names=tuple(class_names),
        images=len(read),
        unreadable=len(predictions) - len(read),
        accuracy=float(right.mean()),
        macro_f1=float(np.mean([row.f1 for row in per_class if row.images and row.f1 is not None])),
        log_loss=reliability.log_loss,
        ece=reliability.ece,
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        confused_pairs=_confused_pairs(confusion, class_names),
        calibration=reliability.bins,
        predictions=tuple(predictions),
        part=part,
        uncalibrated=measure_reliability(labels, before) if temperature != 1 else None,
        abstaining=selective_accuracy(probabilities.max(1), right),
        none_of_these=_count_none(read),
        sets=measure_sets(inside, labels, COVERAGE) if inside.any(1).all() else None,
    )


def _count_none(predictions: Sequence[Prediction]) -> int | None:
    flags = [prediction.none_of_these for prediction in predictions if prediction.none_of_these is not None]
    return sum(flags) if flags else None


def _compare_tags(
    predictions: Sequence[Prediction], samples: Sequence[Sample], class_names: Sequence[str]
) -> TagFigures | None:
    """Measures tags, where the photographs have all their labels and the model has told what is in all of them."""
    pairs = [pair for pair in zip(predictions, samples, strict=True) if pair[0].error is None]
    present = multi_hot([sample for _, sample in pairs], class_names)
    if not is_multilabel_data(present) or not all(answer.tag_probabilities for answer, _ in pairs):
        return None
    index = {name: place for place, name in enumerate(class_names)}
    size = (len(pairs), len(index))
    shares, areas = np.zeros(size), np.zeros(size)
    for row, (answer, sample) in enumerate(pairs):
        for tag in answer.tags:
            shares[row, index[tag.name]] = tag.share
        if answer.none_of_these or not sample.areas:
            areas[row] = np.nan  # one side tells no shares
        for name, area in zip((sample.label, *sample.also), sample.areas, strict=bool(sample.areas)):
            if name in index:
                areas[row, index[name]] = area
    confidence = np.array([answer.tag_probabilities for answer, _ in pairs])  # (N, K)
    tagged = confidence >= PRESENT  # those of "none of these" count too, as its likeliest class does
    tagged[range(len(pairs)), [index[str(answer.predicted_label)] for answer, _ in pairs]] = True
    return measure_tags(tagged, confidence, shares, present, areas)


def _list_outliers(model: Model, folder: Path | str) -> list[Path | str]:
    if not model.card.trust.outlier_quantiles:
        raise UsageError(f"{model.name} can't tell what is none of its classes: leave out the outliers.")
    if not (pictures := list(expand(refuse_models([folder])))):
        raise UsageError(f"There are no pictures in {folder}. Give a folder with some that show none of the classes.")
    return pictures


def _ask(model: Model, found: Evaluation, pictures: Sequence[Source], progress: Progress) -> OutlierFigures:
    """Asks about pictures of none of the classes."""
    with progress.task("Evaluating outliers", len(pictures)) as task:
        answers = []
        for answer in model.stream(pictures):
            answers.append(answer)
            task.advance(1)
    inside, outside = ([each for each in group if each.error is None] for group in (found.predictions, answers))
    if not outside:
        raise UsageError(f"None of the {len(answers)} outliers can be read.")
    if unreadable := len(answers) - len(outside):
        progress.say(f"Left out: {unreadable} of {len(answers)} outliers, which can't be read.")
    scores = [[each.none_of_these_score for each in group] for group in (inside, outside)]
    limit = model.card.trust.accept_rate if model.accept_rate is None else model.accept_rate
    surest = [[each.confidence for each in group] for group in (inside, outside)]
    numbers = [np.array(each, np.float64) for each in (*scores, *surest)]
    figures = measure_outliers(numbers[0], numbers[1], numbers[2], numbers[3], limit)
    return replace(figures, unreadable=unreadable)


def most_confident_errors(evaluation: Evaluation, count: int) -> list[Prediction]:
    """Lists the wrong answers, the surest first, at most so many."""
    wrong = [
        answer for answer in evaluation.predictions if answer.error is None and answer.predicted_label != answer.label
    ]
    return sorted(wrong, key=lambda answer: -(answer.confidence or 0.0))[:count]


def to_metrics(evaluation: Evaluation) -> dict[str, object]:
    """Returns the figures as metrics.json holds them: everything but the single answers."""
    figures = asdict(replace(evaluation, predictions=()))
    del figures["predictions"]
    return {"classes": figures.pop("class_names"), **figures}


def _per_class(confusion: NDArray[np.intp], class_names: Sequence[str]) -> tuple[ClassFigures, ...]:
    right, images, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)  # (K,) each
    return tuple(
        ClassFigures(
            name,
            _share(right[k], answered[k]),
            _share(right[k], images[k]),
            _share(2 * right[k], images[k] + answered[k]),
            int(images[k]),
        )
        for k, name in enumerate(class_names)
    )


def _share(part: int, whole: int) -> float | None:
    """A share; None, not 0, of nothing."""
    return float(part / whole) if whole else None


def _confused_pairs(confusion: NDArray[np.intp], class_names: Sequence[str]) -> tuple[Confusion, ...]:
    totals = confusion.sum(1)
    pairs = [
        Confusion(class_names[i], class_names[j], int(confusion[i, j]), float(confusion[i, j] / totals[i]))
        for i, j in np.argwhere(confusion > 0)
        if i != j
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.images, pair.label, pair.predicted_label)))
