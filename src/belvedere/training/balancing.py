"""Correction for unequal class sizes: weights of the classes in the loss, and balanced sampling."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.training.recipes import Recipe

BETA = 0.999  # of the effective number: classes of more than about 1 / (1 - BETA) images count alike


def class_weights(labels: NDArray[np.int64], num_classes: int, method: str) -> NDArray[np.float32] | None:
    """Return the weight of each class in the loss, (K,), whose mean over the images is 1.

    Args:
        labels: (N,), 0 to K - 1, each at least once.
        num_classes: K.
        method: "none"; "balanced": inverse to the number of images, as in scikit-learn; "effective": inverse to the
            effective number of images, (1 - BETA^n) / (1 - BETA) (Cui et al. 2019, https://arxiv.org/abs/1901.05555).

    Returns:
        The weights; None for "none".
    """
    if method == "none":
        return None
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    numbers = counts if method == "balanced" else (1 - BETA**counts) / (1 - BETA)
    weights = 1 / numbers
    normalized: NDArray[np.float32] = (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
    return normalized


def probe_weights(labels: NDArray[np.int64], num_classes: int, recipe: Recipe) -> NDArray[np.float32] | None:
    """Return the class weights of a linear probe, (K,), or None.

    A probe is fitted to all images at once: balanced sampling is, in the mean, the same as balanced weights.
    """
    method = "balanced" if recipe.sampling == "balanced" else recipe.class_weighting
    return class_weights(labels, num_classes, method)


def epoch_order(random: np.random.Generator, labels: NDArray[np.int64], size: int, sampling: str) -> NDArray[np.intp]:
    """Draw the order of the images in an epoch.

    Args:
        random: Generator; each epoch draws from it once.
        labels: (N,).
        size: Number of images in an epoch, a multiple of N: index i addresses image i % N.
        sampling: "uniform": each index once; "balanced": equally many of each class, each image of a class about
            equally often.

    Returns:
        (size,) indices below `size`.
    """
    if sampling == "uniform":
        return random.permutation(size)
    classes = np.unique(labels)
    all_labels = np.tile(labels, size // len(labels))
    quotas = np.full(len(classes), size // len(classes))
    quotas[random.permutation(len(classes))[: size % len(classes)]] += 1
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        rows = np.flatnonzero(all_labels == label)
        passes = [random.permutation(rows) for _ in range(-(-int(quota) // len(rows)))]
        chosen.append(np.concatenate([rows[:0], *passes])[:quota])
    return random.permutation(np.concatenate(chosen))


def weighted_mean(losses: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of losses, (n,), weighted by class, (K,), of the labels, (n,)."""
    return torch.mean(losses * weights[labels])
