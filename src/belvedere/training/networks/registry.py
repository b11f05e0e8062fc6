"""Networks by name, and the layer table of any of them.

Knows what a network must offer; does not know how one is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from belvedere.errors import UsageError, find_named
from belvedere.types.model import Layer, Preprocess


class Network(nn.Module):
    """A classifier in two steps: `features` describe a picture, `classify` weighs that for each class."""

    features: nn.Module  # (N, 3, H, W), RGB of 0..255, floating point -> embeddings (N, D)
    classify: nn.Linear  # (N, D) -> logits (N, K)
    shown_depth: int | None = None  # of the names of layers that have a row of their own in the layer table
    flip_tta = False  # whether, when not training, a picture is described as the mean of itself and its mirror image

    def embed(self, pixels: Tensor) -> Tensor:
        """Returns the embeddings, (N, D), of pixels, (N, 3, H, W), RGB, 0 to 255, floating point."""
        embedding: Tensor = self.features(pixels)
        if self.flip_tta and not self.training:
            embedding = (embedding + self.features(pixels.flip(3))) / 2
        return embedding

    def places(self, pixels: Tensor) -> Tensor:
        """Returns what is seen at each place, (N, D, h, w), whose mean is the embedding; one place if none is told."""
        seen: Tensor = self.features(pixels)[:, :, None, None]
        return seen

    def look(self, pixels: Tensor) -> Tensor:
        """Returns `places` as `embed` describes pictures: where `flip_tta`, the mean with the mirror image's."""
        seen = self.places(pixels)
        if self.flip_tta and not self.training:
            seen = (seen + self.places(pixels.flip(3)).flip(3)) / 2
        return seen

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the logits, (N, K), of pixels as `embed` takes them."""
        logits: Tensor = self.classify(self.embed(pixels))
        return logits

    def lr_scales(self, layer_decay: float) -> dict[str, float]:  # noqa: ARG002 - for those that have blocks
        """Returns a factor of the learning rate by parameter, where it is not 1."""
        return {}

    def no_weight_decay(self) -> set[str]:
        """Returns the parameters that weight decay is not for, beside those that are no matrix."""
        return set()

    def whiten(self, pixels: Tensor) -> None:  # noqa: ARG002 - for those that are flexible
        """Computes the first layer from pictures, (N, 3, H, W) as `embed` takes them, and fixes it."""
        raise TypeError(f"{type(self).__name__} has no first layer that can be whitened.")


@dataclass(frozen=True, slots=True)
class ArchitectureSpec:
    """One network that can be trained."""

    name: str
    summary: str
    source: str  # where it comes from
    license: str
    preprocess: Preprocess
    create: Callable[[int], Network]  # number of classes -> a network with fresh weights
    flexible: bool  # whether it takes pictures of any size, and its first layer can be whitened
    repository: str = ""  # of the hub, where its pretrained weights are published

    def resized(self, side: int) -> "ArchitectureSpec":
        """The same network for pictures of another side, pixels.

        Raises:
            UsageError: It is made for one size.
        """
        size = self.preprocess
        if (size.height, size.width) == (side, side):
            return self
        if not self.flexible:
            raise UsageError(
                f"{self.name} takes pictures of {size.height} x {size.width} pixels only. Received: image_size {side}. "
                "Leave it out."
            )
        return replace(self, preprocess=replace(size, height=side, width=side))


NETWORKS: dict[str, ArchitectureSpec] = {}


def register(
    name: str, *, summary: str, source: str, licensed: str, preprocess: Preprocess, flexible: bool = False
) -> Callable[[Callable[[int], Network]], Callable[[int], Network]]:
    """Registers what creates a network under a name."""

    def add(create: Callable[[int], Network]) -> Callable[[int], Network]:
        NETWORKS[name] = ArchitectureSpec(name, summary, source, licensed, preprocess, create, flexible)
        return create

    return add


def find_network(name: str) -> ArchitectureSpec:
    """Finds a network by its name.

    Raises:
        UnknownNameError: There is none of that name; the nearest is suggested.
    """
    return find_named("network", name, NETWORKS)


def list_layers(network: Network, preprocess: Preprocess) -> tuple[Layer, ...]:
    """Lists a network's layers in the order in which a picture passes them.

    Args:
        network: Any network, in any mode.
        preprocess: The input it is made for.

    Returns:
        A row each, with output shapes (H, W, C) or (D,) as Keras prints them; an activation stands with its layer.
        Batch-norm statistics and fixed weights count as parameters that do not train.
    """
    rows: list[Layer] = []

    shown: set[int] = set()  # parameters with a row

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
            shown.update(id(weights) for weights in module.parameters())
            output = output if isinstance(output, Tensor) else output[0]  # some blocks give their size along
            if isinstance(module, nn.ReLU) and rows:
                last = rows.pop()
                rows.append(Layer(last.name, f"{last.kind}, ReLU", last.shape, last.parameters, last.trainable))
            else:
                rows.append(_layer(name, module, output))

        return hook

    lists = {name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    leaves = [
        (name, module)
        for name, module in network.named_modules()
        if _is_shown(name, module, network.shown_depth, lists) and not isinstance(module, nn.Identity)
    ]
    handles = [module.register_forward_hook(note(name)) for name, module in leaves]
    training = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, preprocess.height, preprocess.width))
    network.train(training)
    for handle in handles:
        handle.remove()
    loose = [(name, weights) for name, weights in network.named_parameters() if id(weights) not in shown]
    return (*(_loose(name, weights) for name, weights in loose), *rows)


def _is_shown(name: str, module: nn.Module, depth: int | None, lists: set[str]) -> bool:
    """Whether a module has a row: it is at the depth that is shown, or above it and holds no others.

    What is in a list of modules, which is none itself, counts as being where the list is.
    """
    level = name.count(".") + 1 - (name.rpartition(".")[0] in lists)
    if name in lists:
        return False
    return level == depth or ((depth is None or level < depth) and not any(module.children()))


def _loose(name: str, weights: nn.Parameter) -> Layer:
    """Parameters that belong to no layer, such as positions."""
    return Layer(name, "Parameter", tuple(weights.shape[1:]), weights.numel(), weights.numel() * weights.requires_grad)


def _layer(name: str, module: nn.Module, output: Tensor) -> Layer:
    _, *shape = output.shape  # (C, H, W) or (D,)
    trainable = sum(weights.numel() for weights in module.parameters() if weights.requires_grad)
    held = (*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point()))
    # Of maps with as many rows as columns, the channels are the odd one out; some layers have them last already.
    placed = tuple(shape[1:] + shape[:1]) if len(shape) == 3 and shape[0] != shape[1] else tuple(shape)
    return Layer(name, _kind(module), placed, sum(each.numel() for each in held), trainable)


def _kind(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        size = module.kernel_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        return f"{name} {rows}x{columns}"
    if isinstance(module, nn.Dropout):
        return f"{name} {module.p:g}"
    return name
