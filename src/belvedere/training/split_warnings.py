"""Warnings about a split before the training: small and unequal classes, and near duplicates that it divides."""

from collections import Counter
from collections.abc import Sequence

from belvedere.data.groups import connect, group_names, is_common_layout
from belvedere.data.hashing import HashedSamples
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE
from belvedere.data.near_duplicates.shifts import find_shifted_pairs
from belvedere.data.splits import DataSplit
from belvedere.images.decode import DRAFT_FACTOR
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.training.input_size import median_longer_side
from belvedere.training.recipes import Recipe
from belvedere.training.training_data import input_sizes
from belvedere.types.data import DataWarning
from belvedere.types.model import Preprocess

MIN_TRAINING_IMAGES = 10  # of a class
MAX_IMBALANCE = 10  # of the largest to the smallest class
MAX_CLASSES = 20  # named in a warning
# Longer side, pixels, from which JPEGs are decoded at half their scale or less for thumbnails. To decode them again
# for the training is quicker than to resize all their pixels to a thumbnail.
LARGE_IMAGE = 2 * DRAFT_FACTOR * THUMBNAIL_SIZE


def split_warnings(
    split: DataSplit, class_names: Sequence[str], recipe: Recipe, num_folds: int | None, progress: Progress
) -> tuple[DataWarning, ...]:
    """Return warnings about small classes, unequal classes, and near duplicates in several splits or folds."""
    return (
        *_small_class_warnings(split, class_names, recipe, num_folds),
        *_imbalance_warnings(split, class_names, recipe),
        *_near_duplicate_warnings(split, recipe, num_folds, progress),
    )


def _count_labels(images: HashedSamples) -> Counter[str]:
    return Counter(sample.label for sample in images.samples)


def _small_class_warnings(
    split: DataSplit, class_names: Sequence[str], recipe: Recipe, num_folds: int | None
) -> list[DataWarning]:
    """Name the classes with few training images, and those of which no image was drawn for a split."""
    train = _count_labels(split.train)
    drawn = {
        title: _count_labels(images)
        for title, images in (("validation", split.validation), ("test", split.hashed_test))
        if any(sample.split in ("train", None) for sample in images.samples)
    }
    small = {}
    for name in class_names:
        without = [title for title, counts in drawn.items() if not counts[name]]
        if without or train[name] < MIN_TRAINING_IMAGES:
            none = f", none for {' or '.join(without)}" if without else ""
            small[name] = f"{name!r} ({train[name]} for training{none})"
    if not small:
        return []
    shown = ", ".join(list(small.values())[:MAX_CLASSES])
    more = f" and {len(small) - MAX_CLASSES} more" if len(small) > MAX_CLASSES else ""
    ways = "Add images" + ("" if recipe.linear_probe_only else ", set `recipe` to 'probe'")
    ways += "" if num_folds else ", or measure with `folds`"
    grouped = " An image of a group is held out with all others of it." if _has_groups(split) else ""
    message = f"{count(len(small), 'class has', 'classes have')} few images: {shown}{more}.{grouped} {ways}"
    return [DataWarning(message)]


def _has_groups(split: DataSplit) -> bool:
    return any(sample.group is not None for sample in split.train.samples)


def _imbalance_warnings(split: DataSplit, class_names: Sequence[str], recipe: Recipe) -> list[DataWarning]:
    counts = _count_labels(split.train)
    if recipe.class_weighting != "none" or recipe.sampling != "uniform":
        return []  # corrected
    largest = max(class_names, key=lambda name: counts[name])
    small = [name for name in class_names if counts[name] * MAX_IMBALANCE < counts[largest]]
    if not small:
        return []
    shown = ", ".join(f"{name!r} ({counts[name]})" for name in small[:MAX_CLASSES])
    more = f" and {len(small) - MAX_CLASSES} more" if len(small) > MAX_CLASSES else ""
    message = (
        f"{largest!r} has {counts[largest]} training images, more than {MAX_IMBALANCE} times as many as {shown}{more}. "
        "If rare classes matter, use `class_weighting=balanced`"
    )
    return [DataWarning(message)]


def _inputs(split: DataSplit, recipe: Recipe) -> list[tuple[HashedSamples, Preprocess]]:
    """Return the images and sizes to decode for the training, if this is quicker together with the thumbnails."""
    if recipe.linear_probe_only or median_longer_side(split.train.samples) >= LARGE_IMAGE:
        return []
    return list(zip((split.train, split.validation), input_sizes(recipe), strict=True))


def _near_duplicate_warnings(
    split: DataSplit, recipe: Recipe, num_folds: int | None, progress: Progress
) -> list[DataWarning]:
    """Count the images of drawn splits or folds with near duplicates on the other side.

    Small images are decoded once for this and for the training.
    """
    held_out = [images for images in (split.validation, split.hashed_test) if images.samples]
    if not num_folds and not any(sample.split in ("train", None) for each in held_out for sample in each.samples):
        return []  # named by the dataset, as the user wants them
    parts = (split.train, *held_out)
    everything = HashedSamples(
        tuple(sample for part in parts for sample in part.samples), tuple(key for part in parts for key in part.hashes)
    )
    num_train = len(split.train.samples)
    sides = group_names(everything) if num_folds else [row < num_train for row in range(len(everything.samples))]
    pairs = find_shifted_pairs(everything, progress, sides, _inputs(split, recipe))
    rows = sorted({int(row) for row in pairs.ravel() if num_folds or row >= num_train})
    members = connect(len(everything.samples), pairs.tolist())
    sizes = Counter(members)
    alike = {row for row in range(len(members)) if is_common_layout(sizes[members[row]], len(members))}
    names = tuple(everything.samples[row].name for row in rows if row not in alike)
    where = "images of other folds" if num_folds else "training images"
    message = (
        f"{count(len(names), 'held-out image is a near duplicate', 'held-out images are near duplicates')} of {where}: "
        "metrics are optimistic. If they show one scene or object, set `group_by` to 'near-duplicates'"
    )
    warnings = [DataWarning(message, names)] if names else []
    if alike:
        message = (
            f"{count(len(alike), 'image looks', 'images look')} alike, as documents of one layout or frames of one "
            "camera do. If they show few scenes, name the scenes in a column of a table, and give it as `group_by`"
        )
        warnings.append(DataWarning(message))
    return warnings
