"""Finds classes that differ by their direction, such as arrows to the left and to the right.

A network that is trained on mirror images too answers an image and its mirror image alike, so it cannot separate such
classes, and its validation images say nothing about their mirror images. If two classes stay confused, a copy of the
network is trained for some steps without mirroring. If it separates them on the validation images, and fails on the
mirrored ones by more than chance (McNemar's exact test), direction matters.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.significance import mcnemar_exact
from belvedere.runtime.progress import ForwardedProgress
from belvedere.training.data_loader import ArrayDataset, ArrayLike, DataLoader
from belvedere.training.device import Runtime
from belvedere.training.loop import LoopConfig, predict_logits, run_loop
from belvedere.training.networks import Network
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import plan_batches, repeats_per_epoch
from belvedere.training.training_data import TrainingData
from belvedere.types.data import DataWarning

MIN_IMAGES = 8  # of two classes, among the validation images
MAX_PAIR_ACCURACY = 0.75  # of two classes that are confused
FEW_IMAGES, MAX_PAIR_ACCURACY_OF_FEW = 30, 0.85  # the best epoch is selected on them, so that few look better
MAX_P_VALUE = 0.01
MIN_STEPS, FRACTION = 300, 0.5  # of the training without mirroring, which never has more steps than the training

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]


class MirroredImages:
    """Mirror images of an array, (N, H, W, 3)."""

    def __init__(self, images: ArrayLike) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return some rows, mirrored."""
        return np.ascontiguousarray(self._images[rows][:, :, ::-1])


def direction_warnings(
    network: Network, data: TrainingData, recipe: Recipe, seed: int, runtime: Runtime
) -> tuple[DataWarning, ...]:
    """Return a warning about classes that a fitted network confuses since it was trained on mirror images.

    The network is on the device, and does not change. It takes no time unless two classes stay confused.
    """
    if not recipe.alternating_flip or not recipe.epochs or runtime.distributed.world_size > 1:
        return ()
    labels = data.validation.labels
    predicted = _predict(network, data.validation, runtime)
    confused = confused_pairs(predicted, labels)
    if not confused:
        return ()
    names = sorted({data.class_names[label] for pair in confused for label in pair})
    runtime.progress.log(f"Confused classes: {', '.join(names)}. Checking whether mirror images are the reason.")
    trained = _train_unmirrored(network, data, recipe, seed, runtime)
    plain = _predict(trained, data.validation, runtime) == labels
    images = replace(data.validation, images=MirroredImages(data.validation.images))
    mirrored = _predict(trained, images, runtime) == labels
    return describe_direction(predicted == labels, plain, mirrored, labels, confused, data.class_names)


def confused_pairs(predicted: Labels, labels: Labels) -> list[tuple[int, int]]:
    """Return the pairs of classes of which a network separates few images, by its predictions, (N,)."""
    matrix = np.zeros((max(labels.max(), predicted.max()) + 1,) * 2, np.intp)
    np.add.at(matrix, (labels, predicted), 1)
    totals, mistakes = matrix.sum(1), np.triu(matrix + matrix.T, 1)
    pairs = []
    for first, second in np.argwhere(mistakes).tolist():  # two classes without mistakes are separated
        right, wrong = matrix[first, first] + matrix[second, second], mistakes[first, second]
        of_both = totals[first] + totals[second]
        limit = MAX_PAIR_ACCURACY_OF_FEW if right + wrong < FEW_IMAGES else MAX_PAIR_ACCURACY
        if right + wrong >= max(MIN_IMAGES, of_both / 2) and right <= limit * (right + wrong):
            pairs.append((first, second))
    return pairs


def describe_direction(
    before: Bools,
    plain: Bools,
    mirrored: Bools,
    labels: Labels,
    confused: Sequence[tuple[int, int]],
    names: Sequence[str],
) -> tuple[DataWarning, ...]:
    """Compare which of N images are predicted correctly: by the network, and by one trained without mirroring.

    Args:
        before: (N,) by the network.
        plain: (N,) by the other network.
        mirrored: (N,) by the other network, of the mirror images.
        labels: (N,) classes.
        confused: Pairs of classes.
        names: Names of the classes.

    Returns:
        A warning if the other network is better than this one, and worse on mirror images by more than chance.
    """
    rows = np.isin(labels, [label for pair in confused for label in pair])
    before, plain, mirrored, labels = before[rows], plain[rows], mirrored[rows], labels[rows]
    gained, lost = int((~plain & mirrored).sum()), int((plain & ~mirrored).sum())
    if lost <= gained or mcnemar_exact(gained, lost) > MAX_P_VALUE or plain.mean() <= before.mean():
        return ()
    falling = [label for label in np.unique(labels) if plain[labels == label].mean() > mirrored[labels == label].mean()]
    classes = ", ".join(names[label] for label in falling)
    message = (
        f"Direction matters for the classes {classes}: on their validation images, a network trained without mirroring "
        f"has an accuracy of {plain.mean():.1%}, and of {mirrored.mean():.1%} when they are mirrored; this one has "
        f"{before.mean():.1%}. Use `horizontal_flip=false`"
    )
    return (DataWarning(message),)


class _Bars(ForwardedProgress):
    """Shows the bar of a training, without a line for each epoch."""

    def log(self, message: str) -> None:
        pass


def _predict(network: Network, dataset: ArrayDataset, runtime: Runtime) -> Labels:
    """Return the predicted classes of single views."""
    flip_tta, network.flip_tta = network.flip_tta, False
    try:
        logits = predict_logits(network, DataLoader(dataset, runtime.device), runtime)
        return np.asarray(logits.argmax(1), np.int64)
    finally:
        network.flip_tta = flip_tta


def _train_unmirrored(network: Network, data: TrainingData, recipe: Recipe, seed: int, runtime: Runtime) -> Network:
    """Train a copy of a network for some steps without mirroring."""
    trained = copy.deepcopy(network)
    trained.flip_tta = False
    recipe = replace(recipe, alternating_flip=False, mixup_prob=0.0, cutmix_prob=0.0)
    train = DataLoader(data.train, runtime.device, repeats_per_epoch(len(data.train.labels), recipe))
    batches = plan_batches(len(train), recipe, runtime.distributed.world_size)
    steps = max(min(MIN_STEPS, batches.total_steps), round(FRACTION * batches.total_steps))
    runtime = replace(runtime, progress=_Bars(runtime.progress))
    config = LoopConfig(recipe, replace(batches, total_steps=steps), seed, runtime)
    result = run_loop(trained, config, train, DataLoader(data.validation, runtime.device))
    trained.load_state_dict(result.weights or trained.state_dict())
    return trained
