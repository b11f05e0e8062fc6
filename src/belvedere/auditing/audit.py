"""Audit of a labeled dataset."""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from belvedere.auditing.checks import priorities, summarize
from belvedere.auditing.class_checks import check_classes
from belvedere.auditing.duplicates.groups import NEAR_DUPLICATE, group_duplicates, list_issues, unique_images
from belvedere.auditing.image_checks import FLAGGED, IMAGE_CHECKS, LISTED, ImageCheck, dataset_medians
from belvedere.auditing.image_statistics import ImageStatistics, read_statistics
from belvedere.auditing.label_checks import LabelCheckResult, check_labels
from belvedere.auditing.out_of_fold import LabelIssueMethod, choose_method
from belvedere.auditing.output import NETWORK, write_audit
from belvedere.auditing.register import RegisteredCheck, pixel_functions, registered_checks
from belvedere.data.array_cache import CachedArray
from belvedere.data.dataset import Dataset, as_dataset, renamed_paths
from belvedere.data.groups import check_group_by, group_column, is_common_layout
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE
from belvedere.data.near_duplicates.search import find_near_duplicates
from belvedere.errors import UsageError
from belvedere.inference.model import Model
from belvedere.runtime.blas import single_blas_thread
from belvedere.runtime.dependencies import require
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.types.audit import Audit, DuplicateGroup, Issue
from belvedere.types.data import DataWarning, Sample


def audit(
    data: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    label_issues: bool = True,
    near_duplicates: bool = True,
    group_by: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    spreadsheet: bool = False,
    progress: Progress | bool | None = None,
) -> Audit:
    """Find unreadable and odd images, duplicates, split leaks, outliers and label issues.

    Args:
        data: Labeled images: a dataset, or a folder or table as for `load_dataset`.
        out: Folder for issues.csv, audit.json and report.html; default: nothing is written.
        model: Model, model.onnx or run folder that was not trained on these images, for linear probes; default: none.
        network: Name of a pretrained timm network, likewise; default: small ones, each trained on four fifths.
        weights: File with its weights; default: downloaded.
        label_issues: Whether to find outliers, and label issues by networks that were not trained on the image.
        near_duplicates: Whether to find near duplicates, besides identical files and pixels.
        group_by: Groups of images that share a fold when labels are checked, as in `train`.
        seed: Seed for the folds and the training runs.
        overwrite: Whether to replace an older results folder.
        spreadsheet: Whether to escape cells of issues.csv that a spreadsheet would run as formulas.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        Issues of images and classes, groups of duplicates, and warnings.

    Raises:
        UsageError: The model was trained on these images, or arguments exclude each other.
        OutputExistsError: `out` exists and may not be replaced.
        MissingDependencyError: The packages of an extra are not installed: `report` for `out`, `train` for `network`.
        BelvedereError: Images, model or weights cannot be read.
    """
    if out is not None:
        require("report", "A report")
    if group_by is not None and not label_issues:
        raise UsageError("`group_by` is for the check of labels, which is left out. Leave out `group_by` too.")
    started, progress = time.perf_counter(), choose_progress(progress)
    choose = partial(choose_method, model, network, Path(weights) if weights else None, progress)
    fits_samples = label_issues and model is None and bool(network or weights)
    method = choose() if label_issues and not fits_samples else None  # a wrong name fails before the images are listed
    dataset = as_dataset(data, progress=progress, group_column=group_column(group_by))
    check_group_by(dataset, group_by)
    method = choose([each for each in dataset.samples if each.split != "test"]) if fits_samples else method
    read = (model.name if isinstance(model, Model) else model, weights, *dataset.list_files())
    with nullcontext() if out is None else atomic_folder(Path(out), overwrite=overwrite, inputs=read) as folder:
        if method is not None and folder is not None:
            method = replace(method, network_path=folder / NETWORK)
        result = _audit(dataset, near_duplicates, method, group_by, seed, progress)
        result = replace(result, checks=summarize(result), total_seconds=round(time.perf_counter() - started, 1))
        if folder is not None:
            write_audit(folder, result, dataset.samples, out=Path(str(out)), spreadsheet=spreadsheet)
    return result


def _audit(
    dataset: Dataset,
    near_duplicates: bool,
    method: LabelIssueMethod | None,
    group_by: str | None,
    seed: int,
    progress: Progress,
) -> Audit:
    # The threads of the audit multiply small matrices. Threads of BLAS would compete with them for the cores.
    with progress.stage("read"), single_blas_thread:
        statistics, groups = _read_images(dataset.samples, near_duplicates, progress)
    layouts = [
        group
        for group in groups
        if group.kind == NEAR_DUPLICATE and is_common_layout(len(group.images), len(dataset.samples))
    ]
    groups = tuple(group for group in groups if group not in layouts)
    labels = LabelCheckResult()
    if method is not None:
        labels = check_labels(dataset, statistics, groups, method, seed, progress, group_by)
    image_issues, warnings = _check_images(dataset.samples, statistics)
    issues = [*list_issues(groups), *image_issues, *labels.issues]
    hashes = {sample.name: each.sha256 for sample, each in zip(dataset.samples, statistics, strict=True)}
    order = priorities()
    issues.sort(key=lambda issue: (order[issue.issue_type], -issue.issue_score, issue.image))
    training = [sample for sample in dataset.samples if sample.split in ("train", None)]
    return Audit(
        data=dataset.source,
        class_names=dataset.class_names,
        num_images=len(dataset.samples),
        issues=tuple(replace(issue, sha256=hashes[issue.image] or None) for issue in issues),
        groups=groups,
        class_issues=check_classes(training, dataset.class_names),
        label_issue_method=labels.method,
        warnings=dataset.warnings + _layout_warnings(layouts) + warnings + labels.warnings,
        total_seconds=0.0,
        corrections=dataset.corrections,
        root=dataset.root,
        layout=dataset.layout,
        network=labels.network,
        num_images_by_split=_count_images(dataset),
        paths=renamed_paths(dataset.samples),
    )


def _layout_warnings(layouts: Sequence[DuplicateGroup]) -> tuple[DataWarning, ...]:
    return tuple(
        DataWarning(f"{len(layout.images)} images have a common layout, and are not listed as copies", layout.images)
        for layout in layouts
    )


def _count_images(dataset: Dataset) -> dict[str, dict[str, int]]:
    counts = Counter((sample.split or "", sample.label) for sample in dataset.samples)
    splits = sorted({split for split, _ in counts})
    return {split: {name: counts[split, name] for name in dataset.class_names} for split in splits}


def _read_images(
    samples: Sequence[Sample], near_duplicates: bool, progress: Progress
) -> tuple[list[ImageStatistics], tuple[DuplicateGroup, ...]]:
    """Return statistics of each image, and groups of duplicates; thumbnails are on disk meanwhile."""
    statistics: list[ImageStatistics] = []
    with tempfile.TemporaryFile(buffering=0) as file:  # unnamed: nothing is left if the process is killed
        with progress.task("Reading images", len(samples)) as task:
            for each, thumbnail in read_statistics([sample.path for sample in samples], pixel_functions()):
                file.write(thumbnail.tobytes())
                statistics.append(each)
                task.advance(1)
        unique = unique_images(statistics)
        shape = THUMBNAIL_SIZE, THUMBNAIL_SIZE
        # On Windows, the file has a wrapper that passes all calls on.
        thumbnails = CachedArray(file, shape, np.uint8, np.array(unique, np.int64))  # type: ignore[arg-type, unused-ignore]
        paths = [samples[index].path for index in unique]
        pairs = find_near_duplicates(paths, thumbnails, progress) if near_duplicates else []
    pairs = [replace(pair, first=unique[pair.first], second=unique[pair.second]) for pair in pairs]
    return statistics, group_duplicates(samples, statistics, pairs)


def _check_images(
    samples: Sequence[Sample], statistics: Sequence[ImageStatistics]
) -> tuple[list[Issue], tuple[DataWarning, ...]]:
    """Return the issues of single images, and a warning about each registered check that failed."""
    medians = dataset_medians(statistics)
    checks: dict[str, ImageCheck | RegisteredCheck] = {**IMAGE_CHECKS, **registered_checks()}
    issues: list[Issue] = []
    failures: dict[str, tuple[str, list[str]]] = {}  # first error and images of each check
    for sample, each in zip(samples, statistics, strict=True):
        for name, check in checks.items():
            result = check.evaluate(each, medians)
            if result.error:
                failures.setdefault(name, (result.error, []))[1].append(sample.name)
            elif result.score >= LISTED:
                is_issue = result.score >= FLAGGED
                issues.append(
                    Issue(sample.name, name, round(result.score, 4), is_issue, result.message, label=sample.label)
                )
    return issues, tuple(
        DataWarning(f"{len(names)} of {len(samples)} images not checked. {error}", tuple(names))
        for error, names in failures.values()
    )
