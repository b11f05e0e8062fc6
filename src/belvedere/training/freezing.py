"""Freezing of the first blocks of a network."""

from torch import nn

from belvedere.errors import UsageError
from belvedere.training.networks.registry import Network


def freeze_blocks(network: Network, count: int, name: str) -> None:
    """Exclude the first blocks of a network from training: their weights and batch-norm statistics stay as they are.

    Args:
        network: Network.
        count: Number of blocks, counted by `Network.block_numbers`.
        name: Name of the network, for messages.

    Raises:
        UsageError: The network has no blocks, or no more than `count`.
    """
    if not count:
        return
    numbers = network.block_numbers()
    if not numbers:
        raise UsageError(f"`freeze` needs a network with blocks. {name!r} has none. Leave `freeze` out.")
    num_blocks = max(numbers.values()) + 1
    if count >= num_blocks:
        raise UsageError(
            f"`freeze` must be below {num_blocks}, the number of blocks of {name}. Received: {count}. "
            "To train the head alone, take the recipe 'probe'."
        )
    for parameter, weights in network.named_parameters():
        if numbers.get(parameter, count) < count:
            weights.requires_grad_(False)
    network.frozen_modules = tuple(module for module in network.modules() if _is_frozen(module))
    network.train(network.training)


def _is_frozen(module: nn.Module) -> bool:
    """Return whether a module has parameters, and none that is trained."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(weights.requires_grad for weights in parameters)
