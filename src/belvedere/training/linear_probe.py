"""Linear probe: multinomial logistic regression on embeddings; cross-validation chooses the penalty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from belvedere.data.splits import NUM_FOLDS, stratified_group_folds

# Strong to weak: factors of |weights|^2 / 2 in the mean loss, for standardized embeddings.
PENALTIES = tuple(10.0**-exponent for exponent in np.arange(-0.5, 4.75, 0.5))
MAX_PENALTY = 1500  # divided by N: more images need a weaker penalty
DEFAULT_PENALTY = 1e-2  # if each class has one group, so that no images can be held out
MAX_ITERATIONS = 200
CURVATURE = 0.1  # of the loss along a direction of variance 1: p (1 - p) of a fairly confident prediction
ROUGH_TOLERANCE, FINE_TOLERANCE = 1e-3, 1e-4  # of the largest gradient: to compare penalties, and of the result


@dataclass(frozen=True)
class Probe:
    """A linear layer and its cross-validation."""

    weight: NDArray[np.float32]  # (K, D)
    bias: NDArray[np.float32]  # (K,)
    penalty: float
    held_out: NDArray[np.float32] | None  # (N, K) out-of-fold logits; NaN for images of no fold


def fit_probe(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    num_classes: int,
    seed: int,
    targets: NDArray[np.float32] | None = None,
    class_weights: NDArray[np.float32] | None = None,
) -> Probe:
    """Fit a probe with the penalty of the lowest out-of-fold log loss.

    Args:
        embeddings: (N, D).
        labels: (N,), 0 to K - 1, each at least once.
        groups: N names; images of one name, such as copies of a file, are in one fold.
        num_classes: K.
        seed: Seed of the folds.
        targets: (N, K) probabilities to fit instead of the labels, such as those of several labels an image.
        class_weights: (K,) weights of the images in the loss, by label; default: 1.
    """
    mean, std = embeddings.mean(0), embeddings.std(0) + 1e-6
    centered = embeddings - mean
    centered /= std  # in place: with a million images, each copy takes gigabytes
    standardized = torch.from_numpy(centered)
    variances, directions = torch.linalg.eigh(standardized.T @ standardized / len(standardized))
    problem = _Problem(
        standardized @ directions,
        torch.from_numpy(labels if targets is None else targets),
        variances,
        num_classes,
        None if class_weights is None else torch.from_numpy(class_weights[labels]),
    )
    del centered, standardized
    folds = draw_folds(labels, groups, seed)
    penalty, held_out = DEFAULT_PENALTY, None
    if folds is not None:
        penalty, held_out = _choose_penalty(problem, folds)
    weight, bias = problem.fit(penalty, problem.zeros(), FINE_TOLERANCE)
    weight = weight @ directions.T / torch.from_numpy(std)  # of embeddings as they are
    bias = bias - weight @ torch.from_numpy(mean)
    return Probe(weight.numpy(), bias.numpy(), penalty, held_out)


def draw_folds(labels: NDArray[np.int64], groups: Sequence[str], seed: int) -> NDArray[np.intp] | None:
    """Draw folds that each class with several groups is in; -1 for a class with one group, None if all have one."""
    _, first, group = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    num_groups = np.bincount(labels[first])
    several = num_groups[num_groups > 1]
    if not len(several):
        return None
    folds = stratified_group_folds(labels, groups, seed, min(NUM_FOLDS, int(several.min())), rotate=False)
    folds[(num_groups[labels[first]] == 1)[group]] = -1
    return folds


@dataclass(frozen=True)
class _Problem:
    """Embeddings along their principal directions: the minimum is the same and needs fewer steps."""

    embeddings: Tensor  # (N, D)
    targets: Tensor  # (N,) labels or (N, K) probabilities
    variances: Tensor  # (D,) of the embeddings
    num_classes: int  # K
    weights: Tensor | None = None  # (N,) of the images in the loss; None: 1

    def zeros(self) -> tuple[Tensor, Tensor]:
        """Return a layer of zeros."""
        return torch.zeros(self.num_classes, self.embeddings.shape[1]), torch.zeros(self.num_classes)

    def select(self, rows: Tensor) -> "_Problem":
        weights = None if self.weights is None else self.weights[rows]
        return _Problem(self.embeddings[rows], self.targets[rows], self.variances, self.num_classes, weights)

    def loss(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy of logits, (N, K), of all images or of those that a mask (N,) selects."""
        problem = self if rows is None else self.select(rows)
        logits = logits if rows is None else logits[rows]
        if problem.weights is None:
            return nn.functional.cross_entropy(logits, problem.targets)
        return (nn.functional.cross_entropy(logits, problem.targets, reduction="none") * problem.weights).mean()

    def fit(self, penalty: float, start: tuple[Tensor, Tensor], tolerance: float) -> tuple[Tensor, Tensor]:
        """Minimize mean cross-entropy and penalty, a convex function, by L-BFGS."""
        # Division by the root of the curvature in each direction makes a step equally good in all of them.
        scale = (CURVATURE * self.variances.clamp_min(0) + penalty).rsqrt()
        scaled = self.embeddings * scale
        weight, bias = (start[0] / scale).requires_grad_(), start[1].clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=tolerance,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(nn.functional.linear(scaled, weight, bias))
            loss = loss + penalty / 2 * (weight * scale).square().sum()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return weight.detach() * scale, bias.detach()


def _choose_penalty(problem: _Problem, folds: NDArray[np.intp]) -> tuple[float, NDArray[np.float32]]:
    """Try penalties from strong to weak until the loss rises, each from the layers of the one before."""
    layers = [problem.zeros() for _ in range(folds.max() + 1)]
    best, best_penalty, held_out = float("inf"), PENALTIES[0], np.empty(0, np.float32)
    in_fold = torch.from_numpy(folds >= 0)
    for penalty in [each for each in PENALTIES if each < MAX_PENALTY / len(problem.targets)]:
        logits = torch.full((len(problem.targets), problem.num_classes), torch.nan)
        for fold, layer in enumerate(layers):
            rows = torch.from_numpy(folds == fold)
            layers[fold] = problem.select(~rows).fit(penalty, layer, ROUGH_TOLERANCE)
            logits[rows] = nn.functional.linear(problem.embeddings[rows], *layers[fold])
        loss = float(problem.loss(logits, in_fold))
        if loss > best:
            break
        best, best_penalty, held_out = loss, penalty, logits.numpy()
    return best_penalty, held_out
