"""The audit, end to end: labelled photographs in, everything that is wrong with them out, as records and as a folder.

Knows the order of the steps; each step is another module's.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from belvedere.auditing import duplicates
from belvedere.auditing.classes import check_classes, find_outliers
from belvedere.auditing.duplicates import find_first_of_each, group_copies
from belvedere.auditing.files import CHECKS, FLAGGED, find_usual
from belvedere.auditing.findings import OUTLIER, WRONG_LABEL, place_of
from belvedere.auditing.labels import doubt_labels
from belvedere.auditing.measures import THUMB_SIDE, Measures, measure_all
from belvedere.auditing.near import find_copies
from belvedere.auditing.probes import draw_folds
from belvedere.auditing.unseen import Route, answer_unseen, check_model
from belvedere.auditing.writing import write_audit
from belvedere.cache import StoredRows
from belvedere.dataset import UNDIVIDED, Dataset, read_folder
from belvedere.errors import MissingExtra
from belvedere.model import Model, load
from belvedere.progress import Progress
from belvedere.records import Audit, DuplicateGroup, Issue, Note, Sample
from belvedere.splits import Contents, of_part
from belvedere.storage import new_folder

LISTED = 0.25  # scores of pictures from which on a check names them though they are not flagged
LEAST_TO_LEARN = 20  # pictures, below which nothing can be said of labels


def audit(
    photos: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    model: Model | Path | str | None = None,
    backbone: str | None = None,
    weights: Path | str | None = None,
    labels: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Looks for what is wrong with labelled photographs: files, duplicates, leaks, classes and labels.

    Every picture is read once, and copies that are likely once more. Wrong labels are found by networks that had not
    seen the picture: probes on the embedding of `model`, or of a pretrained network, or else quick networks trained on
    four fifths of the photographs each.

    Args:
        photos: A folder or table of labelled photographs, or what `read_folder` made of one.
        out: Folder for `issues.csv`, `audit.json` and `report.html`; nothing is written without.
        model: A model.onnx or run folder that has not learnt from these photographs.
        backbone: A pretrained network of timm's.
        weights: File of its weights.
        labels: Whether wrong labels, and pictures unlike any class, are looked for.
        seed: Of the folds and trainings.
        overwrite: Whether an older folder of results there may be replaced.
        progress: Shows how far it is; nothing is shown without.

    Returns:
        What was found.

    Raises:
        BelvedereError: Photographs or weights can't be read, `out` not be written, or the model has learnt from them.
    """
    started, progress = time.perf_counter(), progress or Progress()
    route = Route(load(model) if isinstance(model, Path | str) else model, backbone, Path(weights) if weights else None)
    with nullcontext() if out is None else new_folder(Path(out), overwrite=overwrite) as folder:
        dataset = photos if isinstance(photos, Dataset) else read_folder(photos)
        measures, groups = _look_at_files(dataset.samples, progress)
        issues = [*duplicates.list_issues(groups), *_check_files(dataset.samples, measures)]
        words, notes = "", dataset.notes
        if labels:
            found, words, more = _check_labels(dataset, measures, groups, route, seed, progress)
            issues, notes = issues + found, notes + more
        learnt = [sample for sample in dataset.samples if sample.part in ("train", UNDIVIDED)]
        result = Audit(
            source=dataset.source,
            class_names=dataset.class_names,
            images=len(dataset.samples),
            issues=tuple(sorted(issues, key=lambda issue: (place_of(issue.check), -issue.score, issue.image))),
            groups=groups,
            classes=check_classes(learnt, dataset.class_names),
            route=words,
            notes=notes,
            seconds=round(time.perf_counter() - started, 1),
        )
        if folder is not None:
            write_audit(folder, result, dataset.samples)
    return result


def _look_at_files(samples: Sequence[Sample], progress: Progress) -> tuple[list[Measures], tuple[DuplicateGroup, ...]]:
    """Measures every picture, and puts copies into groups; their thumbs are on disk meanwhile."""
    measures: list[Measures] = []
    with tempfile.TemporaryDirectory(prefix="belvedere-") as place:
        thumbs = Path(place) / "thumbs"
        with thumbs.open("wb") as file, progress.task("Looking at files", len(samples)) as task:
            for measured in measure_all(sample.path for sample in samples):
                file.write(measured.thumb.tobytes())
                measures.append(measured.measures)
                task.advance(1)
        first = find_first_of_each(measures)
        rows = StoredRows(thumbs, (THUMB_SIDE, THUMB_SIDE), np.uint8, np.array(first, np.int64))
        copies = find_copies([samples[index].path for index in first], rows, progress)
    placed = [replace(copy, first=first[copy.first], second=first[copy.second]) for copy in copies]
    return measures, group_copies(samples, measures, placed)


def _check_files(samples: Sequence[Sample], measures: Sequence[Measures]) -> Iterator[Issue]:
    usual = find_usual(measures)
    for sample, each in zip(samples, measures, strict=True):
        for name, check in CHECKS.items():
            score = check.score(each, usual)
            if score >= LISTED:
                detail = check.detail(each, usual)
                yield Issue(sample.image, name, round(score, 4), score >= FLAGGED, detail, label=sample.label)


def _check_labels(
    dataset: Dataset,
    measures: Sequence[Measures],
    groups: Sequence[DuplicateGroup],
    route: Route,
    seed: int,
    progress: Progress,
) -> tuple[list[Issue], str, tuple[Note, ...]]:
    """Looks for wrong labels and outliers: the issues, the way the answers came about, and what was left out."""
    contents, names, note = _choose_learnable(dataset, measures, groups, seed)
    if len(names) < 2 or len(contents.samples) < LEAST_TO_LEARN:
        return [], "", (Note("Wrong labels were not looked for: too few photographs of two classes or more"),)
    if route.model is not None:
        check_model(route.model, of_part(contents, "train", "val", UNDIVIDED), names)
    reduced = replace(dataset, class_names=names)
    try:
        unseen = answer_unseen(reduced, contents, _name_groups(contents, groups), route, seed, progress)
    except MissingExtra as error:
        if route.pretrained:
            raise
        return [], "", (Note(f"Wrong labels were not looked for. {error} Or give a --model."), *note)
    given = np.array([names.index(sample.label) for sample in contents.samples], np.int64)
    doubts, outliers = doubt_labels(unseen.probabilities, given), find_outliers(unseen.nearness)
    issues = []
    for place, sample in enumerate(contents.samples):
        suggestion, probability = names[doubts.suggestions[place]], float(doubts.probabilities[place])
        detail = (
            f"rather {suggestion} {probability:.2f} than {sample.label} {unseen.probabilities[place, given[place]]:.2f}"
        )
        doubt = Issue(
            sample.image, WRONG_LABEL, round(float(doubts.scores[place]), 6), bool(doubts.flagged[place]), detail
        )
        issues.append(replace(doubt, label=sample.label, suggestion=suggestion, probability=round(probability, 4)))
        score = float(outliers.scores[place])
        if score >= LISTED:
            detail = f"nearness {outliers.nearness[place]:.2f}, usual {outliers.usual:.2f}"
            issues.append(Issue(sample.image, OUTLIER, round(score, 4), score >= FLAGGED, detail, label=sample.label))
    return issues, unseen.route, note


def _name_groups(contents: Contents, groups: Sequence[DuplicateGroup]) -> list[str]:
    """A name for each picture that its copies share, near ones too."""
    of_image: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: group.kind == duplicates.NEAR):  # the widest group last
        of_image |= dict.fromkeys(group.images, f"group {group.number}")
    return [of_image.get(sample.image, key) for sample, key in zip(contents.samples, contents.hashes, strict=True)]


def _choose_learnable(
    dataset: Dataset, measures: Sequence[Measures], groups: Sequence[DuplicateGroup], seed: int
) -> tuple[Contents, tuple[str, ...], tuple[Note, ...]]:
    """The pictures that can be read, of the classes that are in several folds; the classes; and those left out."""
    pairs = [(sample, each) for sample, each in zip(dataset.samples, measures, strict=True) if each.readable]
    contents = Contents(tuple(sample for sample, _ in pairs), tuple(each.sha256 for _, each in pairs), ())
    labels = np.array([dataset.class_names.index(sample.label) for sample, _ in pairs], np.int64)
    folds = draw_folds(labels, _name_groups(contents, groups), seed)
    several = Counter(label for label, _ in set(zip(labels.tolist(), folds.tolist(), strict=True)))
    names = tuple(name for index, name in enumerate(dataset.class_names) if several[index] > 1)
    kept = [
        (sample, key) for sample, key in zip(contents.samples, contents.hashes, strict=True) if sample.label in names
    ]
    left = tuple(sample.image for sample, _ in pairs if sample.label not in names)
    note = Note(f"{len(left)} labels not looked at: their classes have too few different photographs", left)
    chosen = Contents(tuple(sample for sample, _ in kept), tuple(key for _, key in kept), ())
    return chosen, names, (note,) if left else ()
