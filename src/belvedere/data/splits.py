"""Splits a dataset into training, validation and test images."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import HashedSamples, duplicate_warnings, fingerprint, hash_samples
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample

NUM_FOLDS = 5  # of cross-validation


@dataclass(frozen=True)
class DataSplit:
    """Training, validation and test images."""

    train: HashedSamples
    validation: HashedSamples
    test: tuple[Sample, ...]  # empty if the dataset names none and none are held out
    hashed_test: HashedSamples  # the readable ones
    warnings: tuple[DataWarning, ...]
    sha256: str  # of the training and validation images with their labels


@dataclass(frozen=True)
class SplitFractions:
    """Fractions of images to hold out if the dataset does not name the split."""

    test: float  # of all images
    validation: float  # of the remaining ones
    needs_validation: bool = True  # whether to hold out validation images
    needs_evaluation: bool = True  # whether to require test or validation images


def split_dataset(
    dataset: Dataset,
    fractions: SplitFractions,
    seed: int,
    progress: Progress,
    known: Mapping[str, str] | None = None,
) -> DataSplit:
    """Split a dataset.

    Splits that the dataset names are kept. A missing test split is drawn from the training images and those without a
    split, then a missing validation split from the rest. Both draws are stratified, and keep identical files together.

    Args:
        dataset: Dataset.
        fractions: Fractions to hold out.
        seed: Seed of the draws.
        progress: Reports the number of files read.
        known: Splits of an earlier run, "train", "val" or "test" by SHA-256. A split that is drawn keeps its images
            of that run, and the rest is drawn from those that the run did not have.

    Returns:
        The splits, with warnings on unreadable and identical files.

    Raises:
        DatasetError: There is one class only, no training split, a split without readable files, or too few images to
            hold some out.
    """
    _check_dataset(dataset)
    hashed = hash_samples(dataset.samples, progress)
    warnings = [*duplicate_warnings(hashed), *dataset.warnings, *_multilabel_warnings(dataset)]
    # Evaluation reports unreadable test images.
    failed = tuple(f"{sample.name}: {reason}" for sample, reason in hashed.unreadable if sample.split != "test")
    if failed:
        warnings.append(DataWarning(f"{count(len(failed), 'image')} left out: cannot be opened", failed))
    rest, validation, test = hashed.in_splits("train", None), hashed.in_splits("val"), hashed.in_splits("test")
    for split, name, found in (("train", "training", rest), ("val", "validation", validation), ("test", "test", test)):
        if not found.samples and (split == "train" or dataset.split(split)):
            raise DatasetError(f"None of the {name} images in {dataset.source} can be opened. Check their paths.")
    if not test.samples:
        rest, test = _draw(rest, fractions.test, seed, "test", known or {})
        warnings += _held_out_warning("test", "for testing", test)
    if not validation.samples and fractions.needs_validation:
        rest, validation = _draw(rest, fractions.validation, seed + 1, "val", known or {})
        warnings += _held_out_warning("validation", "for validation", validation)
    if not validation.samples and fractions.needs_validation:
        raise DatasetError(
            f"Too few images in {dataset.source} to hold some out for validation. "
            "Expected at least four in each class, or a val split."
        )
    if fractions.needs_evaluation and not (validation.samples or test.samples or dataset.split("test")):
        raise DatasetError(
            f"No images to evaluate on in {dataset.source}. "
            "Expected at least three in a class and a `test_fraction` over 0, or a test split."
        )
    learned = HashedSamples(rest.samples + validation.samples, rest.hashes + validation.hashes)
    all_test = dataset.split("test") or test.samples
    return DataSplit(rest, validation, all_test, test, tuple(warnings), fingerprint(learned))


def _draw(
    hashed: HashedSamples, fraction: float, seed: int, split: str, known: Mapping[str, str]
) -> tuple[HashedSamples, HashedSamples]:
    """Draw a split: what an earlier run had in it, and a fraction of the images that it did not have.

    If the run had no such split, as a linear probe has no validation images, it is drawn from all its images.
    """
    if split not in known.values():
        return stratified_group_split(hashed, fraction, seed)
    new = hashed.select(index for index, key in enumerate(hashed.hashes) if key not in known)
    drawn = {*stratified_group_split(new, fraction, seed)[1].hashes}
    drawn |= {key for key in hashed.hashes if known.get(key) == split}
    rows = range(len(hashed.samples))
    return (
        hashed.select(index for index in rows if hashed.hashes[index] not in drawn),
        hashed.select(index for index in rows if hashed.hashes[index] in drawn),
    )


def _check_dataset(dataset: Dataset) -> None:
    if len(dataset.class_names) < 2:
        raise DatasetError(
            f"{dataset.source} has only one class: {dataset.class_names[0]!r}. Expected at least two class folders."
        )
    if not (dataset.split("train") or dataset.split(None)):
        raise DatasetError(f"No training split in {dataset.source}. Expected a folder train, or class folders alone.")


def _held_out_warning(split: str, purpose: str, held_out: HashedSamples) -> list[DataWarning]:
    message = f"{count(len(held_out.samples), 'image')} held out {purpose}: the dataset has no {split} split"
    return [DataWarning(message)] if held_out.samples else []


def _multilabel_warnings(dataset: Dataset) -> list[DataWarning]:
    names = tuple(sample.name for sample in dataset.samples if sample.extra_labels)
    images_have = count(len(names), "image has", "images have")
    message = f"{images_have} several labels: all are used in training, the first is the label to predict"
    return [DataWarning(message, names)] if names else []


def stratified_group_split(hashed: HashedSamples, fraction: float, seed: int) -> tuple[HashedSamples, HashedSamples]:
    """Split samples in two, class by class; identical files stay together.

    Args:
        hashed: Samples to split.
        fraction: Fraction of each class to hold out, rounded; at least one image of a class with three or more.
        seed: Seed of the draw. The result depends on file contents, not on names.

    Returns:
        The samples that stay and those held out, each in the given order.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, content_hash in enumerate(hashed.hashes):
        members[content_hash].append(index)
    sizes = Counter(sample.label for sample in hashed.samples)
    quota = {
        label: max(round(fraction * size), 1 if size >= 3 and fraction > 0 else 0) for label, size in sizes.items()
    }
    keys = sorted(members)
    held_out: set[int] = set()
    for position in np.random.default_rng(seed).permutation(len(keys)):
        group = members[keys[position]]
        wanted = Counter(hashed.samples[index].label for index in group)
        if all(quota[label] >= number for label, number in wanted.items()):
            held_out.update(group)
            for label, number in wanted.items():
                quota[label] -= number
    return hashed.select(i for i in range(len(hashed.samples)) if i not in held_out), hashed.select(sorted(held_out))


def stratified_group_folds(
    labels: NDArray[np.int64], groups: Sequence[object], seed: int, num_folds: int = NUM_FOLDS, *, rotate: bool = True
) -> NDArray[np.intp]:
    """Draw a fold for each image, stratified by class; a group, such as copies of one file, is in one fold.

    Args:
        labels: (N,) classes; the first image of a group decides its class.
        groups: N names.
        seed: Seed of the draw.
        num_folds: Number of folds.
        rotate: Whether each class continues at the fold after the last class's end, so that small classes are spread
            over all folds; otherwise each class starts at fold 0.

    Returns:
        (N,) folds, 0 to num_folds - 1.
    """
    _, first, group = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    random, start = np.random.default_rng(seed), 0
    fold_of_group = np.empty(len(first), np.intp)
    for label in np.unique(labels):
        rows = random.permutation(np.sort(first[labels[first] == label]))
        fold_of_group[group[rows]] = (start + np.arange(len(rows))) % num_folds
        start += len(rows) * rotate
    return fold_of_group[group]
