"""Which photographs are learnt from, which choose the epoch, and which are only reported on.

Knows the parts a data set names and what to do where it names none; does not decode a picture.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from belvedere.data.dataset import UNDIVIDED, Dataset
from belvedere.data.hashing import Contents, find_identical, fingerprint, read_contents, select, select_split
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress
from belvedere.types.data import Note, Sample


@dataclass(frozen=True)
class DataSplit:
    """Photographs, each in the part it is used for."""

    train: Contents
    validation: Contents
    test: tuple[Sample, ...]  # empty where the recipe keeps none back and the data set names none
    test_contents: Contents  # those of them that can be opened
    notes: tuple[Note, ...]
    sha256: str  # of the photographs to learn from and to validate on, with their labels


@dataclass(frozen=True)
class SplitFractions:
    """How many images are held out, where a data set does not say which."""

    test: float  # of all
    validation: float  # of those that are left
    needs_validation: bool = True  # whether images are held out for validation at all


def divide(dataset: Dataset, fractions: SplitFractions, seed: int, progress: Progress) -> DataSplit:
    """Divides a data set.

    The parts it names are kept. Where it names no test part, a share of the photographs in no part and of the training
    ones is kept back as one; where it names no validation part, a share of what is left of these. Both draws are
    stratified and keep identical files on one side.

    Args:
        dataset: The photographs.
        fractions: How many images are held out.
        seed: Of the draws.
        progress: Shows how far it is.

    Returns:
        The division, with notes on unreadable and identical files.

    Raises:
        DatasetError: There is one class only, no training part, a part of which no file can be opened, or too few
            photographs to keep some back.
    """
    _check_dataset(dataset)
    contents = read_contents(dataset.samples, progress)
    notes = [*find_identical(contents), *dataset.notes, *_share_notes(dataset)]
    lost = [(sample, reason) for sample, reason in contents.unreadable if sample.part != "test"]
    if lost:  # those to test on are named where they are measured
        named = tuple(f"{sample.image}: {reason}" for sample, reason in lost)
        notes.append(Note(f"{len(named)} left out: can't be opened", named))
    rest, validation, test = (
        select_split(contents, "train", UNDIVIDED),
        select_split(contents, "val"),
        select_split(contents, "test"),
    )
    for part, found in {"training": rest, "validation": validation, "test": test}.items():
        if not found.samples and (part == "training" or dataset.part({"validation": "val"}.get(part, part))):
            raise DatasetError(
                f"None of the {part} photographs in {dataset.source} can be opened. Look at their paths."
            )
    if not test.samples:
        rest, test = stratified_group_split(rest, fractions.test, seed)
        notes += _held_out_note("test", "for testing", test)
    if not validation.samples and fractions.needs_validation:
        rest, validation = stratified_group_split(rest, fractions.validation, seed + 1)
        notes += _held_out_note("validation", "for validation", validation)
    if not validation.samples and fractions.needs_validation:
        raise DatasetError(
            f"{dataset.source} has too few photographs to keep some back for choosing the epoch. "
            "Expected at least four in each class, or a val part."
        )
    if not (validation.samples or test.samples or dataset.part("test")):
        raise DatasetError(
            f"{dataset.source} leaves no photographs to report on. "
            "Expected at least three in a class and a test_fraction over 0, or a test part."
        )
    learnt = Contents(rest.samples + validation.samples, rest.hashes + validation.hashes, ())
    tested = dataset.part("test") or test.samples
    return DataSplit(rest, validation, tested, test, tuple(notes), fingerprint(learnt))


def _check_dataset(dataset: Dataset) -> None:
    if len(dataset.class_names) < 2:
        raise DatasetError(
            f"{dataset.source} has only one class, {dataset.class_names[0]!r}: there is nothing to tell apart. "
            "Expected at least two class folders."
        )
    if not (dataset.part("train") or dataset.part(UNDIVIDED)):
        raise DatasetError(f"{dataset.source} has no training part. Expected a folder train, or class folders alone.")


def _held_out_note(part: str, purpose: str, kept: Contents) -> list[Note]:
    if not kept.samples:
        return []
    count = len(kept.samples)
    return [Note(f"{count} image{'s' * (count > 1)} held out {purpose}: the dataset has no {part} split")]


def _share_notes(dataset: Dataset) -> list[Note]:
    several = tuple(sample.image for sample in dataset.samples if sample.also)
    if not several:
        return []
    return [Note(f"{len(several)} photographs have several labels: each is learnt, the first is the answer", several)]


def stratified_group_split(contents: Contents, share: float, seed: int) -> tuple[Contents, Contents]:
    """Divides photographs in two, class by class, identical files on one side.

    Args:
        contents: What to divide.
        share: How much of each class to keep back, rounded; at least one of a class that has three or more.
        seed: The same seed divides the same photographs in the same way.

    Returns:
        What stays, and what is kept back; each in the given order.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, content_hash in enumerate(contents.hashes):
        members[content_hash].append(index)
    sizes = Counter(sample.label for sample in contents.samples)
    quota = {label: max(round(share * size), 1 if size >= 3 and share > 0 else 0) for label, size in sizes.items()}
    keys = sorted(members)  # by content, so that renaming files or folders divides them alike
    kept: set[int] = set()
    for position in np.random.default_rng(seed).permutation(len(keys)):
        group = members[keys[position]]
        wanted = Counter(contents.samples[index].label for index in group)
        if all(quota[label] >= count for label, count in wanted.items()):
            kept.update(group)
            for label, count in wanted.items():
                quota[label] -= count
    indices = range(len(contents.samples))
    return select(contents, [i for i in indices if i not in kept]), select(contents, sorted(kept))
