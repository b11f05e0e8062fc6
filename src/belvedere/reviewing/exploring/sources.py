"""Collects the images of a map, with what is known of each: label, split, prediction, confidence, group, issue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import UsageError
from belvedere.evaluation.run_folder import PREDICTIONS, read_predictions
from belvedere.inference.embeddings import Embedder, Embeddings, read_embeddings
from belvedere.inference.uncertainty.knn import unit_vectors
from belvedere.reviewing.exploring.audits import AuditIssues, is_audit, read_audit_issues
from belvedere.reviewing.exploring.projection import project
from belvedere.reviewing.items import ImageFinder
from belvedere.reviewing.server import CORRECTIONS_KEY, load_data, read_configured
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import NONE_OF_THESE, DataWarning, Sample
from belvedere.types.prediction import Prediction

NOT_PREDICTED = "not predicted"
MIN_IMAGES = 3  # of a map


@dataclass(frozen=True)
class ImageMap:
    """N images with positions."""

    title: str
    samples: tuple[Sample, ...]  # N
    hashes: tuple[str, ...]  # N
    positions: NDArray[np.float32]  # (N, 2), from -1 to 1
    embeddings: NDArray[np.float32]  # (N, D), of length 1
    columns: Mapping[str, tuple[str, ...]]  # name -> N values
    confidence: NDArray[np.float32]  # (N,), NaN where not predicted
    pairs: tuple[tuple[int, int], ...] | None = None  # rows of copies that an audit found; None: not audited


def is_run(source: Path) -> bool:
    """Return whether a folder is that of a run, with predictions."""
    return (source / PREDICTIONS).is_file()


def records_dataset(source: Path) -> bool:
    """Return whether a folder is that of a run or an audit, which records its dataset."""
    return is_run(source) or is_audit(source)


def title_of(source: Dataset | Path) -> str:
    """Return the folder or table of a dataset, or the folder of a run or audit."""
    return source.source if isinstance(source, Dataset) else str(source)


def read_map(
    source: Dataset | Path, data: Dataset | Path | str | None, embedder: Embedder, progress: Progress
) -> ImageMap:
    """Read the images of a dataset, or of a run or audit and its dataset, embed and project them.

    Raises:
        UsageError: There are too few images that can be read, or the dataset of an audit is not found.
        BelvedereError: The dataset, the predictions or the cache cannot be read.
    """
    predictions: dict[Path, Prediction] = {}
    issues = None
    if isinstance(source, Path) and is_audit(source):
        samples, issues = _samples_of_audit(source, data, progress), read_audit_issues(source)
    elif isinstance(source, Path) and is_run(source):
        samples = _samples_of_run(source, _load_recorded(source, data, progress), predictions, progress)
    else:
        dataset = as_dataset(source)
        progress.log_warnings(dataset.warnings)
        samples = list(dataset.samples)
    hashed = hash_samples(samples, progress)
    embeddings = read_embeddings(hashed, embedder, progress)
    unreadable = (*hashed.unreadable, *embeddings.unreadable)
    if unreadable:
        names = tuple(f"{sample.name}: {reason}" for sample, reason in unreadable)
        progress.log_warnings([DataWarning(f"{count(len(names), 'image')} not on the map: cannot be read", names)])
    if len(embeddings.samples) < MIN_IMAGES:
        found = f"{title_of(source)} has {len(embeddings.samples)}"
        raise UsageError(f"A map needs {MIN_IMAGES} images that can be read. {found}.")
    return _to_map(title_of(source), embeddings, predictions, issues, progress)


def _load_recorded(source: Path, data: Dataset | Path | str | None, progress: Progress) -> Dataset | None:
    """Load the dataset of a run or audit, with its corrections if they are still there."""
    recorded = read_configured(source, CORRECTIONS_KEY)
    corrections = None if recorded is None else Path(recorded)
    if corrections is not None and not corrections.is_file() and not isinstance(data, Dataset):
        message = f"Missing corrections file of {source}: {corrections}. Put it back: the labels are without it"
        progress.log_warnings([DataWarning(message)])
        corrections = None
    return load_data(source, data, corrections, progress)


def _samples_of_audit(source: Path, data: Dataset | Path | str | None, progress: Progress) -> list[Sample]:
    """Return the images of the dataset."""
    dataset = _load_recorded(source, data, progress)
    if dataset is None:
        raise UsageError(f"The dataset of the audit {source} cannot be read. Give it as `data`.")
    return list(dataset.samples)


def _samples_of_run(
    source: Path, dataset: Dataset | None, predictions: dict[Path, Prediction], progress: Progress
) -> list[Sample]:
    """Return the images of the dataset, and those that were predicted; add the predictions by absolute path."""
    finder = ImageFinder(source, dataset)
    samples = {} if dataset is None else {sample.path.absolute(): sample for sample in dataset.samples}
    for prediction in read_predictions(source).predictions:
        if prediction.error is None and (sample := finder.find(prediction.image, str(prediction.label))) is not None:
            path = sample.path.absolute()
            predictions[path] = prediction
            samples.setdefault(path, sample)
    if finder.missing:
        message = f"{count(len(finder.missing), 'predicted image')} not found. Give the dataset as `data`"
        progress.log_warnings([DataWarning(message, tuple(sorted(finder.missing)))])
    return list(samples.values())


def _to_map(
    title: str,
    embeddings: Embeddings,
    predictions: Mapping[Path, Prediction],
    issues: AuditIssues | None,
    progress: Progress,
) -> ImageMap:
    known = [predictions.get(sample.path.absolute()) for sample in embeddings.samples]
    values = unit_vectors(embeddings.values)
    contents = HashedSamples(embeddings.samples, embeddings.hashes)
    return ImageMap(
        title=title,
        samples=embeddings.samples,
        hashes=embeddings.hashes,
        positions=project(values, contents.hashes, progress),
        embeddings=values,
        columns=_columns(embeddings, known, issues),
        confidence=np.array([np.nan if each is None else each.confidence for each in known], np.float32),
        pairs=None if issues is None else issues.list_pairs(embeddings.samples, embeddings.hashes),
    )


def _columns(
    embeddings: Embeddings, known: Sequence[Prediction | None], issues: AuditIssues | None
) -> dict[str, tuple[str, ...]]:
    """Return what images can be colored by; columns with one value are left out, but for the label."""
    samples = embeddings.samples
    columns = {
        "label": tuple(sample.label for sample in samples),
        "prediction": tuple(NOT_PREDICTED if each is None else str(each.predicted_label) for each in known),
        "correct": tuple(
            NOT_PREDICTED if each is None else "correct" if each.predicted_label == sample.label else "wrong"
            for each, sample in zip(known, samples, strict=True)
        ),
        NONE_OF_THESE: tuple(
            NOT_PREDICTED if each is None else NONE_OF_THESE if each.none_of_these else "one of the classes"
            for each in known
        ),
        "issue": () if issues is None else issues.list_issue_types(samples, embeddings.hashes),
        "split": tuple(sample.split or "none" for sample in samples),
        "group": tuple(sample.group or "none" for sample in samples),
    }
    return {name: values for name, values in columns.items() if name == "label" or len(set(values)) > 1}


def select_rows(images: ImageMap, image: Path | str | None, cell: str | None) -> list[int]:
    """Return the rows of an image, or of a cell of the confusion matrix, given as LABEL,PREDICTION.

    Raises:
        UsageError: No image of the map is meant.
    """
    if cell is not None:
        label, _, predicted = cell.partition(",")
        pairs = zip(images.columns["label"], images.columns.get("prediction", ()), strict=False)
        if not (rows := [row for row, pair in enumerate(pairs) if pair == (label, predicted)]):
            raise UsageError(
                f"No image with this label and prediction: {cell!r}. Give LABEL,PREDICTION, and a run with predictions."
            )
        return rows
    wanted = None if image is None else Path(image).absolute()
    return [row for row, sample in enumerate(images.samples) if sample.path.absolute() == wanted]
