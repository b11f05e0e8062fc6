"""Audit of a labeled dataset."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from belvedere.auditing.checks import priority
from belvedere.auditing.class_checks import check_classes
from belvedere.auditing.duplicates.groups import group_duplicates, list_issues, unique_images
from belvedere.auditing.duplicates.near import find_near_duplicates
from belvedere.auditing.image_checks import FLAGGED, IMAGE_CHECKS, LISTED, dataset_medians
from belvedere.auditing.image_statistics import THUMBNAIL_SIZE, ImageStatistics, read_statistics
from belvedere.auditing.label_checks import LabelCheckResult, check_labels
from belvedere.auditing.out_of_fold import LabelIssueMethod, choose_method
from belvedere.auditing.output import NETWORK, write_audit
from belvedere.data.array_cache import CachedArray
from belvedere.data.dataset import Dataset, as_dataset
from belvedere.inference.model import Model
from belvedere.runtime.dependencies import require
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress
from belvedere.types.audit import Audit, DuplicateGroup, Issue
from belvedere.types.data import Sample


def audit(
    data: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    label_issues: bool = True,
    near_duplicates: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    spreadsheet: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Find unreadable and odd images, duplicates, split leaks, outliers and label issues.

    Label issues are found by networks that were not trained on the image: linear probes on the embeddings of `model`
    or of a pretrained network, or else small networks, each trained on four fifths of the images.

    Args:
        data: Labeled images: a dataset, or a folder or table as for `load_dataset`.
        out: Folder for issues.csv, audit.json and report.html; default: nothing is written.
        model: Model, model.onnx or run folder that was not trained on these images; default: none.
        network: Name of a pretrained timm network; default: none.
        weights: File with its weights; default: downloaded.
        label_issues: Whether to find label issues and outliers.
        near_duplicates: Whether to find near duplicates, besides identical files and pixels.
        seed: Seed for the folds and the training runs.
        overwrite: Whether to replace an older results folder.
        spreadsheet: Whether to escape cells of issues.csv that a spreadsheet would run as formulas.
        progress: Progress display; default: none.

    Raises:
        UsageError: The model was trained on these images, or both `model` and `network` are given.
        OutputExistsError: `out` exists and may not be replaced.
        MissingDependencyError: The packages of an extra are not installed: `report` for `out`, `train` for `network`.
        BelvedereError: Images, model or weights cannot be read.
    """
    if out is not None:
        require("report", "A report")
    started, progress = time.perf_counter(), progress or Progress()
    method = choose_method(model, network, Path(weights) if weights else None, progress) if label_issues else None
    dataset = as_dataset(data)
    read = (model.name if isinstance(model, Model) else model, weights, *dataset.list_files())
    with nullcontext() if out is None else atomic_folder(Path(out), overwrite=overwrite, inputs=read) as folder:
        if method is not None and folder is not None:
            method = replace(method, network_path=folder / NETWORK)
        result = _audit(dataset, near_duplicates, method, seed, progress)
        result = replace(result, total_seconds=round(time.perf_counter() - started, 1))
        if folder is not None:
            write_audit(folder, result, dataset.samples, spreadsheet=spreadsheet)
    return result


def _audit(
    dataset: Dataset, near_duplicates: bool, method: LabelIssueMethod | None, seed: int, progress: Progress
) -> Audit:
    statistics, groups = _read_images(dataset.samples, near_duplicates, progress)
    labels = LabelCheckResult()
    if method is not None:
        labels = check_labels(dataset, statistics, groups, method, seed, progress)
    issues = [*list_issues(groups), *_check_images(dataset.samples, statistics), *labels.issues]
    hashes = {sample.name: each.sha256 for sample, each in zip(dataset.samples, statistics, strict=True)}
    issues.sort(key=lambda issue: (priority(issue.issue_type), -issue.issue_score, issue.image))
    training = [sample for sample in dataset.samples if sample.split in ("train", None)]
    return Audit(
        data=dataset.source,
        class_names=dataset.class_names,
        num_images=len(dataset.samples),
        issues=tuple(replace(issue, sha256=hashes[issue.image] or None) for issue in issues),
        groups=groups,
        class_issues=check_classes(training, dataset.class_names),
        label_issue_method=labels.method,
        warnings=dataset.warnings + labels.warnings,
        total_seconds=0.0,
        corrections=dataset.corrections,
        network=labels.network,
    )


def _read_images(
    samples: Sequence[Sample], near_duplicates: bool, progress: Progress
) -> tuple[list[ImageStatistics], tuple[DuplicateGroup, ...]]:
    """Return statistics of each image, and groups of duplicates; thumbnails are on disk meanwhile."""
    statistics: list[ImageStatistics] = []
    with tempfile.TemporaryFile(buffering=0) as file:  # unnamed: nothing is left if the process is killed
        with progress.task("Reading images", len(samples)) as task:
            for each, thumbnail in read_statistics(sample.path for sample in samples):
                file.write(thumbnail.tobytes())
                statistics.append(each)
                task.advance(1)
        unique = unique_images(statistics)
        thumbnails = CachedArray(file, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8, np.array(unique, np.int64))
        paths = [samples[index].path for index in unique]
        pairs = find_near_duplicates(paths, thumbnails, progress) if near_duplicates else []
    pairs = [replace(pair, first=unique[pair.first], second=unique[pair.second]) for pair in pairs]
    return statistics, group_duplicates(samples, statistics, pairs)


def _check_images(samples: Sequence[Sample], statistics: Sequence[ImageStatistics]) -> Iterator[Issue]:
    medians = dataset_medians(statistics)
    for sample, each in zip(samples, statistics, strict=True):
        for name, check in IMAGE_CHECKS.items():
            score = check.score(each, medians)
            if score >= LISTED:
                message = check.message(each, medians)
                yield Issue(sample.name, name, round(score, 4), score >= FLAGGED, message, label=sample.label)
