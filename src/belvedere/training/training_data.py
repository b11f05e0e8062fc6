"""Decoded images and targets of a training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from belvedere.data.hashing import HashedSamples
from belvedere.data.image_cache import CachedImages, ImageArray, read_image_array
from belvedere.data.splits import DataSplit
from belvedere.errors import TrainingError
from belvedere.runtime.terminal import count
from belvedere.training.data_loader import ArrayDataset
from belvedere.training.device import Runtime
from belvedere.training.distillation import UNLABELED, Teacher, load_teacher, multilabel_targets, unlabeled_warnings
from belvedere.training.networks import architecture_for
from belvedere.training.recipes import Recipe
from belvedere.types.data import DataWarning, Sample
from belvedere.types.model import Preprocess

NO_IMAGES = HashedSamples((), ())


@dataclass(frozen=True)
class TrainingData:
    """Images to train on and to validate on."""

    class_names: tuple[str, ...]
    train: ArrayDataset
    validation: ArrayDataset
    validation_samples: tuple[Sample, ...]  # of the rows of `validation`
    labeled: HashedSamples  # training images with a label
    preprocess: Preprocess  # input of the network
    num_images: dict[str, int]  # by split
    warnings: tuple[DataWarning, ...]
    teacher: str = ""  # name and hash, for the model card


def load_training_data(
    split: DataSplit,
    recipe: Recipe,
    class_names: tuple[str, ...],
    runtime: Runtime,
    *,
    unlabeled: HashedSamples = NO_IMAGES,
    deadline: float | None = None,
) -> TrainingData:
    """Decode the images of a split and, with a teacher, compute its predictions for them.

    Images and predictions are cached; the main process fills the cache, the others read it. The unlabeled images are
    trained on with the predictions of the teacher, which the deadline, by `time.perf_counter()`, limits.

    Raises:
        TrainingError: A class has no readable training image, or no validation image is readable.
        UsageError: The teacher is not a run, has other classes, or is too slow for the deadline.
    """
    source, size = input_sizes(recipe)
    teacher = load_teacher(recipe, class_names, runtime.device)
    joined = HashedSamples(split.train.samples + unlabeled.samples, split.train.hashes + unlabeled.hashes)
    with runtime.distributed.main_process_first():
        pixels = read_image_array(joined, source, runtime.progress)
        held_out = read_image_array(split.validation, size, runtime.progress)
    warnings = split.warnings + read_warnings(pixels, held_out) + unlabeled_warnings(unlabeled)
    runtime.progress.log_warnings(warnings)
    targets = multilabel_targets(pixels.samples, class_names, recipe.label_smoothing)
    train = replace(_to_dataset(pixels, class_names), targets=targets)
    validation = _to_dataset(held_out, class_names)
    if teacher is not None:
        train = _with_soft_targets(train, pixels, teacher, source, runtime, deadline)
    check_classes(train.labels, class_names)
    if not len(validation.labels):
        raise TrainingError("None of the validation images can be read. Add more images.")
    num_unlabeled = sum(sample.label == UNLABELED for sample in pixels.samples)
    num_images = {
        "train": len(pixels.samples) - num_unlabeled,
        **({"unlabeled": num_unlabeled} if num_unlabeled else {}),
        "validation": len(held_out.samples),
        "test": len(split.test),
    }
    # Without its folder: a model card must not contain paths of this machine.
    name = f"{Path(recipe.teacher).name}, SHA-256 {teacher.sha256}" if teacher else ""
    return TrainingData(class_names, train, validation, held_out.samples, split.train, size, num_images, warnings, name)


def input_sizes(recipe: Recipe) -> tuple[Preprocess, Preprocess]:
    """Return the size at which training images are decoded, and the input of the network, that of the others."""
    size = source = architecture_for(recipe).preprocess
    if recipe.image_size_schedule:  # crops are taken from a larger image
        source = replace(size, height=recipe.cached_image_size, width=recipe.cached_image_size)
    return source, size


def read_warnings(*splits: CachedImages) -> tuple[DataWarning, ...]:
    """Return warnings about images that cannot be read and about those read with a warning."""
    unreadable = tuple(f"{sample.name}: {reason}" for split in splits for sample, reason in split.unreadable)
    others = tuple(f"{sample.name}: {warning}" for split in splits for sample, warning in split.with_warnings)
    warnings = {f"{count(len(unreadable), 'image')} left out: cannot be read": unreadable}
    warnings[f"{count(len(others), 'image')} read with a warning"] = others
    return tuple(DataWarning(message, names) for message, names in warnings.items() if names)


def check_classes(labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Check that every class has a training image.

    Raises:
        TrainingError: A class has none.
    """
    for index, name in enumerate(class_names):
        if not np.any(labels == index):
            raise TrainingError(f"No training image of the class {name!r} can be read. Add some, or remove the class.")


def _to_dataset(pixels: ImageArray, class_names: Sequence[str]) -> ArrayDataset:
    index = {name: number for number, name in enumerate(class_names)} | {UNLABELED: -1}
    return ArrayDataset(pixels.images, np.array([index[sample.label] for sample in pixels.samples], np.int64))


def _with_soft_targets(
    train: ArrayDataset,
    pixels: ImageArray,
    teacher: Teacher,
    source: Preprocess,
    runtime: Runtime,
    deadline: float | None,
) -> ArrayDataset:
    left = None if deadline is None else deadline - perf_counter()
    num_crops = runtime.distributed.broadcast(teacher.count_crops(len(train.labels), left))
    contents = HashedSamples(pixels.samples, pixels.hashes)
    with runtime.distributed.main_process_first():
        soft = teacher.make_soft_targets(contents, source, num_crops, train.labels, train.targets, runtime.progress)
    predicted = soft.targets.sum(1).argmax(1)
    return ArrayDataset(train.images, np.where(train.labels < 0, predicted, train.labels), soft_targets=soft)
