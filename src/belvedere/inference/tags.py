"""What else is in a picture: classes with the share they cover and how sure that is, from evidence by place.

Knows evidence and labels; does not know networks or files. A tag can be learnt from photographs with one label each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.types.data import Sample
from belvedere.types.model import TagModel
from belvedere.types.prediction import Tag

Evidence = NDArray[np.float32]  # (N, K, h, w): the logits of each place, whose mean is the picture's

STRONGEST = 0.4  # of the places speak for a class
PRESENT = 0.5  # least confidence of a tag
NUM_COMPOSITES = 4000  # of two photographs each, to learn from what a part of a picture looks like
SMALLEST_PART = 0.1  # of a composite
LEAST_FITTED_ON = 30  # photographs
PENALTY = 1.0  # on how far photographs with several labels move the rule, in units of their evidence's deviations
MIN_MULTILABEL_FRACTION = 0.1  # of photographs have several labels where the others may have more than they say
LEAST_SHARE = 0.01  # of a picture, for what is surely there and nowhere the strongest
NEVER = -20.0  # the bias of a class that is no tag
NEWTON_STEPS = 100


def top_k_mean(evidence: Evidence) -> NDArray[np.float32]:
    """Returns how strongly the places that speak for a class do so, (N, K)."""
    flat = evidence.reshape(*evidence.shape[:2], -1)
    count = max(1, round(flat.shape[2] * STRONGEST))
    return np.asarray(np.partition(flat, -count, axis=2)[..., -count:].mean(2), np.float32)


def area_fractions(evidence: Evidence, temperature: float) -> NDArray[np.float32]:
    """Returns the share of a picture that each class covers, (N, K), each place divided among the classes."""
    scaled = evidence / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray((powers / powers.sum(1, keepdims=True)).mean((2, 3)), np.float32)


def is_multilabel_data(present: NDArray[np.bool_]) -> bool:
    """Whether labels, (N, K), are all that is in the photographs: where few have several, the others hold more."""
    return len(present) > 0 and float((present.sum(1) > 1).mean()) >= MIN_MULTILABEL_FRACTION


def multi_hot(samples: Sequence[Sample], class_names: Sequence[str]) -> NDArray[np.bool_]:
    """Marks the labels of samples, (N, K); labels that are no class are left out."""
    index = {name: place for place, name in enumerate(class_names)}
    present = np.zeros((len(samples), len(class_names)), bool)
    for row, sample in enumerate(samples):
        present[row, [index[label] for label in (sample.label, *sample.also) if label in index]] = True
    return present


def fit_tags(evidence: Evidence, present: NDArray[np.bool_], seed: int = 0) -> TagModel | None:
    """Learns from photographs of which one label is known when a class is in a picture.

    Two photographs put side by side hold both classes: on such composites a logistic regression a class is fitted to
    the evidence. A composite may hold more than its two labels say, so that the regression gives less than 1 to what is
    surely there: half of its mean over the composites that name a class is as good as even (Elkan and Noto 2008,
    https://doi.org/10.1145/1401890.1401920).

    Args:
        evidence: (N, K, h, w), best of photographs that were not learnt from.
        present: (N, K), the label that each has, or the labels.
        seed: Of the draw.

    Returns:
        The rule; None where there are fewer than 30 photographs, or the network tells no places.
    """
    if len(present) < LEAST_FITTED_ON or evidence.shape[2] * evidence.shape[3] == 1:
        return None
    pooled, held = _compose(evidence, present, np.random.default_rng(seed))
    scales, biases = [], []
    for column, named in zip(pooled.T, held.T, strict=True):
        scale, bias = 0.0, NEVER  # where nobody has seen the class
        if named.any() and not named.all():
            weights, bias = _fit_logistic(column[:, None], named, np.zeros(1), 1e-2)
            scale = float(weights[0])
            even = _logistic(column[named] * scale + bias).mean() / 2
            bias -= float(np.log(even / (1 - even)))
        scales.append(scale)
        biases.append(bias)
    return TagModel(tuple(scales), tuple(biases), fitted_on=len(present))


def identity_tag_model(classes: int) -> TagModel:
    """A rule that nothing has been fitted to: as sure of each class as its evidence is strong."""
    return TagModel((1.0,) * classes, (0.0,) * classes)


def fit_tags_multilabel(rule: TagModel, evidence: Evidence, present: NDArray[np.bool_]) -> TagModel:
    """Fits a rule to photographs of which all labels are known.

    What classes say of each other is learnt as well, such as that a street has buildings.

    Args:
        rule: What was learnt from single labels, from which as little is moved as the photographs ask for.
        evidence: (N, K, h, w).
        present: (N, K), the classes that are there.

    Returns:
        The rule; classes that are in all of the photographs, or none, stay as they were.
    """
    pooled = top_k_mean(evidence).astype(np.float64)
    spread = pooled.std(0) + 1e-6  # (K,)
    biases = list(rule.biases)
    weights = np.diag(rule.scales) + (np.array(rule.context) if rule.context else 0.0)  # (K, K)
    for place, there in enumerate(present.T):
        if there.all() or not there.any():
            continue
        after, biases[place] = _fit_logistic(pooled / spread, there, weights[place] * spread, PENALTY)
        weights[place] = after / spread
    context = weights * ~np.eye(len(weights), dtype=bool)
    return TagModel(
        tuple(float(scale) for scale in weights.diagonal()),
        tuple(biases),
        tuple(tuple(float(value) for value in row) for row in context),
        fitted_on=len(present),
        several_labels=True,
    )


def tag_confidences(rule: TagModel, evidence: Evidence) -> NDArray[np.float64]:
    """Returns how sure it is that each class is in the picture, (N, K)."""
    pooled = top_k_mean(evidence).astype(np.float64)
    sums = pooled * np.array(rule.scales) + np.array(rule.biases)
    if rule.context:
        sums += pooled @ np.array(rule.context).T
    return _logistic(sums)


def choose_tags(
    confidences: NDArray[np.float64], shares: NDArray[np.float32], main: NDArray[np.intp], class_names: Sequence[str]
) -> list[tuple[Tag, ...]]:
    """Names what is in pictures.

    Args:
        confidences: (N, K), that each class is there.
        shares: (N, K), of the picture, as `area_fractions` gives them.
        main: (N,), the class that each is answered as: always a tag, and the first.
        class_names: K names.

    Returns:
        The tags of each picture: the main class, then the others by their share; the shares add up to 1.
    """
    rows = np.arange(len(main))
    chosen = confidences >= PRESENT
    chosen[rows, main] = True
    covered = np.where(chosen, np.maximum(shares, LEAST_SHARE), 0.0)
    covered /= covered.sum(1, keepdims=True)
    ranks = covered.copy()
    ranks[rows, main] = 2.0  # over any share
    order = np.argsort(-ranks, 1, kind="stable")
    return [
        tuple(Tag(class_names[k], float(covered[row, k]), float(confidences[row, k])) for k in order[row, :count])
        for row, count in enumerate(chosen.sum(1))
    ]


def _compose(
    evidence: Evidence, labels: NDArray[np.bool_], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return pooled evidence of pairs of images, (NUM_COMPOSITES, K), and which classes each pair has."""
    pairs = random.integers(len(labels), size=(NUM_COMPOSITES, 2))
    shares = random.uniform(SMALLEST_PART, 1 - SMALLEST_PART, NUM_COMPOSITES)
    beside = random.random(NUM_COMPOSITES) < 0.5
    pooled = np.empty((NUM_COMPOSITES, evidence.shape[1]))
    for row, ((first, second), share) in enumerate(zip(pairs, shares, strict=True)):
        composite = np.array(evidence[first])
        side = 2 if composite.shape[1] == 1 or (beside[row] and composite.shape[2] > 1) else 1
        cut = min(max(round(share * composite.shape[side]), 1), composite.shape[side] - 1)
        part = (slice(None), slice(cut, None)) if side == 1 else (slice(None), slice(None), slice(cut, None))
        composite[part] = evidence[second][part]
        pooled[row] = top_k_mean(composite[None])[0]
    return pooled, labels[pairs[:, 0]] | labels[pairs[:, 1]]


def _fit_logistic(
    values: NDArray[np.float64], truth: NDArray[np.bool_], before: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], float]:
    """Weights, (F,), and bias of a logistic regression pulled towards weights known before, by Newton's method."""
    inputs = np.c_[values, np.ones(len(values))]  # (N, F + 1)
    pull = np.r_[np.full(len(before), penalty), 1e-6]  # the bias is free
    start = np.r_[before, 0.0]

    def loss(weights: NDArray[np.float64]) -> float:
        sums = inputs @ weights
        return float(np.logaddexp(0, np.where(truth, -sums, sums)).sum() + (pull * (weights - start) ** 2).sum() / 2)

    weights, lowest = start, loss(start)
    for _ in range(NEWTON_STEPS):
        found = _logistic(inputs @ weights)
        gradient = inputs.T @ (found - truth) + pull * (weights - start)
        curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs + np.diag(pull + 1e-9)
        step = np.linalg.solve(curvature, gradient)
        length = 1.0
        while loss(weights - length * step) > lowest and length > 1e-6:
            length /= 2  # where the curvature is flat a whole step goes too far
        weights = weights - length * step
        gained, lowest = lowest - loss(weights), loss(weights)
        if gained < 1e-9 * max(1.0, lowest):
            break
    return weights[:-1], float(weights[-1])


def _logistic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
