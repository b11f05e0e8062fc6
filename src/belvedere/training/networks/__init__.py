"""The networks that Belvedere trains, by name."""

from belvedere.errors import UnknownName
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.backbones import BACKBONES, list_backbones
from belvedere.training.networks.compact import CompactNetwork
from belvedere.training.networks.registry import NETWORKS, Network, NetworkEntry, find_network, list_layers
from belvedere.training.networks.timm_backbone import PretrainedNetwork, find_backbone
from belvedere.training.recipes import Recipe
from belvedere.types.model import Layer

__all__ = [
    "BACKBONES",
    "NETWORKS",
    "ArticleNetwork",
    "CompactNetwork",
    "Network",
    "NetworkEntry",
    "PretrainedNetwork",
    "describe_network",
    "find_backbone",
    "find_network",
    "find_recipes_network",
    "list_backbones",
    "list_layers",
]


def find_recipes_network(recipe: Recipe) -> NetworkEntry:
    """Finds the network that a recipe trains.

    Raises:
        UnknownName: There is none of that name; the nearest is suggested.
        UsageError: It takes no pictures of the side that the recipe names.
    """
    if recipe.pretrained:
        return find_backbone(recipe.network, recipe.input_side)
    try:
        entry = find_network(recipe.network)
    except UnknownName as error:
        error.add_note("A network of timm's is for recipes that stand on one: --recipe pretrained or finetuned.")
        raise
    return entry if recipe.input_side is None else entry.resized(recipe.input_side)


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
