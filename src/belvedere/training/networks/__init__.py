"""Network architectures by name."""

from belvedere.errors import UnknownNameError
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.backbones import BACKBONES
from belvedere.training.networks.compact import CompactNetwork
from belvedere.training.networks.registry import NETWORKS, ArchitectureSpec, Network, find_network, list_layers
from belvedere.training.networks.timm_backbone import PretrainedNetwork, find_backbone
from belvedere.training.recipes import Recipe
from belvedere.types.model import Layer, NetworkInfo

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
    """Return the architecture that a recipe trains.

    Raises:
        UnknownNameError: There is none of that name; the error suggests the closest.
        UsageError: It does not accept the recipe's image size.
    """
    if recipe.pretrained:
        return find_backbone(recipe.network, recipe.image_size)
    try:
        entry = find_network(recipe.network)
    except UnknownNameError as error:
        error.add_note("Networks of timm need a recipe that starts from pretrained weights: probe or finetune.")
        raise
    return entry if recipe.image_size is None else entry.with_image_size(recipe.image_size)


def list_models() -> tuple[NetworkInfo, ...]:
    """Return Belvedere's networks, then recommended pretrained ones of timm, from small to large.

    Their parameters are counted without the classifier. Any other pretrained model of timm can be trained, too.
    """
    return (*(_describe(spec) for spec in NETWORKS.values()), *BACKBONES)


def _describe(spec: ArchitectureSpec) -> NetworkInfo:
    parameters = sum(each.numel() for each in spec.create(2).features.parameters())
    return NetworkInfo(spec.name, parameters / 1e6, spec.preprocess.height, spec.license, None, spec.summary)


def describe_architecture(name: str, num_classes: int) -> tuple[ArchitectureSpec, tuple[Layer, ...]]:
    """Return one of Belvedere's architectures, untrained, and its layer table.

    Args:
        name: Name of the network; `list_models` lists them.
        num_classes: K, number of classes.

    Raises:
        UnknownNameError: There is no network of that name.
    """
    spec = find_network(name)
    return spec, list_layers(spec.create(num_classes), spec.preprocess)
