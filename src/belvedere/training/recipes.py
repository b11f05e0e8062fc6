"""Recipes: everything that decides how a model is trained, as plain frozen records.

Knows the values; does not know what is done with them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train. Every field goes into the run's config.toml."""

    name: str
    network: str  # a name in networks.registry
    epochs: int
    batch_size: int
    learning_rate: float  # of Adam
    adam_epsilon: float
    l2: float  # added to the loss: l2 times the sum of squares of each of `l2_kernels`
    l2_kernels: tuple[str, ...]
    validation_share: float = 0.1  # of the training photographs, kept back to choose the epoch by
    test_share: float = 0.15  # of all photographs, kept back to report, where the data set has no test part


RECIPES = {
    "article": Recipe(
        name="article",
        network="article",
        epochs=30,
        batch_size=32,
        learning_rate=0.001,
        adam_epsilon=1e-7,
        l2=0.01,
        l2_kernels=("features.conv4.weight",),
    )
}
DEFAULT_RECIPE = "article"
