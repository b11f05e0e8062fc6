"""Learning rate, image size and number of steps over a training."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from belvedere.training.recipes import Recipe, Schedule

SIZE_MULTIPLE = 16  # pixels; the compact networks halve the size four times
NUM_SAMPLES = 50  # positions at which an image size schedule is sampled


def value_at(schedule: Schedule, fraction: float) -> float:
    """Return the value of a schedule at a fraction of the training, 0 to 1."""
    positions, values = zip(*schedule, strict=True)
    return float(np.interp(fraction, positions, values))


def size_at(schedule: Schedule, fraction: float) -> int:
    """Return the image size at a fraction of the training, rounded to a multiple of 16 pixels."""
    return max(2, round(value_at(schedule, fraction) / SIZE_MULTIPLE)) * SIZE_MULTIPLE


def sizes_of(schedule: Schedule) -> set[int]:
    """Return the image sizes that a schedule has; empty without one."""
    return {size_at(schedule, fraction) for fraction in np.linspace(0, 1, NUM_SAMPLES)} if schedule else set()


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batches of a training: the same ones in every epoch; the last epoch may be incomplete."""

    bounds: tuple[tuple[int, int], ...]  # of each batch of an epoch: first image, and the one after the last
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return len(self.bounds)

    @property
    def epochs(self) -> int:
        """Number of epochs, the incomplete one included."""
        return -(-self.total_steps // self.steps_per_epoch)

    def images_seen(self, step: int) -> int:
        """Return the number of images in the first `step` steps."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self.bounds[-1][1] + (self.bounds[rest - 1][1] if rest else 0)


def plan_batches(num_images: int, recipe: Recipe, world_size: int = 1) -> BatchPlan:
    """Divide the epochs of a recipe into batches of at least 2 images, each shared by `world_size` processes.

    A rest of fewer than two images for each process joins the batch before it, since batch norm needs a variance.
    """
    size = recipe.batch_size
    bounds = tuple(pairwise([0, *range(size, num_images - 2 * world_size + 1, size), num_images]))
    return BatchPlan(bounds, recipe.epochs * len(bounds))


def repeats_per_epoch(num_images: int, recipe: Recipe) -> int:
    """Return how often an epoch repeats each image to reach the minimum number of steps of a recipe.

    The repeated images fill whole batches, also where one pass would not fill the first.
    """
    return max(1, round(recipe.min_steps * recipe.batch_size / (recipe.epochs * num_images)))
