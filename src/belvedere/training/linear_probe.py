"""A linear probe: multinomial logistic regression on embeddings, its strength chosen by cross-validation.

Knows numbers and labels; does not know where they are from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDS = 5
# From strong to weak: the penalty of the mean loss is |weights|^2 / 2 times these, over standardised embeddings.
PENALTIES = tuple(10.0**-exponent for exponent in np.arange(-0.5, 4.75, 0.5))
STRONGEST = 1500  # divided by N: the more photographs, the weaker the penalty they need
FALLBACK = 1e-2  # where every class has one photograph, and nothing can be kept back to choose by
ITERATIONS = 200
CURVATURE = 0.1  # of the loss along a direction of variance 1: p (1 - p) of a fairly sure answer
ROUGH, FINE = 1e-3, 1e-4  # largest gradient that may be left: to compare penalties, and in the end


@dataclass(frozen=True)
class Probe:
    """A linear layer, and what is known of it."""

    weight: NDArray[np.float32]  # (K, D)
    bias: NDArray[np.float32]  # (K,)
    penalty: float
    held_out: NDArray[np.float32] | None  # (N, K) logits of probes that had not seen the photograph; NaN without one


def fit_probe(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    classes: int,
    seed: int,
    targets: NDArray[np.float32] | None = None,
) -> Probe:
    """Fits a probe.

    Args:
        embeddings: (N, D).
        labels: (N,), 0 to K - 1, each at least once.
        groups: N names; what has the same name, such as copies of one file, stays in one fold.
        classes: K.
        seed: Of the folds.
        targets: (N, K), what is learnt in place of the labels, such as several to a photograph.

    Returns:
        The probe for all of it, with the penalty whose probes did best, by log loss, on photographs that they had not
        seen; and what those said.
    """
    mean, spread = embeddings.mean(0), embeddings.std(0) + 1e-6
    standard = torch.from_numpy((embeddings - mean) / spread)
    variances, directions = torch.linalg.eigh(standard.T @ standard / len(standard))
    problem = _Problem(
        standard @ directions, torch.from_numpy(labels if targets is None else targets), variances, classes
    )
    folds = draw_folds(labels, groups, seed)
    penalty, held_out = FALLBACK, None
    if folds is not None:
        penalty, held_out = _choose_penalty(problem, folds)
    weight, bias = problem.fit(penalty, problem.zeros(), FINE)
    weight = weight @ directions.T / torch.from_numpy(spread)  # what was done to the embeddings is now in the layer
    bias = bias - weight @ torch.from_numpy(mean)
    return Probe(weight.numpy(), bias.numpy(), penalty, held_out)


def draw_folds(labels: NDArray[np.int64], groups: Sequence[str], seed: int) -> NDArray[np.intp] | None:
    """Draws a fold for each photograph: stratified, each group in one of them.

    Args:
        labels: (N,).
        groups: N names.
        seed: Of the draw.

    Returns:
        (N,), 0 to 4, or fewer where a class has fewer groups. A class with one group can't be held out: -1. None where
        that is so of all.
    """
    first = {group: row for row, group in reversed(list(enumerate(groups)))}  # the row that a group is drawn by
    members = [np.array([row for row in first.values() if labels[row] == label]) for label in np.unique(labels)]
    several = [rows for rows in members if len(rows) > 1]
    if not several:
        return None
    count = min(FOLDS, *(len(rows) for rows in several))
    random = np.random.default_rng(seed)
    of_group = dict.fromkeys(first, -1)
    for rows in several:
        of_group |= {groups[row]: place % count for place, row in enumerate(random.permutation(np.sort(rows)))}
    return np.array([of_group[group] for group in groups], np.intp)


@dataclass(frozen=True)
class _Problem:
    """What is fitted, in directions that do not correlate: it has the same answer, and is found in fewer steps."""

    turned: Tensor  # (N, D)
    labels: Tensor  # (N,), or (N, K) where several are learnt
    variances: Tensor  # (D,) of `turned`
    classes: int  # K

    def zeros(self) -> tuple[Tensor, Tensor]:
        """A layer that knows nothing."""
        return torch.zeros(self.classes, self.turned.shape[1]), torch.zeros(self.classes)

    def part(self, rows: Tensor) -> "_Problem":
        """The same of some photographs."""
        return _Problem(self.turned[rows], self.labels[rows], self.variances, self.classes)

    def fit(self, penalty: float, start: tuple[Tensor, Tensor], tolerance: float) -> tuple[Tensor, Tensor]:
        """Minimises mean cross-entropy and penalty, which has one minimum, by L-BFGS from a start."""
        # About the curvature in each direction, so that a step is as good in all of them.
        scale = (CURVATURE * self.variances.clamp_min(0) + penalty).rsqrt()
        scaled = self.turned * scale
        weight, bias = (start[0] / scale).requires_grad_(), start[1].clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=ITERATIONS,
            tolerance_grad=tolerance,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def measure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(nn.functional.linear(scaled, weight, bias), self.labels)
            loss = loss + penalty / 2 * (weight * scale).square().sum()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(measure)  # type: ignore[no-untyped-call]
        return weight.detach() * scale, bias.detach()


def _choose_penalty(problem: _Problem, folds: NDArray[np.intp]) -> tuple[float, NDArray[np.float32]]:
    """From strong to weak, each starting where the stronger one came to, until it gets worse."""
    layers = [problem.zeros() for _ in range(folds.max() + 1)]
    best, penalty, held_out = float("inf"), PENALTIES[0], np.empty(0, np.float32)
    told = torch.from_numpy(folds >= 0)
    for tried in [each for each in PENALTIES if each < STRONGEST / len(problem.labels)]:
        logits = torch.full((len(problem.labels), problem.classes), torch.nan)
        for fold, layer in enumerate(layers):
            rows = torch.from_numpy(folds == fold)
            layers[fold] = problem.part(~rows).fit(tried, layer, ROUGH)
            logits[rows] = nn.functional.linear(problem.turned[rows], *layers[fold])
        loss = float(nn.functional.cross_entropy(logits[told], problem.labels[told]))
        if loss > best:
            break
        best, penalty, held_out = loss, tried, logits.numpy()
    return penalty, held_out
