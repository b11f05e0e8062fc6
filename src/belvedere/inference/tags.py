"""Tags: all classes that are present in an image, with area fraction and confidence, from class activation maps.

A tag model can be fitted on images with a single label each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import sigmoid, softmax
from belvedere.types.data import Sample
from belvedere.types.model import TagModel
from belvedere.types.prediction import Tag

ActivationMaps = NDArray[np.float32]  # (N, K, h, w): logits by position; their spatial mean is the image's logits

TOP_FRACTION = 0.4  # of the positions, pooled into a class's activation
TAG_THRESHOLD = 0.5  # least confidence of a tag
NUM_COMPOSITES = 4000  # of two images each
MIN_COMPOSITE_FRACTION = 0.1  # of a composite for either image
MIN_IMAGES = 30  # to fit a tag model
L2_PENALTY = 1.0  # on the change of a tag model by multi-label data, in standard deviations of the activations
MIN_MULTILABEL_FRACTION = 0.1  # of images with several labels, below which labels count as incomplete
MIN_AREA_FRACTION = 0.01  # of a tag that is the strongest class nowhere
ABSENT_BIAS = -20.0  # of a class without images
MAX_NEWTON_STEPS = 100


def top_k_mean(maps: ActivationMaps) -> NDArray[np.float32]:
    """Return the mean of each class's strongest activations, (N, K)."""
    flat = maps.reshape(*maps.shape[:2], -1)
    count = max(1, round(flat.shape[2] * TOP_FRACTION))
    return np.asarray(np.partition(flat, -count, axis=2)[..., -count:].mean(2), np.float32)


def area_fractions(maps: ActivationMaps, temperature: float) -> NDArray[np.float32]:
    """Return the fraction of each image that each class covers, (N, K): the mean of the softmax by position."""
    return np.asarray(softmax(maps / temperature).mean((2, 3)), np.float32)


def is_multilabel_data(present: NDArray[np.bool_]) -> bool:
    """Return whether labels, (N, K), are complete: if few images have several labels, others are probably missing."""
    return len(present) > 0 and float((present.sum(1) > 1).mean()) >= MIN_MULTILABEL_FRACTION


def multi_hot(samples: Sequence[Sample], class_names: Sequence[str]) -> NDArray[np.bool_]:
    """Return the labels of samples as (N, K); labels that are not among the class names are ignored."""
    index = {name: k for k, name in enumerate(class_names)}
    present = np.zeros((len(samples), len(class_names)), bool)
    for row, sample in enumerate(samples):
        present[row, [index[label] for label in (sample.label, *sample.extra_labels) if label in index]] = True
    return present


def fit_tags(maps: ActivationMaps, present: NDArray[np.bool_], seed: int = 0) -> TagModel | None:
    """Fit a tag model on images with a single label each.

    Composites of two images contain both classes; one logistic regression per class is fitted on the activations of
    4000 such composites. They may contain unlabeled classes as well (positive-unlabeled data), so the fitted
    probabilities are too low: half of the mean probability over positive composites becomes the new 0.5 point (Elkan
    and Noto 2008, https://doi.org/10.1145/1401890.1401920).

    Args:
        maps: Class activation maps of held-out images, (N, K, h, w).
        present: Their labels, (N, K).
        seed: Seed for the composites.

    Returns:
        The tag model; None for fewer than 30 images, or maps with a single position.
    """
    if len(present) < MIN_IMAGES or maps.shape[2] * maps.shape[3] == 1:
        return None
    activations, labels = _compose(maps, present, np.random.default_rng(seed))
    scales, biases = [], []
    for column, positive in zip(activations.T, labels.T, strict=True):
        scale, bias = 0.0, ABSENT_BIAS
        if positive.any() and not positive.all():
            weights, bias = _fit_logistic(column[:, None], positive, np.zeros(1), 1e-2)
            scale = float(weights[0])
            half = sigmoid(column[positive] * scale + bias).mean() / 2
            bias -= float(np.log(half / (1 - half)))
        scales.append(scale)
        biases.append(bias)
    return TagModel(tuple(scales), tuple(biases), num_images=len(present))


def identity_tag_model(num_classes: int) -> TagModel:
    """Return an unfitted tag model: scale 1, bias 0."""
    return TagModel((1.0,) * num_classes, (0.0,) * num_classes)


def fit_tags_multilabel(initial: TagModel, maps: ActivationMaps, present: NDArray[np.bool_]) -> TagModel:
    """Fit a tag model on images with all their labels, including weights between classes.

    Args:
        initial: A tag model, towards which the L2 penalty pulls.
        maps: Class activation maps, (N, K, h, w).
        present: Labels, (N, K).

    Returns:
        The tag model; classes that all or none of the images have keep their weights.
    """
    activations = top_k_mean(maps).astype(np.float64)
    std = activations.std(0) + 1e-6  # (K,)
    bias = list(initial.bias)
    cross = np.array(initial.cross_class_weights) if initial.cross_class_weights else 0.0
    weights = np.diag(initial.scale) + cross  # (K, K)
    for k, positive in enumerate(present.T):
        if positive.all() or not positive.any():
            continue
        fitted, bias[k] = _fit_logistic(activations / std, positive, weights[k] * std, L2_PENALTY)
        weights[k] = fitted / std
    cross = weights * ~np.eye(len(weights), dtype=bool)
    return TagModel(
        tuple(weights.diagonal().tolist()),
        tuple(bias),
        tuple(map(tuple, cross.tolist())),
        num_images=len(present),
        is_multilabel=True,
    )


def tag_confidences(model: TagModel, maps: ActivationMaps) -> NDArray[np.float64]:
    """Return the probability that each class is present, (N, K)."""
    activations = top_k_mean(maps).astype(np.float64)
    logits = activations * np.array(model.scale) + np.array(model.bias)
    if model.cross_class_weights:
        logits += activations @ np.array(model.cross_class_weights).T
    return sigmoid(logits)


def choose_tags(
    confidences: NDArray[np.float64],
    fractions: NDArray[np.float32],
    predicted: NDArray[np.intp],
    class_names: Sequence[str],
) -> list[tuple[Tag, ...]]:
    """Return the tags of each image: the predicted class, then the others by area; the areas add up to 1.

    Args:
        confidences: (N, K), from `tag_confidences`.
        fractions: (N, K), from `area_fractions`.
        predicted: (N,), the predicted classes, which are always tags.
        class_names: K names.
    """
    rows = np.arange(len(predicted))
    chosen = confidences >= TAG_THRESHOLD
    chosen[rows, predicted] = True
    areas = np.where(chosen, np.maximum(fractions, MIN_AREA_FRACTION), 0.0)
    areas /= areas.sum(1, keepdims=True)
    ranks = areas.copy()
    ranks[rows, predicted] = 2.0  # over any fraction
    order = np.argsort(-ranks, 1, kind="stable")
    return [
        tuple(Tag(class_names[k], float(areas[row, k]), float(confidences[row, k])) for k in order[row, :count])
        for row, count in enumerate(chosen.sum(1))
    ]


def _compose(
    maps: ActivationMaps, present: NDArray[np.bool_], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return pooled activations and labels of composites of two images, both (NUM_COMPOSITES, K)."""
    pairs = random.integers(len(present), size=(NUM_COMPOSITES, 2))
    fractions = random.uniform(MIN_COMPOSITE_FRACTION, 1 - MIN_COMPOSITE_FRACTION, NUM_COMPOSITES)
    side_by_side = random.random(NUM_COMPOSITES) < 0.5
    activations = np.empty((NUM_COMPOSITES, maps.shape[1]))
    for row, ((first, second), fraction) in enumerate(zip(pairs, fractions, strict=True)):
        composite = np.array(maps[first])
        axis = 2 if composite.shape[1] == 1 or (side_by_side[row] and composite.shape[2] > 1) else 1
        cut = min(max(round(fraction * composite.shape[axis]), 1), composite.shape[axis] - 1)
        region = (slice(None),) * axis + (slice(cut, None),)
        composite[region] = maps[second][region]
        activations[row] = top_k_mean(composite[None])[0]
    return activations, present[pairs[:, 0]] | present[pairs[:, 1]]


def _fit_logistic(
    inputs: NDArray[np.float64], labels: NDArray[np.bool_], initial: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], float]:
    """Return weights, (F,), and bias of a logistic regression with an L2 penalty on the distance from `initial`."""
    inputs = np.c_[inputs, np.ones(len(inputs))]  # (N, F + 1)
    penalties = np.r_[np.full(len(initial), penalty), 1e-6]  # almost none on the bias
    start = np.r_[initial, 0.0]

    def loss(weights: NDArray[np.float64]) -> float:
        logits = inputs @ weights
        cross_entropy = np.logaddexp(0, np.where(labels, -logits, logits)).sum()
        return float(cross_entropy + (penalties * (weights - start) ** 2).sum() / 2)

    weights, lowest = start, loss(start)
    for _ in range(MAX_NEWTON_STEPS):
        probabilities = sigmoid(inputs @ weights)
        gradient = inputs.T @ (probabilities - labels) + penalties * (weights - start)
        variance = probabilities * (1 - probabilities)
        hessian = (inputs * variance[:, None]).T @ inputs + np.diag(penalties + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        while loss(weights - length * step) > lowest and length > 1e-6:
            length /= 2  # a whole step overshoots where the curvature is flat
        weights = weights - length * step
        decrease, lowest = lowest - loss(weights), loss(weights)
        if decrease < 1e-9 * max(1.0, lowest):
            break
    return weights[:-1], float(weights[-1])
