"""Network architectures by name."""

from belvedere.errors import BelvedereError, UnknownNameError
from belvedere.runtime.registry import warn
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.backbones import BACKBONES
from belvedere.training.networks.compact import CompactNetwork
from belvedere.training.networks.register import register_network
from belvedere.training.networks.registry import (
    NETWORKS,
    Architecture,
    ArchitectureSpec,
    Network,
    find_network,
    list_layers,
)
from belvedere.training.networks.timm_backbone import PretrainedNetwork, find_backbone
from belvedere.training.recipes import Recipe
from belvedere.types.model import NetworkInfo

__all__ = [
    "BACKBONES",
    "NETWORKS",
    "Architecture",
    "ArchitectureSpec",
    "ArticleNetwork",
    "CompactNetwork",
    "Network",
    "PretrainedNetwork",
    "architecture_for",
    "describe_architecture",
    "describe_network",
    "find_backbone",
    "find_network",
    "list_layers",
    "list_models",
    "register_network",
]


def architecture_for(recipe: Recipe) -> ArchitectureSpec:
    """Return the architecture that a recipe trains.

    Raises:
        UnknownNameError: There is none of that name; the error suggests the closest.
        UsageError: It does not accept the recipe's image size.
    """
    if recipe.pretrained:
        try:
            return find_backbone(recipe.network, recipe.image_size).with_resize(recipe.resize)
        except UnknownNameError as error:
            if recipe.network in NETWORKS:
                error.add_note(
                    f"{recipe.network!r} is trained from scratch: choose another recipe than {recipe.name!r}."
                )
            raise
    try:
        entry = find_network(recipe.network)
    except UnknownNameError as error:
        error.add_note("Networks of timm need a recipe that starts from pretrained weights: probe or finetune.")
        raise
    entry = entry if recipe.image_size is None else entry.with_image_size(recipe.image_size)
    return entry.with_resize(recipe.resize)


def list_models() -> tuple[NetworkInfo, ...]:
    """Return Belvedere's networks and registered ones, then recommended pretrained ones of timm, fast to slow.

    Their parameters are counted without the classifier. Any other pretrained model of timm can be trained, too.
    """
    return (*filter(None, map(_describe, NETWORKS.values())), *BACKBONES)


def describe_network(name: str) -> tuple[ArchitectureSpec, NetworkInfo]:
    """Return one network by name: Belvedere's, a registered one, or any pretrained one of timm.

    Raises:
        UnknownNameError: There is no network of that name; the error suggests the closest.
        UsageError: The network cannot be trained here.
    """
    listed = {each.name: each for each in BACKBONES}
    spec = NETWORKS[name] if name in NETWORKS else find_backbone(name)
    if name in listed:
        return spec, listed[name]
    return spec, _info(spec, spec.create(2))


def _describe(spec: ArchitectureSpec) -> NetworkInfo | None:
    """Return a row of the list; None for a registered network that cannot be created."""
    try:
        network = spec.create(2)
    except BelvedereError as error:
        warn(str(error))
        return None
    return _info(spec, network)


def _info(spec: ArchitectureSpec, network: Network) -> NetworkInfo:
    parameters = sum(each.numel() for each in network.features.parameters())
    return NetworkInfo(spec.name, parameters / 1e6, spec.preprocess.height, spec.license, None, spec.summary)


def describe_architecture(name: str, num_classes: int) -> Architecture:
    """Return one of Belvedere's architectures, untrained, with its layer table.

    Args:
        name: Name of the network; `list_models` lists them.
        num_classes: K, number of classes.

    Raises:
        UnknownNameError: There is no network of that name.
    """
    spec = find_network(name)
    return Architecture(spec, list_layers(spec.create(num_classes), spec.preprocess))
