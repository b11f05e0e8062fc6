"""The networks that Belvedere trains, by name."""

from belvedere.records import Layer
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.compact import CompactNetwork
from belvedere.training.networks.registry import NETWORKS, Network, NetworkEntry, find_network, list_layers

__all__ = [
    "NETWORKS",
    "ArticleNetwork",
    "CompactNetwork",
    "Network",
    "NetworkEntry",
    "describe_network",
    "find_network",
    "list_layers",
]


def describe_network(name: str, classes: int) -> tuple[NetworkEntry, tuple[Layer, ...]]:
    """Describes a network that has not been trained.

    Args:
        name: Its name in the registry.
        classes: K, how many classes it shall tell apart.

    Returns:
        What the registry says of it, and its layer table.

    Raises:
        UnknownName: There is no network of that name.
    """
    entry = find_network(name)
    return entry, list_layers(entry.create(classes), entry.preprocess)
