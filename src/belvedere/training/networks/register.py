"""Registration of networks: Belvedere's own, and those of plug-ins and users."""

import functools
from collections.abc import Callable

from torch import nn

from belvedere.errors import UsageError
from belvedere.runtime.registry import plugin_errors
from belvedere.training.networks.registry import NETWORKS, ArchitectureSpec, Network
from belvedere.training.networks.wrapped import WrappedNetwork, copy_module
from belvedere.training.recipes import MAX_IMAGE_SIZE
from belvedere.types.model import Preprocess

IMAGE_SIZE = 128  # pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels of 0 to 1
MIN_IMAGE_SIZE = 8  # pixels

NetworkFactory = Callable[[int], nn.Module]  # number of classes, K -> module


def register_network(
    name: str,
    *,
    image_size: int = IMAGE_SIZE,
    any_size: bool | None = None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    summary: str = "",
    source: str = "",
    license: str = "not stated",  # noqa: A002 - the name of the field
    overwrite: bool = False,
) -> Callable[[NetworkFactory], NetworkFactory]:
    """Return a decorator that registers a network: a class or function that takes the number of classes, K.

    It returns an `nn.Module` that takes normalized pixels, (N, 3, H, W), float32, and returns logits, (N, K). The input
    of its last linear layer is the embedding of an image. A `belvedere.training.networks.Network` takes pixels of 0 to
    255 instead and defines its embedding itself. The network is checked before a training: its outputs, its gradients
    and its export to ONNX.

    Args:
        name: Name of the network, for the recipe key `network`.
        image_size: Height and width of the images, pixels, unless the recipe sets another.
        any_size: Whether it accepts images of other sizes; None: found out before the training.
        mean: Mean of each channel that is subtracted from pixels of 0 to 1. Default: ImageNet's.
        std: Standard deviation of each channel that they are divided by. Default: ImageNet's.
        summary: A line that describes it.
        source: Authors, paper or repository.
        license: License of its code.
        overwrite: Whether to replace a network of that name.

    Raises:
        UsageError: The name is taken, or an argument is invalid.
    """
    _check_numbers(name, image_size, mean, std)

    def add(factory: NetworkFactory) -> NetworkFactory:
        spec = make_spec(name, factory, image_size, any_size, mean, std, (summary, source, license))
        NETWORKS.add(name, spec, overwrite=overwrite)
        return factory

    return add


def make_spec(
    name: str,
    factory: NetworkFactory | nn.Module,
    image_size: int = IMAGE_SIZE,
    any_size: bool | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    description: tuple[str, str, str] = ("", "", "not stated"),
) -> ArchitectureSpec:
    """Return the architecture of a class, a function or a module; `description`: summary, source and license."""
    summary, source, license_id = description

    def create_for(preprocess: Preprocess) -> Callable[[int], Network]:
        return functools.partial(_create, name, factory, preprocess, mean, std)

    preprocess = Preprocess(image_size, image_size, "stretch")
    origin = getattr(factory, "func", factory)  # of functools.partial
    return ArchitectureSpec(
        name=name,
        summary=summary,
        source=source,
        license=license_id,
        preprocess=preprocess,
        create=create_for(preprocess),
        any_size=any_size,
        is_plugin=not str(getattr(origin, "__module__", "")).startswith("belvedere."),
        create_for=create_for,
    )


def name_of(network: NetworkFactory | nn.Module) -> str:
    """Return a name for a class, a function or a module."""
    origin = getattr(network, "func", network)
    return str(getattr(origin, "__name__", type(origin).__name__)).strip("<>")


def _create(
    name: str,
    factory: NetworkFactory | nn.Module,
    preprocess: Preprocess,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    num_classes: int,
) -> Network:
    if isinstance(factory, nn.Module):
        module: object = copy_module(factory, name)
    else:
        with plugin_errors(f"The network {name!r}"):
            module = factory(num_classes)
    if isinstance(module, Network):
        return module
    if not isinstance(module, nn.Module):
        raise UsageError(f"The network {name!r} must be an nn.Module. Received: {type(module).__name__}.")
    return WrappedNetwork(module, num_classes, preprocess, mean, std, name)


def _check_numbers(name: str, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if not isinstance(image_size, int) or not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise UsageError(
            f"`image_size` of the network {name!r} must be from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels. "
            f"Received: {image_size!r}."
        )
    if len(mean) != 3 or len(std) != 3 or not all(0 < value <= 1 for value in std):
        raise UsageError(
            f"`mean` and `std` of the network {name!r} are three numbers each, of pixels of 0 to 1. "
            f"Received: {mean!r}, {std!r}."
        )
