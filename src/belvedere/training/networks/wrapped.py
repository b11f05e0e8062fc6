"""Modules of the user's as networks: checked, and taken apart into features and a linear head."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from belvedere.errors import UsageError
from belvedere.runtime.registry import plugin_errors
from belvedere.training.networks.registry import Network
from belvedere.training.networks.timm_backbone import Normalize
from belvedere.types.model import Preprocess

MAX_EMBEDDING_DIM = 2048  # wider features are replaced by the logits: the OOD score takes their covariance
NUM_CHECKED = 4  # random images
TOLERANCE = 1e-4  # relative, of outputs that are equal but for rounding

Call = tuple[str, nn.Module, object, object]  # name, module, first argument and output of a call


class WrappedNetwork(Network):
    """A module that returns logits, as a network.

    The module's last linear layer becomes the head, and its input the embedding, if that reproduces the logits and has
    at most `MAX_EMBEDDING_DIM` values. Otherwise the logits are the embedding, and the head is the identity. A feature
    map is known if the module averages one to the embedding.
    """

    def __init__(
        self,
        module: nn.Module,
        num_classes: int,
        preprocess: Preprocess,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        name: str,
    ) -> None:
        """Take a module apart.

        Args:
            module: Module from normalized pixels, (N, 3, H, W), to logits, (N, K); is changed.
            num_classes: K.
            preprocess: H and W.
            mean: Mean of each channel that is subtracted from pixels of 0 to 1.
            std: Standard deviation that they are divided by.
            name: Name of the network, for errors.

        Raises:
            PluginError: The module raises an exception.
            UsageError: It does not return logits.
        """
        super().__init__()
        module = module.cpu().float()
        self.features = nn.Sequential(OrderedDict(normalize=Normalize(mean, std), module=module))
        pixels = random_pixels(preprocess)
        with plugin_errors(f"The network {name!r} with images of {preprocess.height} x {preprocess.width} pixels"):
            logits, calls = _run(self.features, pixels)
        logits = check_logits(logits, num_classes, name)
        self.classify = _take_head(self.features, calls, pixels, logits) or _identity_head(num_classes)
        self._map_source = self._find_map(pixels)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return the map, (N, D, h, w), whose mean is the embedding; h = w = 1 if there is none."""
        if self._map_source is None:
            return super().feature_map(pixels)
        found: list[Tensor] = []
        name, is_input = self._map_source
        layer = self.features.get_submodule(name)
        if is_input:
            handle = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        else:
            handle = layer.register_forward_hook(lambda _, __, output: found.append(output))
        try:
            self.features(pixels)
        finally:
            handle.remove()
        return found[-1]

    def _find_map(self, pixels: Tensor) -> tuple[str, bool] | None:
        """Return the last layer with such a map, and whether the map is its input; None if there is none."""
        embedding, calls = _run(self.features, pixels)
        if not isinstance(embedding, Tensor) or float(embedding.std()) == 0:  # a map of zeros would fit, too
            return None
        for name, _, argument, output in reversed(calls):
            for tensor, is_input in ((output, False), (argument, True)):
                if _is_map(tensor, embedding):
                    self._map_source = name, is_input
                    with _evaluating(self):
                        if _is_map(self.feature_map(pixels), embedding):
                            return name, is_input
        return None


def random_pixels(preprocess: Preprocess) -> Tensor:
    """Return the same random pixels in every call, (4, 3, H, W), 0 to 255; torch's global generator stays."""
    generator = torch.Generator().manual_seed(0)
    return 255 * torch.rand((NUM_CHECKED, 3, preprocess.height, preprocess.width), generator=generator)


def check_logits(logits: object, num_classes: int, name: str) -> Tensor:
    """Return the output of a network for `random_pixels`.

    Raises:
        UsageError: It is not a tensor of finite logits.
    """
    expected = f"Expected logits of shape (N, {num_classes}), here ({NUM_CHECKED}, {num_classes})."
    if not isinstance(logits, Tensor):
        raise UsageError(f"The network {name!r} returned {type(logits).__name__}. {expected}")
    if logits.shape != (NUM_CHECKED, num_classes) or not logits.is_floating_point():
        raise UsageError(f"The network {name!r} returned {logits.dtype} of shape {tuple(logits.shape)}. {expected}")
    if not bool(logits.isfinite().all()):
        raise UsageError(f"The network {name!r} returned NaN or infinity for random images. Check its initial weights.")
    if bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < TOLERANCE):
        raise UsageError(f"The network {name!r} returned probabilities. {expected} Leave its softmax out.")
    return logits


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block in evaluation mode without gradients."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def _run(module: nn.Module, pixels: Tensor) -> tuple[object, list[Call]]:
    """Return the output of a module in evaluation mode, and the calls of its modules in the order of their ends."""
    calls: list[Call] = []

    def make_hook(name: str) -> Callable[[nn.Module, Any, object], None]:
        def hook(layer: nn.Module, inputs: Any, output: object) -> None:
            calls.append((name, layer, inputs[0] if inputs else None, output))

        return hook

    handles = [layer.register_forward_hook(make_hook(name)) for name, layer in module.named_modules() if name]
    try:
        with _evaluating(module):
            output = module(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return output, calls


def _take_head(features: nn.Module, calls: list[Call], pixels: Tensor, logits: Tensor) -> nn.Linear | None:
    """Remove the last linear layer and return it, if it computes the logits from an embedding; None otherwise."""
    name, head = next(
        ((name, layer) for name, layer, _, _ in reversed(calls) if isinstance(layer, nn.Linear)), ("", None)
    )
    if (
        head is None
        or head.out_features != logits.shape[1]
        or head.in_features > MAX_EMBEDDING_DIM
        or head.bias is None
    ):
        return None
    parent, _, leaf = name.rpartition(".")
    setattr(features.get_submodule(parent), leaf, nn.Identity())
    try:
        embedding, _ = _run(features, pixels)
        with torch.no_grad():
            if isinstance(embedding, Tensor) and embedding.ndim == 2 and _is_close(head(embedding), logits):
                return head
    except Exception:  # noqa: BLE001, S110 - the module uses the layer in another way than to call it
        pass
    setattr(features.get_submodule(parent), leaf, head)
    return None


def _identity_head(num_classes: int) -> nn.Linear:
    head = nn.Linear(num_classes, num_classes)
    nn.init.eye_(head.weight)
    nn.init.zeros_(head.bias)
    return head.requires_grad_(False)


def _is_map(tensor: object, embedding: Tensor) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.ndim == 4
        and tensor.shape[:2] == embedding.shape
        and tensor.shape[2:].numel() > 1
        and _is_close(tensor.mean((2, 3)), embedding)
    )


def _is_close(first: Tensor, second: Tensor) -> bool:
    scale = max(float(second.abs().max()), 1e-12)
    return first.shape == second.shape and float((first - second).abs().max()) <= TOLERANCE * scale


def copy_module(module: nn.Module, name: str) -> nn.Module:
    """Return a copy of a module, so that training does not change the user's.

    Raises:
        PluginError: It cannot be copied.
    """
    with plugin_errors(f"The copy of the network {name!r}"):
        return copy.deepcopy(module)
