"""Reads the images of an assessment, with their labels if they have some, and what the models predict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.hashing import hash_samples
from belvedere.errors import DatasetError, UsageError
from belvedere.evaluation.assessment.population import (
    Population,
    join_class_names,
    make_population,
    read_model_predictions,
)
from belvedere.evaluation.evaluate import evaluation_split
from belvedere.images.listing import SkippedFiles, iter_images
from belvedere.inference.model import Model
from belvedere.inference.model_paths import refuse_models
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample
from belvedere.types.prediction import Prediction

MIN_IMAGES = 2


@dataclass(frozen=True)
class AssessmentData:
    """N readable images, with what is known of them before any answer."""

    source: str
    samples: tuple[Sample, ...]  # N
    hashes: tuple[str, ...]  # N, SHA-256 in hexadecimal
    population: Population
    has_labels: bool
    warnings: tuple[DataWarning, ...]


def read_images(
    models: Sequence[Model], data: Dataset | Path | str, seed: int, progress: Progress, *, unlabeled: bool
) -> AssessmentData:
    """Read and predict the images.

    Args:
        models: One model, or two to compare.
        data: Labeled images as for `evaluate`, of which the same split is used; or a folder of images.
        seed: Seed of the sample.
        progress: Progress display.
        unlabeled: Whether `data` is a folder of images without labels.

    Raises:
        UsageError: There are fewer than two readable images.
        DatasetError: The dataset cannot be read.
    """
    samples, warnings = _list_unlabeled(data) if unlabeled else _list_labeled(data, progress)
    hashed = hash_samples(samples, progress)
    predictions = [_predict(model, hashed.samples, progress) for model in models]
    readable = [row for row in range(len(hashed.samples)) if all(each[row].error is None for each in predictions)]
    reasons = {each.name: reason for each, reason in hashed.unreadable}
    reasons |= {each.image: str(each.error) for run in predictions for each in run if each.error is not None}
    if reasons:
        names = tuple(f"{name}: {reason}" for name, reason in reasons.items())
        warnings += (DataWarning(f"{count(len(names), 'image')} left out: cannot be read", names),)
    if len(readable) < MIN_IMAGES:
        raise UsageError(f"{count(len(readable), 'readable image')} in {_name(data)}. Give a folder with more.")
    kept = hashed.select(readable)
    labels = None if unlabeled else [sample.label for sample in kept.samples]
    class_names = join_class_names([model.class_names for model in models], labels)
    found = [
        read_model_predictions([run[row] for row in readable], class_names, model.identity, _target_coverage(model))
        for model, run in zip(models, predictions, strict=True)
    ]
    population = make_population(found, class_names, labels, kept.hashes, seed)
    warnings += _unknown_label_warning(models[0], labels)
    return AssessmentData(_name(data), kept.samples, kept.hashes, population, not unlabeled, warnings)


def _name(data: Dataset | Path | str) -> str:
    return data.source if isinstance(data, Dataset) else str(data)


def _list_labeled(data: Dataset | Path | str, progress: Progress) -> tuple[tuple[Sample, ...], tuple[DataWarning, ...]]:
    try:
        dataset = as_dataset(data, progress=progress)
    except DatasetError as error:
        raise DatasetError(f"{error} For images without labels, set `unlabeled`.") from error
    return evaluation_split(dataset)[0], dataset.warnings


def _list_unlabeled(data: Dataset | Path | str) -> tuple[tuple[Sample, ...], tuple[DataWarning, ...]]:
    if isinstance(data, Dataset):
        raise UsageError("A Dataset has labels. Leave `unlabeled` out, or give a folder of images.")
    skipped = SkippedFiles()
    paths = list(_paths(Path(data), skipped))
    warnings = (DataWarning(f"Skipped {skipped}"),) if skipped else ()
    return tuple(Sample(path, str(path), "", None) for path in paths), warnings


def _paths(folder: Path, skipped: SkippedFiles) -> Iterator[Path]:
    for source in iter_images(refuse_models([folder]), skipped):
        if isinstance(source, Path | str):
            yield Path(source)


def _predict(model: Model, samples: Sequence[Sample], progress: Progress) -> list[Prediction]:
    progress.log(f"Model: {model.identity}")
    predictions = []
    with progress.task("Predicting", len(samples)) as task:
        for prediction in model.predict_sources(sample.path for sample in samples):
            predictions.append(prediction)
            task.advance(1)
    return predictions


def _target_coverage(model: Model) -> float | None:
    """Return the coverage of the prediction sets; None where the model has none."""
    uncertainty = model.card.uncertainty
    return None if uncertainty.conformal_threshold is None else uncertainty.target_coverage


def _unknown_label_warning(model: Model, labels: Sequence[str] | None) -> tuple[DataWarning, ...]:
    unknown = sorted(set(labels or ()) - set(model.class_names))
    if not unknown:
        return ()
    return (DataWarning(f"Labels that are no class of {model.name}: {', '.join(unknown)}"),)
