"""Wrong labels, and pictures unlike any class: which photographs are asked about, and what is said of each.

Knows classes, copies and words; does not know how networks answer, or how doubts are counted.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from belvedere.auditing.class_checks import OUTLIER
from belvedere.auditing.duplicates.groups import NEAR
from belvedere.auditing.image_checks import FLAGGED, LISTED
from belvedere.auditing.image_statistics import Measures
from belvedere.auditing.label_issues import WRONG_LABEL, find_label_issues, merge_extra_labels
from belvedere.auditing.linear_probe import draw_folds
from belvedere.auditing.out_of_fold import Route, Rows, Unseen, check_model, out_of_fold_predictions
from belvedere.auditing.outliers import find_outliers
from belvedere.data.dataset import Dataset
from belvedere.data.hashing import Contents
from belvedere.errors import MissingDependencyError
from belvedere.runtime.progress import Progress
from belvedere.types.audit import AuditNetwork, DuplicateGroup, Issue
from belvedere.types.data import Note, Sample

LEAST_TO_LEARN = 20  # pictures, below which nothing can be said of labels


@dataclass(frozen=True)
class Judged:
    """What was found of labels."""

    issues: tuple[Issue, ...] = ()
    route: str = ""  # how the answers came about; empty where there are none
    notes: tuple[Note, ...] = ()  # what was left out
    network: AuditNetwork | None = None  # that gave them


@dataclass(frozen=True)
class Learnable:
    """The pictures that networks can be asked about."""

    contents: Contents
    folds: Rows
    class_names: tuple[str, ...]
    notes: tuple[Note, ...]  # on the others


def judge_labels(
    dataset: Dataset,
    measures: Sequence[Measures],
    groups: Sequence[DuplicateGroup],
    route: Route,
    seed: int,
    progress: Progress,
) -> Judged:
    """Looks for wrong labels and outliers.

    Args:
        dataset: N photographs.
        measures: N, of the same.
        groups: Their copies, which are never learnt from where one of them is asked about.
        route: What is asked.
        seed: Of the folds and trainings.
        progress: Shows how far it is.

    Returns:
        An issue for every label, and one for every picture that may be unlike any class.

    Raises:
        UsageError: The model that is asked has learnt these labels.
        DatasetError: Files were changed while networks were trained on them.
    """
    readable = [(sample, each.sha256) for sample, each in zip(dataset.samples, measures, strict=True) if each.readable]
    contents, words = _hold(readable), route.words
    if route.model is not None:
        words = f"{words}, {check_model(route.model, contents, dataset.class_names)}"
    learnable = choose_learnable(contents, dataset.class_names, groups, seed)
    if len(learnable.class_names) < 2 or len(learnable.contents.samples) < LEAST_TO_LEARN:
        return Judged(notes=(Note("Wrong labels were not looked for: too few photographs of two classes or more"),))
    reduced = replace(dataset, class_names=learnable.class_names)
    try:
        unseen = out_of_fold_predictions(reduced, learnable.contents, learnable.folds, route, seed, progress)
    except MissingDependencyError as error:
        note = Note(f"Wrong labels were not looked for. {error} Or give a --model.")
        return Judged(notes=(note, *learnable.notes))
    samples = [learnable.contents.samples[row] for row in unseen.rows.tolist()]
    issues = (*_doubt(samples, unseen, learnable.class_names), *_name_outliers(samples, unseen))
    notes = learnable.notes + _name_changed(learnable.contents, unseen.rows)
    return Judged(issues, words, notes, route.describe())


def _doubt(samples: Sequence[Sample], unseen: Unseen, names: Sequence[str]) -> Iterator[Issue]:
    places = {name: place for place, name in enumerate(names)}
    given = np.array([places[sample.label] for sample in samples], np.int64)
    further = [[places[name] for name in sample.also if name in places] for sample in samples]
    probabilities = merge_extra_labels(unseen.probabilities, given, further)
    doubts = find_label_issues(probabilities, given)
    for row, sample in enumerate(samples):
        suggestion, likely = names[doubts.suggestions[row]], float(doubts.probabilities[row])
        own = float(probabilities[row, given[row]])
        yield Issue(
            sample.image,
            WRONG_LABEL,
            round(float(doubts.scores[row]), 6),
            bool(doubts.flagged[row]),
            f"suggested: {suggestion} ({likely:.0%}) instead of {'|'.join((sample.label, *sample.also))} ({own:.0%})",
            label=sample.label,
            suggested_label=suggestion,
            suggested_probability=round(likely, 4),
            label_probability=round(own, 4),
        )


def _name_outliers(samples: Sequence[Sample], unseen: Unseen) -> Iterator[Issue]:
    outliers = find_outliers(unseen.nearness)
    for sample, value, nearness in zip(samples, outliers.scores.tolist(), outliers.nearness.tolist(), strict=True):
        if value >= LISTED:
            detail = f"nearness {nearness:.2f}, usual {outliers.usual:.2f}"
            yield Issue(sample.image, OUTLIER, round(value, 4), value >= FLAGGED, detail, label=sample.label)


def _name_changed(contents: Contents, rows: Rows) -> tuple[Note, ...]:
    left = set(range(len(contents.samples))).difference(rows.tolist())
    names = tuple(contents.samples[row].image for row in sorted(left))
    return (Note(f"{len(names)} labels not looked at: their files were changed meanwhile", names),) if names else ()


def choose_learnable(
    contents: Contents, class_names: Sequence[str], groups: Sequence[DuplicateGroup], seed: int
) -> Learnable:
    """Draws folds, and leaves out the classes that are in one of them only.

    Args:
        contents: Photographs that can be read.
        class_names: Their classes.
        groups: Copies among them, which stay in one fold.
        seed: Of the draw.

    Returns:
        The others, in the folds that were drawn.
    """
    labels = np.array([class_names.index(sample.label) for sample in contents.samples], np.int64)
    folds = draw_folds(labels, _name_groups(contents, groups), seed)
    several = Counter(label for label, _ in set(zip(labels.tolist(), folds.tolist(), strict=True)))
    names = tuple(name for index, name in enumerate(class_names) if several[index] > 1)
    pairs = list(zip(contents.samples, contents.hashes, strict=True))
    kept = [place for place, (sample, _) in enumerate(pairs) if sample.label in names]
    left = tuple(sample.image for sample in contents.samples if sample.label not in names)
    note = Note(f"{len(left)} labels not looked at: their classes have too few different photographs", left)
    _, renumbered = np.unique(folds[kept], return_inverse=True)
    return Learnable(
        _hold([pairs[place] for place in kept]), renumbered.astype(np.intp), names, (note,) if left else ()
    )


def _name_groups(contents: Contents, groups: Sequence[DuplicateGroup]) -> list[str]:
    """A name for each picture that its copies share, near ones too."""
    of_image: dict[str, str] = {}
    for group in sorted(groups, key=lambda group: group.kind == NEAR):  # the widest group last
        of_image |= dict.fromkeys(group.images, f"group {group.number}")
    return [of_image.get(sample.image, key) for sample, key in zip(contents.samples, contents.hashes, strict=True)]


def _hold(pairs: Sequence[tuple[Sample, str]]) -> Contents:
    return Contents(tuple(sample for sample, _ in pairs), tuple(key for _, key in pairs), ())
