"""Which photographs are learnt from, which choose the epoch, and which are only reported on.

Knows the parts a data set names and what to do where it names none; does not decode a picture.
"""

from dataclasses import dataclass

from belvedere.dataset import UNDIVIDED, Dataset
from belvedere.errors import DatasetError
from belvedere.progress import Progress
from belvedere.records import Note, Sample
from belvedere.splits import Contents, find_identical, fingerprint, keep_back, of_part, read_contents
from belvedere.training.recipes import Recipe


@dataclass(frozen=True)
class Division:
    """Photographs, each in the part it is used for."""

    train: Contents
    validation: Contents
    test: tuple[Sample, ...]  # empty where the recipe keeps none back and the data set names none
    test_contents: Contents  # those of them that can be opened
    notes: tuple[Note, ...]
    sha256: str  # of the photographs to learn from and to validate on, with their labels


def divide(dataset: Dataset, recipe: Recipe, seed: int, progress: Progress) -> Division:
    """Divides a data set.

    The parts it names are kept. Where it names no test part, a share of the photographs in no part and of the training
    ones is kept back as one; where it names no validation part, a share of what is left of these. Both draws are
    stratified and keep identical files on one side.

    Args:
        dataset: The photographs.
        recipe: Says the shares.
        seed: Of the draws.
        progress: Shows how far it is.

    Returns:
        The division, with notes on unreadable and identical files.

    Raises:
        DatasetError: There is one class only, no training part, a part of which no file can be opened, or too few
            photographs to keep some back.
    """
    if len(dataset.class_names) < 2:
        raise DatasetError(
            f"{dataset.source} has one class only, {dataset.class_names[0]!r}: there is nothing to tell apart. "
            "Expected at least two class folders."
        )
    if not (dataset.part("train") or dataset.part(UNDIVIDED)):
        raise DatasetError(f"{dataset.source} has no training part. Expected a folder train, or class folders alone.")
    contents = read_contents(dataset.samples, progress)
    notes = [*find_identical(contents), *dataset.notes, *_share_notes(dataset)]
    lost = [(sample, reason) for sample, reason in contents.unreadable if sample.part != "test"]
    if lost:  # those to test on are named where they are measured
        named = tuple(f"{sample.image}: {reason}" for sample, reason in lost)
        notes.append(Note(f"{len(named)} left out: can't be opened", named))
    rest, validation, test = of_part(contents, "train", UNDIVIDED), of_part(contents, "val"), of_part(contents, "test")
    for part, found in {"training": rest, "validation": validation, "test": test}.items():
        if not found.samples and (part == "training" or dataset.part({"validation": "val"}.get(part, part))):
            raise DatasetError(
                f"None of the {part} photographs in {dataset.source} can be opened. Look at their paths."
            )
    if not test.samples:
        rest, test = keep_back(rest, recipe.test_share, seed)
        notes += _kept_note("test", "to report on", test)
    if not validation.samples and not recipe.probes_only:
        rest, validation = keep_back(rest, recipe.validation_share, seed + 1)
        notes += _kept_note("validation", "to choose the epoch by", validation)
    if not validation.samples and not recipe.probes_only:
        raise DatasetError(
            f"{dataset.source} has too few photographs to keep some back for choosing the epoch. "
            "Expected at least four in each class, or a val part."
        )
    if not (validation.samples or test.samples or dataset.part("test")):
        raise DatasetError(
            f"{dataset.source} leaves no photographs to report on. "
            "Expected at least three in a class and a test_share over 0, or a test part."
        )
    learnt = Contents(rest.samples + validation.samples, rest.hashes + validation.hashes, ())
    tested = dataset.part("test") or test.samples
    return Division(rest, validation, tested, test, tuple(notes), fingerprint(learnt))


def _kept_note(part: str, purpose: str, kept: Contents) -> list[Note]:
    if not kept.samples:
        return []
    count = len(kept.samples)
    return [Note(f"{count} photograph{'s' * (count > 1)} kept back {purpose}: the data set names no {part} part")]


def _share_notes(dataset: Dataset) -> list[Note]:
    several = tuple(sample.image for sample in dataset.samples if sample.also)
    if not several:
        return []
    return [Note(f"{len(several)} photographs have several labels: each is learnt, the first is the answer", several)]
