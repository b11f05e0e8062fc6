"""Structures of a compact network: milliseconds of an image in ONNX Runtime, and the accuracy of a short training.

python benchmarks/structures.py time [--image-size 128]
python benchmarks/structures.py train DATA [--only NAME --only NAME ...] [--set epochs=5] [--image-sizes 112,128]

`time` exports each network with random weights, in float32 and in int8, runs them in turn, in one thread, and prints
milliseconds of the processor. `train` trains each once, seed 0, with the settings of `quick`. 3,000 training images are
held out for measuring, as in variants.py; test images are not used.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from torch import Tensor, nn

from belvedere.inference.onnx_transforms import to_int8
from belvedere.runtime.progress import LineProgress
from belvedere.training.device import Runtime, choose_device
from belvedere.training.networks.compact import CompactNetwork, Residual
from belvedere.training.networks.register import register_network
from belvedere.training.onnx_export import export_graph
from belvedere.training.recipe_config import change_recipe, choose_recipe
from belvedere.types.model import Preprocess
from variants import divide, measure, parse_changes, read, train

BATCH_SIZE, ROUNDS = 32, 9
Branch = Callable[[int, int, int], list[nn.Module]]  # inputs, outputs and stride -> layers


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and a batch norm, which the export fuses."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs)]


def plain(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Two 3x3 convolutions, as in RepVGG after fusion; they are trained without its branches."""
    return [*conv(inputs, outputs, 3, stride), nn.ReLU(), *conv(outputs, outputs, 3), nn.ReLU()]


def grouped(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Two 3x3 convolutions in four groups."""
    return [*conv(inputs, outputs, 3, stride, 4), nn.ReLU(), *conv(outputs, outputs, 3, 1, 4)]


def bottleneck(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A 3x3 convolution of half the channels (ResNet-50)."""
    half = outputs // 2
    first = [*conv(inputs, half, 1), nn.ReLU(), *conv(half, half, 3, stride), nn.ReLU()]
    return [*first, *conv(half, outputs, 1)]


def separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Two depthwise 3x3 convolutions, each with a pointwise one, after MobileNet."""
    first = [*conv(inputs, inputs, 3, stride, inputs), *conv(inputs, outputs, 1), nn.ReLU()]
    return [*first, *conv(outputs, outputs, 3, 1, outputs), *conv(outputs, outputs, 1)]


def inverted(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A depthwise 3x3 convolution of three times the outputs, after MobileNetV2."""
    wide = 3 * outputs
    first = [*conv(inputs, wide, 1), nn.ReLU(), *conv(wide, wide, 3, stride, wide), nn.ReLU()]
    return [*first, *conv(wide, outputs, 1)]


def large_kernel(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A depthwise 5x5 convolution, then pointwise ones of twice the channels, after ConvNeXt."""
    first = [*conv(inputs, inputs, 5, stride, inputs), *conv(inputs, 2 * outputs, 1), nn.ReLU()]
    return [*first, *conv(2 * outputs, outputs, 1)]


class Block(nn.Module):
    """The layers of a branch and, unless it is plain, a shortcut."""

    def __init__(self, branch: Branch, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch(inputs, outputs, stride))
        self.short: nn.Module | None = nn.Identity()
        if stride > 1:
            self.short = nn.Sequential(nn.AvgPool2d(stride), *conv(inputs, outputs, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if branch is plain:
            self.short = None
        else:
            nn.init.zeros_(cast(nn.BatchNorm2d, self.branch[-1]).weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the feature map of one."""
        out: Tensor = self.branch(maps)
        return out if self.short is None else (out + self.short(maps)).relu()


@dataclass(frozen=True)
class Structure:
    """A kind of block, and the channels and blocks of three stages."""

    branch: Branch | None  # None: the blocks of `CompactNetwork`
    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]

    def __call__(self, num_classes: int) -> CompactNetwork:
        """Return the network."""
        network = CompactNetwork(num_classes, widths=self.widths, blocks=self.blocks)
        if self.branch is not None:
            for name, layer in list(network.features.named_children()):
                if isinstance(layer, Residual):
                    stride = layer.conv1.stride[0]
                    block = Block(self.branch, layer.conv1.in_channels, layer.conv1.out_channels, stride)
                    setattr(network.features, name, block)
        return network


SMALL, MEDIUM, LARGE, WIDE = (32, 64, 128), (48, 96, 192), (48, 96, 256), (64, 160, 384)
STRUCTURES = {
    "residual-small": Structure(None, SMALL, (1, 2, 2)),
    "residual-medium": Structure(None, MEDIUM, (1, 2, 2)),
    "residual-large": Structure(None, LARGE, (1, 2, 2)),
    "plain-large": Structure(plain, LARGE, (1, 2, 2)),
    "grouped-large": Structure(grouped, LARGE, (1, 2, 2)),
    "bottleneck-large": Structure(bottleneck, LARGE, (1, 2, 2)),
    "bottleneck-wide": Structure(bottleneck, WIDE, (1, 2, 3)),
    "separable-large": Structure(separable, LARGE, (1, 2, 2)),
    "separable-wide": Structure(separable, WIDE, (1, 2, 3)),
    "inverted-large": Structure(inverted, LARGE, (1, 2, 2)),
    "large-kernel": Structure(large_kernel, LARGE, (1, 2, 3)),
}


def open_session(network: CompactNetwork, images: np.ndarray, int8: bool) -> onnxruntime.InferenceSession:
    """Return a session of one thread."""
    graph = export_graph(network, Preprocess(*images.shape[1:3]), images[:4]).graph
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    content = (to_int8(graph, images) if int8 else graph).SerializeToString()
    return onnxruntime.InferenceSession(content, settings)


def time_all(size: int) -> None:
    """Print parameters and milliseconds of an image: medians of the rounds, in turn."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, size, size, 3), dtype=np.uint8)
    networks = {name: structure(6).eval() for name, structure in STRUCTURES.items()}
    sessions = {
        (name, int8): open_session(network, images, int8)
        for name, network in networks.items()
        for int8 in (False, True)
    }
    seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in sessions}
    for _ in range(ROUNDS):
        for key, session in sessions.items():
            start = time.process_time()
            session.run(["probabilities"], {"images": images})
            seconds[key].append(time.process_time() - start)
    print("| structure | parameters, M | float32, ms | int8, ms |\n|---|---|---|---|")
    for name, network in networks.items():
        parameters = sum(each.numel() for each in network.parameters()) / 1e6
        found = [1000 * statistics.median(seconds[name, int8]) / BATCH_SIZE for int8 in (False, True)]
        print(f"| {name} | {parameters:.2f} | {found[0]:.2f} | {found[1]:.2f} |")


def train_all(data: Path, names: Sequence[str], changes: dict[str, object], sizes: Sequence[int]) -> None:
    """Print accuracy and log loss on the held-out images, one view, seed 0."""
    runtime = Runtime(choose_device("auto"), progress=LineProgress())
    train_samples, measured, class_names = divide(data)
    held_out = {size: read(measured, size, class_names) for size in sizes}
    rows = []
    for name in names:
        register_network(name, any_size=True)(STRUCTURES[name])
        recipe = change_recipe(choose_recipe("quick"), {"network": name, **changes}, "--set")
        train_data = read(train_samples, recipe.cached_image_size, class_names)
        network, seconds = train(recipe, train_data, held_out[sizes[0]], 0, runtime)
        found = {size: measure(network, samples, runtime) for size, samples in held_out.items()}
        columns = " | ".join(f"{values[0]:.4f}, {values[1]:.3f}" for values in found.values())
        rows.append(f"| {name} | {columns} | {seconds:.0f} |")
        print(rows[-1], flush=True)
    print(f"\n| structure | {' | '.join(f'{size} px' for size in sizes)} | s of training |")
    print("\n".join(["|---" * (2 + len(sizes)) + "|", *rows]))


def main() -> None:
    """Time or train the structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("time", "train"))
    parser.add_argument("data", type=Path, nargs="?", help="for train")
    parser.add_argument("--image-size", type=int, default=128, help="for time")
    parser.add_argument("--only", action="append", choices=STRUCTURES, help="for train; default: all")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="for train: key=value")
    parser.add_argument("--image-sizes", default="112,128", help="for train: pixels of the measured images")
    options = parser.parse_args()
    if options.command == "time":
        time_all(options.image_size)
        return
    if options.data is None:
        parser.error("train needs DATA")
    sizes = [int(size) for size in options.image_sizes.split(",")]
    train_all(options.data, options.only or list(STRUCTURES), parse_changes(options.changes), sizes)


if __name__ == "__main__":
    main()
