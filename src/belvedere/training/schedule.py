"""How rates and picture sizes run over a training, and how many steps it has.

Knows arithmetic only.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from belvedere.training.recipes import Plan, Recipe

SIDE_STEP = 16  # pixels: the compact networks halve four times


def value_at(plan: Plan, share: float) -> float:
    """Returns a plan's value at a share of the training, 0 to 1."""
    places, values = zip(*plan, strict=True)
    return float(np.interp(share, places, values))


def size_at(plan: Plan, share: float) -> int:
    """Returns the side of the pictures at a share of the training: the plan's, to the nearest 16 pixels."""
    return max(2, round(value_at(plan, share) / SIDE_STEP)) * SIDE_STEP


@dataclass(frozen=True, slots=True)
class Steps:
    """The batches of a training: whole epochs, each of the same batches, and perhaps a part of one more."""

    bounds: tuple[tuple[int, int], ...]  # of each batch of an epoch: first and behind the last picture
    total: int

    @property
    def steps_per_epoch(self) -> int:
        """How many steps an epoch has."""
        return len(self.bounds)

    @property
    def epochs(self) -> int:
        """How many epochs are begun."""
        return -(-self.total // self.steps_per_epoch)

    def images_seen(self, step: int) -> int:
        """How many pictures the first so many steps take."""
        whole, rest = divmod(step, self.steps_per_epoch)
        return whole * self.bounds[-1][1] + (self.bounds[rest - 1][1] if rest else 0)


def count_steps(images: int, recipe: Recipe, processes: int = 1) -> Steps:
    """Divides epochs into batches.

    One picture has no variance for batch norm to divide by: fewer left over than two for each process join the batch
    before them.

    Args:
        images: How many there are to learn from, at least two.
        recipe: Says how many go into a batch, and how many epochs there are.
        processes: How many share a batch.
    """
    size = recipe.batch_size
    bounds = tuple(pairwise([0, *range(size, images - 2 * processes + 1, size), images]))
    return Steps(bounds, recipe.epochs * len(bounds))


def repeats_per_epoch(images: int, recipe: Recipe) -> int:
    """Returns how often an epoch shows each picture, so that few pictures make the recipe's least number of steps."""
    steps_per_epoch = -(-images // recipe.batch_size)
    return max(1, round(recipe.min_steps / (recipe.epochs * steps_per_epoch)))
