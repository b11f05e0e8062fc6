"""The audit, end to end: labeled photographs in, everything that is wrong with them out, as records and as a folder.

Knows the order of the steps; each step is another module's.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from belvedere.auditing.checks import priority
from belvedere.auditing.class_checks import check_classes
from belvedere.auditing.duplicates.groups import find_first_of_each, group_copies, list_issues
from belvedere.auditing.duplicates.near import find_copies
from belvedere.auditing.image_checks import CHECKS, FLAGGED, LISTED, dataset_medians
from belvedere.auditing.image_statistics import THUMB_SIDE, Measures, measure_all
from belvedere.auditing.label_checks import Judged, judge_labels
from belvedere.auditing.out_of_fold import Route, choose_route
from belvedere.auditing.output import NETWORK, write_audit
from belvedere.data.array_cache import CachedArray
from belvedere.data.dataset import UNDIVIDED, Dataset, load_dataset
from belvedere.inference.model import Model
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress
from belvedere.types.audit import Audit, DuplicateGroup, Issue
from belvedere.types.data import Sample


def audit(
    photos: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    model: Model | Path | str | None = None,
    backbone: str | None = None,
    weights: Path | str | None = None,
    labels: bool = True,
    near: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    spreadsheet: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Looks for what is wrong with labeled photographs: files, duplicates, leaks, classes and labels.

    Every picture is read once, and copies that are likely once more. Wrong labels are found by networks that had not
    seen the picture: probes on the embedding of `model`, or of a pretrained network, or else quick networks trained on
    four fifths of the photographs each.

    Args:
        photos: A folder or table of labeled photographs, or what `load_dataset` made of one.
        out: Folder for `issues.csv`, `audit.json` and `report.html`, and for a network that was trained, which
            `belvedere review` shows photographs by; nothing is written without.
        model: A model.onnx or run folder that has not learnt from these photographs.
        backbone: A pretrained network of timm's.
        weights: File of its weights.
        labels: Whether wrong labels, and pictures unlike any class, are looked for.
        near: Whether near duplicates are, beside identical files and pixels.
        seed: Of the folds and trainings.
        overwrite: Whether an older folder of results there may be replaced.
        spreadsheet: Whether cells of issues.csv that a spreadsheet would take for formulas are escaped.
        progress: Shows how far it is; nothing is shown without.

    Returns:
        What was found.

    Raises:
        BelvedereError: Photographs or weights can't be read, `out` not be written, the model has learnt from them, or a
                model is given and a pretrained network too.
    """
    started, progress = time.perf_counter(), progress or Progress()
    route = choose_route(model, backbone, Path(weights) if weights else None, progress) if labels else None
    dataset = photos if isinstance(photos, Dataset) else load_dataset(photos)
    read = (model.name if isinstance(model, Model) else model, weights, *dataset.list_files())
    with nullcontext() if out is None else atomic_folder(Path(out), overwrite=overwrite, inputs=read) as folder:
        if route is not None and folder is not None:
            route = replace(route, kept=folder / NETWORK)
        result = _look(dataset, near, route, seed, progress)
        result = replace(result, seconds=round(time.perf_counter() - started, 1))
        if folder is not None:
            write_audit(folder, result, dataset.samples, spreadsheet=spreadsheet)
    return result


def _look(dataset: Dataset, near: bool, route: Route | None, seed: int, progress: Progress) -> Audit:
    """Looks for everything, but for labels without a route."""
    measures, groups = _look_at_files(dataset.samples, near, progress)
    judged = Judged() if route is None else judge_labels(dataset, measures, groups, route, seed, progress)
    issues = [*list_issues(groups), *_check_files(dataset.samples, measures), *judged.issues]
    hashes = {sample.image: each.sha256 for sample, each in zip(dataset.samples, measures, strict=True)}
    issues.sort(key=lambda issue: (priority(issue.issue_type), -issue.score, issue.image))
    return Audit(
        source=dataset.source,
        class_names=dataset.class_names,
        images=len(dataset.samples),
        issues=tuple(replace(issue, sha256=hashes[issue.image] or None) for issue in issues),
        groups=groups,
        classes=check_classes(
            [sample for sample in dataset.samples if sample.part in ("train", UNDIVIDED)], dataset.class_names
        ),
        route=judged.route,
        notes=dataset.notes + judged.notes,
        seconds=0.0,
        labels=dataset.labels,
        network=judged.network,
    )


def _look_at_files(
    samples: Sequence[Sample], near: bool, progress: Progress
) -> tuple[list[Measures], tuple[DuplicateGroup, ...]]:
    """Measures every picture, and puts copies into groups; their thumbs are on disk meanwhile."""
    measures: list[Measures] = []
    with tempfile.TemporaryFile(buffering=0) as thumbs:  # without a name: a kill leaves nothing
        with progress.task("Looking at files", len(samples)) as task:
            for measured in measure_all(sample.path for sample in samples):
                thumbs.write(measured.thumb.tobytes())
                measures.append(measured.measures)
                task.advance(1)
        first = find_first_of_each(measures)
        rows = CachedArray(thumbs, (THUMB_SIDE, THUMB_SIDE), np.uint8, np.array(first, np.int64))
        copies = find_copies([samples[index].path for index in first], rows, progress) if near else []
    placed = [replace(copy, first=first[copy.first], second=first[copy.second]) for copy in copies]
    return measures, group_copies(samples, measures, placed)


def _check_files(samples: Sequence[Sample], measures: Sequence[Measures]) -> Iterator[Issue]:
    usual = dataset_medians(measures)
    for sample, each in zip(samples, measures, strict=True):
        for name, check in CHECKS.items():
            score = check.score(each, usual)
            if score >= LISTED:
                detail = check.detail(each, usual)
                yield Issue(sample.image, name, round(score, 4), score >= FLAGGED, detail, label=sample.label)
