"""Network architectures by name, and the layer table of a network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from belvedere.errors import UsageError
from belvedere.runtime.registry import Registry
from belvedere.types.model import Layer, Preprocess
from belvedere.types.result import Result, short_repr, to_plain


class Network(nn.Module):
    """A classifier: `features` computes embeddings, `classify` is a linear head."""

    features: nn.Module  # (N, 3, H, W), RGB of 0 to 255, floating point -> embeddings (N, D)
    classify: nn.Linear  # (N, D) -> logits (N, K)
    max_table_depth: int | None = None  # depth of the modules that have a row in the layer table; None: all leaves
    frozen_modules: tuple[nn.Module, ...] = ()  # stay in evaluation mode: their batch-norm statistics are fixed
    flip_tta = False  # whether evaluation averages the embeddings of an image and its mirror image

    def forward_embedding(self, pixels: Tensor) -> Tensor:
        """Return the embeddings, (N, D), of pixels, (N, 3, H, W), RGB of 0 to 255, floating point."""
        embedding: Tensor = self.features(pixels)
        if self.flip_tta and not self.training:
            embedding = (embedding + self.features(pixels.flip(3))) / 2
        return embedding

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return a map, (N, D, h, w), whose mean is the embedding; h = w = 1 without spatial features."""
        maps: Tensor = self.features(pixels)[:, :, None, None]
        return maps

    def feature_map_tta(self, pixels: Tensor) -> Tensor:
        """Return `feature_map`; with `flip_tta` the mean with that of the mirror image, as `forward_embedding` does."""
        maps = self.feature_map(pixels)
        if self.flip_tta and not self.training:
            maps = (maps + self.feature_map(pixels.flip(3)).flip(3)) / 2
        return maps

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, (N, K), of pixels as in `forward_embedding`."""
        logits: Tensor = self.classify(self.forward_embedding(pixels))
        return logits

    def train(self, mode: bool = True) -> "Network":
        """Set the training or evaluation mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self

    def block_numbers(self) -> dict[str, int]:
        """Return the number of the block of each parameter, from 0 at the input; empty for a network without blocks."""
        return {}

    def lr_scales(self, layer_decay: float) -> dict[str, float]:  # noqa: ARG002 - for networks with blocks
        """Return a factor of the learning rate by parameter name; 1 where the name is missing."""
        return {}

    def no_weight_decay(self) -> set[str]:
        """Return the names of matrices without weight decay; vectors have none anyway."""
        return set()

    def init_whitening(self, pixels: Tensor) -> None:  # noqa: ARG002 - for networks of any size
        """Compute the first layer from images, (N, 3, H, W), and freeze it."""
        raise TypeError(f"{type(self).__name__} has no first layer that can be whitened.")


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """A network architecture that can be trained."""

    name: str
    summary: str
    source: str  # authors, paper or repository
    license: str
    preprocess: Preprocess
    create: Callable[[int], Network]  # number of classes -> a network with random weights
    any_size: bool | None  # whether it accepts images of any size; None: found out before the training
    repository: str = ""  # hub repository of its pretrained weights
    is_plugin: bool = False  # whether it is not Belvedere's, so that it is checked before a training
    create_for: Callable[[Preprocess], Callable[[int], Network]] | None = None  # `create` for another input size

    def with_image_size(self, image_size: int) -> "ArchitectureSpec":
        """Return the same architecture for square images of another size, pixels.

        Raises:
            UsageError: It is made for one size.
        """
        size = self.preprocess
        if (size.height, size.width) == (image_size, image_size):
            return self
        if self.any_size is False:
            raise UsageError(
                f"{self.name} needs images of {size.height} x {size.width} pixels. Received: {image_size}. "
                "Leave out `image_size`."
            )
        preprocess = replace(size, height=image_size, width=image_size)
        create = self.create if self.create_for is None else self.create_for(preprocess)
        return replace(self, preprocess=preprocess, create=create)

    def with_resize(self, resize: str) -> "ArchitectureSpec":
        """Return the same architecture for images that are resized by another rule."""
        if self.preprocess.resize == resize:
            return self
        return replace(self, preprocess=replace(self.preprocess, resize=resize))


@dataclass(frozen=True, repr=False)
class Architecture(Result):
    """An untrained network. In a notebook, it shows the table of its layers."""

    spec: ArchitectureSpec
    layers: tuple[Layer, ...]  # in the order of execution

    def __repr__(self) -> str:
        return short_repr(self, name=self.spec.name, num_parameters=self.num_parameters)

    @property
    def num_parameters(self) -> int:
        """Number of parameters, with batch-norm statistics and frozen weights."""
        return sum(layer.parameters for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return name and layers ready for JSON, as `belvedere show NETWORK --json`."""
        return {"network": self.spec.name, "layers": to_plain(self.layers)}


NETWORKS: Registry[ArchitectureSpec] = Registry("network", "networks")


def find_network(name: str) -> ArchitectureSpec:
    """Return an architecture by name.

    Raises:
        UnknownNameError: There is none of that name; the error suggests the closest.
    """
    return NETWORKS.find(name)


def list_layers(network: Network, preprocess: Preprocess) -> tuple[Layer, ...]:
    """List the layers of a network in the order of execution.

    Output shapes are (H, W, C) or (D,), as Keras prints them; a ReLU is in the row of the layer before it. Batch norm
    statistics and frozen weights count as parameters that do not train.
    """
    rows: list[Layer] = []
    seen: set[int] = set()  # ids of the parameters that have a row

    def make_hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            seen.update(id(weights) for weights in module.parameters())
            if isinstance(output, tuple | list) and output:
                output = output[0]  # some blocks return their size too
            if not isinstance(output, Tensor):
                return
            if isinstance(module, nn.ReLU) and rows:
                rows[-1] = replace(rows[-1], kind=f"{rows[-1].kind}, ReLU")
            else:
                rows.append(_layer(name, module, output))

        return hook

    lists = {name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    handles = [
        module.register_forward_hook(make_hook(name))
        for name, module in network.named_modules()
        if _has_row(name, module, network.max_table_depth, lists) and not isinstance(module, nn.Identity)
    ]
    training, flip_tta = network.training, network.flip_tta
    network.eval()
    network.flip_tta = False  # each layer runs once
    with torch.no_grad():
        network(torch.zeros(1, 3, preprocess.height, preprocess.width))
    network.train(training)
    network.flip_tta = flip_tta
    for handle in handles:
        handle.remove()
    others = (
        Layer(name, "Parameter", tuple(each.shape[1:]), each.numel(), each.numel() * each.requires_grad)
        for name, each in network.named_parameters()  # of no layer, such as position embeddings
        if id(each) not in seen
    )
    return (*others, *rows)


def _has_row(name: str, module: nn.Module, depth: int | None, lists: set[str]) -> bool:
    """Return whether a module is at the depth, or above it and a leaf; items of a list are at the depth of the list."""
    level = name.count(".") + 1 - (name.rpartition(".")[0] in lists)
    if name in lists:
        return False
    return level == depth or ((depth is None or level < depth) and not any(module.children()))


def _layer(name: str, module: nn.Module, output: Tensor) -> Layer:
    _, *shape = output.shape  # (C, H, W) or (D,)
    trainable = sum(weights.numel() for weights in module.parameters() if weights.requires_grad)
    tensors = (*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point()))
    # Some layers are channels-last already: with as many rows as columns, the channels are the size that differs.
    keras = tuple(shape[1:] + shape[:1]) if len(shape) == 3 and shape[0] != shape[1] else tuple(shape)
    return Layer(name, _kind(module), keras, sum(each.numel() for each in tensors), trainable)


def _kind(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        size = module.kernel_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        return f"{name} {rows}x{columns}"
    if isinstance(module, nn.Dropout):
        return f"{name} {module.p:g}"
    return name
