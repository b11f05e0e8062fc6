"""Takes modules, classes and functions as the network of a training, without their registration."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from torch import nn

from belvedere.errors import UsageError
from belvedere.training.networks.register import NetworkFactory, make_spec, name_of
from belvedere.training.networks.registry import NETWORKS

P = ParamSpec("P")
R = TypeVar("R")


def accepts_networks(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function whose argument `network` is a name: it may be an `nn.Module`, a class or a function, too.

    These are registered under their name for the duration of the call. A copy of a module is trained.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = kwargs.get("network")
        if given is None or isinstance(given, str):
            return function(*args, **kwargs)
        if not isinstance(given, nn.Module) and not callable(given):
            raise UsageError(
                f"`network` must be a name, an nn.Module, or a function of the number of classes. Received: "
                f"{type(given).__name__}."
            )
        network = cast(NetworkFactory | nn.Module, given)
        spec = make_spec(name_of(network), network)
        kwargs["network"] = spec.name
        with NETWORKS.scoped(spec.name, spec):
            return function(*args, **kwargs)

    return call
