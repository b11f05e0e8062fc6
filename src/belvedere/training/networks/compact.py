"""Compact residual networks for a few thousand images, in four sizes."""

from collections import OrderedDict
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from belvedere.training.augment import MEAN, STD
from belvedere.training.networks.register import register_network
from belvedere.training.networks.registry import Network

PATCH = 4  # kernel size and stride of the stem, pixels
WHITENING_EPS = 5e-4  # added to variances: the weakest directions are mostly noise


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, https://arxiv.org/abs/1512.03385).

    The second batch norm starts at zero, which makes the block an identity (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677). A shortcut that changes the size averages before it projects (He et al. 2019,
    https://arxiv.org/abs/1812.01187).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.short: nn.Module = nn.Identity()
        if stride > 1:
            self.short = nn.Sequential(
                OrderedDict(
                    pool=nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False),  # rounds sizes as conv1
                    conv=nn.Conv2d(inputs, outputs, 1, bias=False),
                    norm=nn.BatchNorm2d(outputs),
                )
            )
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the feature map of one: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        branch = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        out: Tensor = self.relu2(branch + self.short(maps))
        return out


class CompactNetwork(Network):
    """A stem of 4 x 4 patches, three stages of residual blocks, and global average pooling."""

    features: nn.Sequential

    def __init__(self, num_classes: int, *, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            scale=Scale(),
            stem=nn.Conv2d(3, widths[0], PATCH, PATCH, bias=False),
            norm=nn.BatchNorm2d(widths[0]),
            relu=nn.ReLU(inplace=True),
        )
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            for block in range(1, count + 1):
                layers[f"stage{stage}_{block}"] = Residual(inputs, width, 2 if stage > 1 and block == 1 else 1)
                inputs = width
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        self.features = nn.Sequential(layers)
        self.classify = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return the last map, (N, D, H / 16, W / 16), whose mean is the embedding."""
        maps: Tensor = self.features[:-2](pixels)  # without pool and flatten
        return maps

    def block_numbers(self) -> dict[str, int]:
        """Return 0 for the stem with its norm, then the number of the residual block."""
        layers = [name for name, layer in self.features.named_children() if any(True for _ in layer.parameters())]
        number = {name: max(0, index - 1) for index, name in enumerate(layers)}  # stem, norm, stage1_1, ...
        return {f"features.{name}": number[name.split(".")[0]] for name, _ in self.features.named_parameters()}

    @torch.no_grad()
    def init_whitening(self, pixels: Tensor) -> None:
        """Set the stem to the strongest principal components of its patches, at unit variance, and freeze it.

        Each component occurs twice, once negated, since a ReLU follows (Jordan 2024, https://arxiv.org/abs/2404.00498,
        after Page 2019).
        """
        stem = cast(nn.Conv2d, self.features.get_submodule("stem"))
        scaled = self.features.get_submodule("scale")(pixels)
        patches = nn.functional.unfold(scaled, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)  # (patches, 48)
        variances, directions = torch.linalg.eigh(torch.cov(patches.T))  # ascending
        count = stem.out_channels // 2
        whitened = directions[:, -count:] / (variances[-count:] + WHITENING_EPS).sqrt()
        stem.weight.copy_(torch.cat([whitened, -whitened], 1).T.view_as(stem.weight))
        stem.weight.requires_grad_(False)


class Scale(nn.Module):
    """Scales bytes to about -2 to 2; the first batch norm does the rest."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the scaled pixels, of any shape."""
        return (pixels - MEAN) / STD


def _register(size: str, image_size: int, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
    register_network(
        f"compact-{size}",
        image_size=image_size,
        any_size=True,
        summary=f"compact residual network, {', '.join(map(str, widths))} channels, {sum(blocks)} blocks",
        source="Belvedere, after ResNet (He et al. 2016)",
        license="Apache-2.0",
    )(partial(CompactNetwork, widths=widths, blocks=blocks))


_register("small", 112, (32, 64, 128), (1, 2, 2))
_register("medium", 112, (48, 96, 192), (1, 2, 2))
_register("large", 128, (48, 96, 256), (1, 2, 2))
_register("xlarge", 160, (96, 192, 384), (2, 2, 2))
