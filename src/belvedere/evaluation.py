"""Answers on labelled photographs to figures of merit.

Knows what accuracy, calibration and confusion are; does not know how they are drawn or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from belvedere.dataset import UNDIVIDED, Dataset
from belvedere.errors import DatasetError, UnknownName
from belvedere.model import Model
from belvedere.progress import Progress
from belvedere.records import CalibrationBin, ClassFigures, Confusion, Evaluation, Prediction, Reliability, Sample
from belvedere.trust import undo_temperature

CALIBRATION_BINS = 15


def evaluate(model: Model, dataset: Dataset, progress: Progress | None = None) -> Evaluation:
    """Measures a model on a data set's test part, else its validation part, or on all of it where it names no parts.

    Args:
        model: The model.
        dataset: Labelled photographs; their classes must be the model's.
        progress: Shows how far it is.

    Returns:
        The figures, with the answer for every photograph.

    Raises:
        UnknownName: A label is no class of the model's.
        DatasetError: There is nothing to measure on, or nothing of it can be read.
    """
    named = any(sample.part != UNDIVIDED for sample in dataset.samples)
    for part in ("test", "val") if named else (UNDIVIDED,):
        if samples := dataset.part(part):
            return evaluate_samples(model, samples, progress or Progress(), part=part or "all")
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
            raise UnknownName(f"class in {model.name} for the label", label, model.class_names)
    predictions = []
    with progress.task("Evaluating", len(samples)) as task:
        asked = model.stream(sample.path for sample in samples if sample.image not in known)
        for sample in samples:
            answer = known[sample.image] if sample.image in known else next(asked)
            predictions.append(replace(answer, image=sample.image, label=sample.label))
            task.advance(1)
    return measure(predictions, model.class_names, part=part, temperature=model.card.trust.temperature)


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
        UnknownName: A label is no class of the model's.
    """
    read = [prediction for prediction in predictions if prediction.error is None]
    if not read:
        raise DatasetError(f"None of the {len(predictions)} photographs to measure on could be read.")
    index = {name: position for position, name in enumerate(class_names)}
    for prediction in read:
        if prediction.label not in index:
            raise UnknownName("class of the model's for the label", str(prediction.label), class_names)
    labels = np.array([index[str(prediction.label)] for prediction in read])  # (N,)
    probabilities = np.array([prediction.probabilities for prediction in read])  # (N, K)
    answers = probabilities.argmax(1)  # (N,)
    confusion = np.zeros((len(class_names), len(class_names)), np.intp)  # (K, K): labels by answers
    np.add.at(confusion, (labels, answers), 1)
    per_class = _per_class(confusion, class_names)
    right, reliability = answers == labels, _reliability(labels, probabilities)
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
        uncalibrated=_reliability(labels, undo_temperature(probabilities, temperature)) if temperature != 1 else None,
    )


def surest_mistakes(evaluation: Evaluation, count: int) -> list[Prediction]:
    """Lists the wrong answers, the surest first, at most so many."""
    wrong = [answer for answer in evaluation.predictions if answer.error is None and answer.prediction != answer.label]
    return sorted(wrong, key=lambda answer: -(answer.confidence or 0.0))[:count]


def to_metrics(evaluation: Evaluation) -> dict[str, object]:
    """Returns the figures as metrics.json holds them: everything but the single answers."""
    figures = asdict(replace(evaluation, predictions=()))
    del figures["predictions"]
    return {"classes": figures.pop("class_names"), **figures}


def _reliability(labels: NDArray[np.intp], probabilities: NDArray[np.float64]) -> Reliability:
    bins = _calibration(probabilities.max(1), probabilities.argmax(1) == labels)
    ece = sum(row.images * abs(row.confidence - row.accuracy) for row in bins) / len(labels)
    return Reliability(_log_loss(labels, probabilities), ece, bins)


def _log_loss(labels: NDArray[np.intp], probabilities: NDArray[np.float64]) -> float:
    # A float32 softmax can give exactly 0 for the true class, which would be an infinite loss.
    given = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, np.finfo(np.float32).eps)).mean())


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
    return tuple(sorted(pairs, key=lambda pair: (-pair.images, pair.label, pair.prediction)))


def _calibration(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    """Equal bins over the confidence, as Guo et al., On Calibration of Modern Neural Networks (2017)."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    inside = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, CALIBRATION_BINS - 1)
    rows = []
    for k in range(CALIBRATION_BINS):
        chosen = inside == k
        count = int(chosen.sum())
        mean = (float(confidence[chosen].mean()), float(right[chosen].mean())) if count else (0.0, 0.0)
        rows.append(CalibrationBin(float(edges[k]), float(edges[k + 1]), count, *mean))
    return tuple(rows)
