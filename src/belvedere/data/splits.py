"""Splits a dataset into training, validation and test images."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.data.groups import assign_groups, group_names
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
    group_by: str | None = None,
) -> DataSplit:
    """Split a dataset.

    Splits that the dataset names are kept. A missing test split is drawn from the training images and those without a
    split, then a missing validation split from the rest. Both draws are stratified, and keep identical files and groups
    together.

    Args:
        dataset: Dataset.
        fractions: Fractions to hold out.
        seed: Seed of the draws.
        progress: Reports the number of files read.
        known: Splits of an earlier run, "train", "val" or "test" by SHA-256. A split that is drawn keeps its images
            of that run, and the rest is drawn from those that the run did not have.
        group_by: Groups of images that the draws do not divide, as for `assign_groups`.

    Returns:
        The splits, with warnings on unreadable and identical files, and on groups in several splits.

    Raises:
        DatasetError: There is one class only, no training split, a split without readable files, no group, or too few
            images to hold some out.
        UsageError: `group_by` names a column that the table does not have.
    """
    _check_dataset(dataset)
    hashed = hash_samples(dataset.samples, progress)
    hashed, group_warnings = assign_groups(hashed, dataset, group_by, progress)
    warnings = [*duplicate_warnings(hashed), *dataset.warnings, *_multilabel_warnings(dataset), *group_warnings]
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
    _require_held_out(dataset, fractions, validation, test)
    learned = HashedSamples(rest.samples + validation.samples, rest.hashes + validation.hashes)
    all_test = dataset.split("test") or test.samples
    warnings += _divided_group_warnings(rest, validation, test)
    return DataSplit(rest, validation, all_test, test, tuple(warnings), fingerprint(learned))


def _require_held_out(
    dataset: Dataset, fractions: SplitFractions, validation: HashedSamples, test: HashedSamples
) -> None:
    if not validation.samples and fractions.needs_validation:
        raise DatasetError(
            f"Too few images in {dataset.source} to hold some out for validation. Expected at least four in each class "
            "(four groups, if they have groups), or a val split. Or set `recipe` to 'probe', which needs none."
        )
    if fractions.needs_evaluation and not (validation.samples or test.samples or dataset.split("test")):
        raise DatasetError(
            f"No images to evaluate on in {dataset.source}. "
            "Expected at least three in a class (three groups, if they have groups) and a `test_fraction` over 0, or a "
            "test split. Or measure with `folds`."
        )


def _draw(
    hashed: HashedSamples, fraction: float, seed: int, split: str, known: Mapping[str, str]
) -> tuple[HashedSamples, HashedSamples]:
    """Draw a split: what an earlier run had in it, and a fraction of the images that it did not have.

    A new image is in the split of the known images of its group; if the run divided the group, in training. If the run
    had no such split, as a linear probe has no validation images, it is drawn from all its images.
    """
    if split not in known.values():
        return stratified_group_split(hashed, fraction, seed)
    groups, splits = group_names(hashed), defaultdict[str, set[str]](set)
    for group, key in zip(groups, hashed.hashes, strict=True):
        splits[group] |= {known[key]} if key in known else set()
    new = hashed.select(index for index, group in enumerate(groups) if not splits[group])
    drawn = {*stratified_group_split(new, fraction, seed)[1].hashes}
    drawn |= {
        key
        for group, key in zip(groups, hashed.hashes, strict=True)
        if (known[key] == split if key in known else splits[group] == {split})
    }
    rows = range(len(hashed.samples))
    return (
        hashed.select(index for index in rows if hashed.hashes[index] not in drawn),
        hashed.select(index for index in rows if hashed.hashes[index] in drawn),
    )


def _divided_group_warnings(*splits: HashedSamples) -> list[DataWarning]:
    """Report groups in several splits: those that the dataset names, or those of an earlier run."""
    named = [{sample.group for sample in split.samples if sample.group is not None} for split in splits]
    divided = sorted(group for group in set().union(*named) if sum(group in names for names in named) > 1)
    message = f"{count(len(divided), 'group is', 'groups are')} in more than one split: test scores are optimistic"
    return [DataWarning(message, tuple(divided))] if divided else []


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
    """Split samples in two, class by class; identical files and groups stay together.

    Args:
        hashed: Samples to split.
        fraction: Fraction of each class to hold out, rounded; at least one group of a class with three or more. An
            image that shares neither its content nor its group is a group by itself.
        seed: Seed of the draw. The result depends on file contents, not on names.

    Returns:
        The samples that stay and those held out, each in the given order.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(group_names(hashed)):
        members[name].append(index)
    sizes = Counter(sample.label for sample in hashed.samples)
    quota = {
        label: max(round(fraction * size), 1 if size >= 3 and fraction > 0 else 0) for label, size in sizes.items()
    }
    keys = sorted(members)
    groups = [members[keys[position]] for position in np.random.default_rng(seed).permutation(len(keys))]
    labels = [Counter(hashed.samples[index].label for index in group) for group in groups]
    chosen: set[int] = set()
    for position, wanted in enumerate(labels):
        if all(quota[label] >= number for label, number in wanted.items()):
            chosen.add(position)
            for label, number in wanted.items():
                quota[label] -= number
    chosen |= _smallest_groups(labels, chosen) if fraction > 0 else set()
    held_out = sorted(index for position in chosen for index in groups[position])
    return hashed.select(sorted({*range(len(hashed.samples))} - {*held_out})), hashed.select(held_out)


def _smallest_groups(labels: Sequence[Counter[str]], chosen: set[int]) -> set[int]:
    """Return the smallest group of each class of which all groups are too large for its fraction.

    Args:
        labels: For each group, the number of images of each class.
        chosen: Positions of the groups that are held out already.
    """
    groups_of: defaultdict[str, list[int]] = defaultdict(list)
    for position, each in enumerate(labels):
        for label in each:
            groups_of[label].append(position)
    held_out = Counter(label for position in chosen for label in labels[position])  # groups of each class
    added: set[int] = set()
    for label, positions in sorted(groups_of.items()):
        if len(positions) < 3 or held_out[label]:
            continue
        fitting = [
            position
            for position in positions
            if all(len(groups_of[other]) - held_out[other] >= 2 for other in labels[position])
        ]
        if fitting:
            smallest = min(fitting, key=lambda position: labels[position].total())
            added.add(smallest)
            held_out.update(labels[smallest].keys())
    return added


def stratified_group_folds(
    labels: NDArray[np.int64],
    groups: Sequence[object],
    seed: int | np.random.Generator,
    num_folds: int = NUM_FOLDS,
    *,
    rotate: bool = True,
) -> NDArray[np.intp]:
    """Draw a fold for each image, stratified by class; a group, such as copies of one file, is in one fold.

    Args:
        labels: (N,) classes; the first image of a group decides its class.
        groups: N names.
        seed: Seed of the draw, or the generator to draw with.
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
