"""Out-of-fold probabilities from embeddings: linear probes, each asked only about pictures that it has not seen.

Knows numbers and labels; does not know what made the embeddings. Plain numpy, so that an audit needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.temperature_scaling import softmax

FOLDS = 5
PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of the mean loss: |weights|^2 / 2 times these, from strong to weak
USUAL_PENALTY = 0.01  # of a probe of which no choice is made
STEPS = 60
CURVATURE = 0.1  # of the loss along a direction of variance 1: p (1 - p) of a fairly sure answer
STEEPEST = 0.5  # the most it can be

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


def draw_folds(labels: Labels, groups: Sequence[object], seed: int, count: int = FOLDS) -> Rows:
    """Draws a fold for each picture: stratified, and what is of one group in one fold.

    Args:
        labels: (N,).
        groups: N names; copies of one picture have the same.
        seed: Of the draw.
        count: How many folds.

    Returns:
        (N,), 0 to `count` - 1.
    """
    first = {group: row for row, group in reversed(list(enumerate(groups)))}  # the row that a group is drawn by
    random = np.random.default_rng(seed)
    of_group: dict[object, int] = {}
    start = 0
    for label in np.unique(labels):
        rows = [row for row in first.values() if labels[row] == label]
        for place, row in enumerate(random.permutation(np.sort(np.array(rows, np.intp)))):
            of_group[groups[row]] = (start + place) % count  # goes on where the last class ended: small classes spread
        start += len(rows)
    return np.array([of_group[group] for group in groups], np.intp)


@dataclass(frozen=True)
class _Problem:
    """Embeddings in directions that do not correlate, which a probe is found in after few steps."""

    turned: Floats  # (N, D)
    variances: Floats  # (D,)
    targets: Floats  # (N, K)
    weights: Floats  # (N,) how much each picture counts

    def fit(self, rows: NDArray[np.bool_], penalty: float) -> tuple[Floats, Floats]:
        """Minimises mean cross-entropy and penalty by Nesterov's accelerated gradients: (D, K) and (K,)."""
        scale = 1 / np.sqrt(CURVATURE * self.variances + penalty)
        values, targets, counted = self.turned[rows] * scale, self.targets[rows], self.weights[rows]
        counted = (counted / counted.sum())[:, None].astype(np.float32)
        values = np.concatenate([values, np.full((len(values), 1), CURVATURE**-0.5, np.float32)], axis=1)
        decay = np.append(penalty * scale**2, 0).astype(np.float32)[:, None]
        layer = ahead = np.zeros((values.shape[1], targets.shape[1]), np.float32)
        rate = 1 / (STEEPEST / CURVATURE + 1)
        for step in range(STEPS):
            slope = values.T @ ((softmax(values @ ahead) - targets) * counted) + decay * ahead
            new = ahead - rate * slope
            ahead = new + step / (step + 3) * (new - layer)
            layer = new
        return layer[:-1] * scale[:, None], layer[-1] * np.float32(CURVATURE**-0.5)


def hold_out(
    embeddings: Floats,
    labels: Labels,
    folds: Rows,
    classes: int,
    weights: Floats | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Floats, float]:
    """Answers for every picture by a probe of the pictures in the other folds.

    Args:
        embeddings: (N, D).
        labels: (N,), 0 to K - 1.
        folds: (N,), of each picture.
        classes: K.
        weights: (N,), how much each picture counts in what is learnt; all alike without.
        penalties: To choose from, from strong to weak.

    Returns:
        Logits, (N, K), with the penalty whose probes did best on pictures that they had not seen, and that penalty.
    """
    turned, variances = _turn(embeddings)
    counted = np.ones(len(labels), np.float32) if weights is None else weights
    targets = np.eye(classes, dtype=np.float32)[labels]
    problem = _Problem(turned, variances, targets, counted)
    best, found, chosen = float("inf"), np.zeros((len(labels), classes), np.float32), penalties[0]
    for penalty in penalties:
        logits = np.empty((len(labels), classes), np.float32)
        for fold in np.unique(folds):
            layer, bias = problem.fit(folds != fold, penalty)
            logits[folds == fold] = problem.turned[folds == fold] @ layer + bias
        given = softmax(logits)[np.arange(len(labels)), labels]
        loss = float(-(counted * np.log(np.maximum(given, 1e-9))).mean())
        if loss > best:
            break
        best, found, chosen = loss, logits, penalty
    return found, chosen


def answer_others(
    embeddings: Floats, labels: Labels, others: Floats, classes: int, penalty: float = USUAL_PENALTY
) -> Floats:
    """Answers for some pictures by a probe of others.

    Args:
        embeddings: (N, D), which it learns from.
        labels: (N,), 0 to K - 1, of these.
        others: (M, D), which it is asked about.
        classes: K.
        penalty: As those of `PENALTIES`.

    Returns:
        Logits, (M, K).
    """
    turned, variances = _turn(np.concatenate([embeddings, others]))
    learnt = np.arange(len(turned)) < len(embeddings)
    targets = np.zeros((len(turned), classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    layer, bias = _Problem(turned, variances, targets, np.ones(len(turned), np.float32)).fit(learnt, penalty)
    answers: Floats = turned[~learnt] @ layer + bias
    return answers


def _turn(embeddings: Floats) -> tuple[Floats, Floats]:
    """Standardises embeddings and turns them into directions that do not correlate: (N, D), and their variances."""
    standard = embeddings - embeddings.mean(0)
    standard /= embeddings.std(0) + 1e-6
    variances, directions = np.linalg.eigh(standard.T @ standard / len(standard))
    return standard @ directions, np.maximum(variances, 0)
