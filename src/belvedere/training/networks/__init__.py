"""The networks that Belvedere trains, by name."""

from belvedere.errors import UnknownNameError
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.backbones import BACKBONES, list_models
from belvedere.training.networks.compact import CompactNetwork
from belvedere.training.networks.registry import NETWORKS, ArchitectureSpec, Network, find_network, list_layers
from belvedere.training.networks.timm_backbone import PretrainedNetwork, find_backbone
from belvedere.training.recipes import Recipe
from belvedere.types.model import Layer

__all__ = [
    "BACKBONES",
    "NETWORKS",
    "ArchitectureSpec",
    "ArticleNetwork",
    "CompactNetwork",
    "Network",
    "PretrainedNetwork",
    "architecture_for",
    "describe_architecture",
    "find_backbone",
    "find_network",
    "list_layers",
    "list_models",
]


def architecture_for(recipe: Recipe) -> ArchitectureSpec:
    """Finds the network that a recipe trains.

    Raises:
        UnknownNameError: There is none of that name; the nearest is suggested.
        UsageError: It takes no pictures of the side that the recipe names.
    """
    if recipe.pretrained:
        return find_backbone(recipe.network, recipe.image_size)
    try:
        entry = find_network(recipe.network)
    except UnknownNameError as error:
        error.add_note("A network of timm's is for recipes that stand on one: --recipe probe or finetune.")
        raise
    return entry if recipe.image_size is None else entry.resized(recipe.image_size)


def describe_architecture(name: str, classes: int) -> tuple[ArchitectureSpec, tuple[Layer, ...]]:
    """Describes a network that has not been trained.

    Args:
        name: Its name in the registry.
        classes: K, how many classes it shall tell apart.

    Returns:
        What the registry says of it, and its layer table.

    Raises:
        UnknownNameError: There is no network of that name.
    """
    entry = find_network(name)
    return entry, list_layers(entry.create(classes), entry.preprocess)
