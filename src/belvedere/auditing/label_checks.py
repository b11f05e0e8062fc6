"""Checks of labels and outliers, by networks that were not trained on the images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from belvedere.auditing.duplicates.groups import NEAR_DUPLICATE
from belvedere.auditing.image_checks import FLAGGED, LISTED
from belvedere.auditing.image_statistics import ImageStatistics
from belvedere.auditing.label_issues import LABEL_ISSUE, find_label_issues, merge_extra_labels
from belvedere.auditing.out_of_fold import (
    LabelIssueMethod,
    OutOfFoldPredictions,
    Rows,
    check_model,
    out_of_fold_predictions,
)
from belvedere.auditing.outliers import OUTLIER, find_outliers
from belvedere.data.dataset import Dataset
from belvedere.data.groups import assign_groups, connect_equal
from belvedere.data.hashing import HashedSamples
from belvedere.data.splits import stratified_group_folds
from belvedere.errors import MissingDependencyError
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.audit import AuditNetwork, DuplicateGroup, Issue
from belvedere.types.data import DataWarning, Sample

MIN_IMAGES = 20


@dataclass(frozen=True)
class LabelCheckResult:
    """Issues of labels, and outliers."""

    issues: tuple[Issue, ...] = ()
    method: str = ""  # source of the predictions; empty where labels were not checked
    warnings: tuple[DataWarning, ...] = ()
    network: AuditNetwork | None = None


@dataclass(frozen=True)
class FoldedImages:
    """The images whose labels can be checked."""

    contents: HashedSamples
    folds: Rows
    class_names: tuple[str, ...]
    warnings: tuple[DataWarning, ...]  # about the other images


def check_labels(
    dataset: Dataset,
    statistics: Sequence[ImageStatistics],
    groups: Sequence[DuplicateGroup],
    method: LabelIssueMethod,
    seed: int,
    progress: Progress,
    group_by: str | None = None,
) -> LabelCheckResult:
    """Find label issues and outliers; the seed is for the folds and the training runs.

    Duplicates, and images of a group, share a fold.

    Raises:
        UsageError: The model was trained on these images.
        DatasetError: Files changed while networks were trained on them.
    """
    everything = HashedSamples(dataset.samples, tuple(each.sha256 for each in statistics))
    contents = everything.select(row for row, each in enumerate(statistics) if each.readable)
    description = method.description
    if method.model is not None:
        description = f"{description}, {check_model(method.model, contents, dataset.class_names)}"
    contents, warnings = assign_groups(contents, dataset, group_by, progress)
    images = assign_folds(contents, dataset.class_names, groups, seed)
    warnings += images.warnings
    if len(images.class_names) < 2 or len(images.contents.samples) < MIN_IMAGES:
        return LabelCheckResult(
            warnings=(DataWarning("Labels were not checked: too few images of two or more classes"),)
        )
    reduced = replace(dataset, class_names=images.class_names)
    try:
        predictions = out_of_fold_predictions(reduced, images.contents, images.folds, method, seed, progress)
    except MissingDependencyError as error:
        warning = DataWarning(f"Labels were not checked. {error}, or set `model`.")
        return LabelCheckResult(warnings=(warning, *warnings))
    samples = [images.contents.samples[row] for row in predictions.rows.tolist()]
    issues = (*_label_issues(samples, predictions, images.class_names), *_outliers(samples, predictions))
    warnings += _changed_files_warning(images.contents, predictions.rows)
    return LabelCheckResult(issues, description, tuple(warnings), method.network())


def _label_issues(
    samples: Sequence[Sample], predictions: OutOfFoldPredictions, class_names: Sequence[str]
) -> Iterator[Issue]:
    index = {name: k for k, name in enumerate(class_names)}
    labels = np.array([index[sample.label] for sample in samples], np.int64)
    extra_labels = [[index[name] for name in sample.extra_labels if name in index] for sample in samples]
    probabilities = merge_extra_labels(predictions.probabilities, labels, extra_labels)
    found = find_label_issues(probabilities, labels)
    for row, sample in enumerate(samples):
        suggestion, suggested_probability = class_names[found.suggestions[row]], float(found.probabilities[row])
        label_probability = float(probabilities[row, labels[row]])
        labels_text = "|".join((sample.label, *sample.extra_labels))
        yield Issue(
            sample.name,
            LABEL_ISSUE,
            round(float(found.scores[row]), 6),
            bool(found.flagged[row]),
            f"suggested: {suggestion} ({suggested_probability:.1%}) instead of {labels_text} ({label_probability:.1%})",
            label=sample.label,
            suggested_label=suggestion,
            suggested_probability=round(suggested_probability, 4),
            label_probability=round(label_probability, 4),
        )


def _outliers(samples: Sequence[Sample], predictions: OutOfFoldPredictions) -> Iterator[Issue]:
    outliers = find_outliers(predictions.similarity)
    for sample, score, similarity in zip(samples, outliers.scores.tolist(), outliers.similarity.tolist(), strict=True):
        if score >= LISTED:
            message = f"similarity {similarity:.2f}, median {outliers.median_similarity:.2f}"
            yield Issue(sample.name, OUTLIER, round(score, 4), score >= FLAGGED, message, label=sample.label)


def _changed_files_warning(contents: HashedSamples, rows: Rows) -> tuple[DataWarning, ...]:
    missing = sorted(set(range(len(contents.samples))).difference(rows.tolist()))
    names = tuple(contents.samples[row].name for row in missing)
    warning = DataWarning(f"{count(len(names), 'label')} not checked: file changed during the audit", names)
    return (warning,) if names else ()


def assign_folds(
    contents: HashedSamples, class_names: Sequence[str], groups: Sequence[DuplicateGroup], seed: int
) -> FoldedImages:
    """Draw folds in which duplicates and groups share one, and leave out classes whose images are all in one fold."""
    labels = np.array([class_names.index(sample.label) for sample in contents.samples], np.int64)
    folds = stratified_group_folds(labels, _group_names(contents, groups), seed)
    num_folds = Counter(label for label, _ in set(zip(labels.tolist(), folds.tolist(), strict=True)))
    names = tuple(name for index, name in enumerate(class_names) if num_folds[index] > 1)
    rows = [row for row, sample in enumerate(contents.samples) if sample.label in names]
    others = tuple(sample.name for sample in contents.samples if sample.label not in names)
    warning = DataWarning(f"{count(len(others), 'label')} not checked: too few different images in the class", others)
    _, renumbered = np.unique(folds[rows], return_inverse=True)
    return FoldedImages(contents.select(rows), renumbered.astype(np.intp), names, (warning,) if others else ())


def _group_names(contents: HashedSamples, groups: Sequence[DuplicateGroup]) -> list[int]:
    """Return a number for each image that it shares with its exact and near duplicates and the images of its group."""
    numbers: dict[str, int] = {}
    for group in sorted(groups, key=lambda group: group.kind == NEAR_DUPLICATE):  # the widest group last
        numbers |= dict.fromkeys(group.images, group.number)
    samples = contents.samples
    return connect_equal([numbers.get(sample.name) for sample in samples], [sample.group for sample in samples])
