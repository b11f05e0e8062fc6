"""The compact networks: small residual networks that learn quickly from a few thousand photographs, in four sizes.

Knows their layers and how they start; does not know how they are trained.
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from belvedere.training.networks.registry import Network, register
from belvedere.types.model import Preprocess

# About the mean and the standard deviation of photographs; the first batch norm mends the rest.
MEAN, DEVIATION = 115.0, 60.0
STRIDE = 16  # of the last map: the side of an input is best a multiple of it
PATCH = 4  # pixels that the stem sees at once, and steps by
WHITENING_FLOOR = 5e-4  # added to variances, so that the weakest directions are not all noise


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut (He et al. 2016, https://arxiv.org/abs/1512.03385).

    The second batch norm starts at zero, so that the block starts as its short cut (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677); where the size changes, the short cut averages before it projects (He et al.
    2019, https://arxiv.org/abs/1812.01187).
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
                    pool=nn.AvgPool2d(stride),
                    conv=nn.Conv2d(inputs, outputs, 1, bias=False),
                    norm=nn.BatchNorm2d(outputs),
                )
            )
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        branch = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        out: Tensor = self.relu2(branch + self.short(maps))
        return out


class CompactNetwork(Network):
    """A stem that sees squares of 4 x 4 pixels, three stages of residual blocks, and the mean over the last map."""

    def __init__(self, classes: int, *, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
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
        self.classify = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def places(self, pixels: Tensor) -> Tensor:
        """Returns the last map, (N, D, H / 16, W / 16), whose mean is the embedding."""
        seen: Tensor = self.features[:-2](pixels)  # type: ignore[index]  # all but pool and flatten
        return seen

    @torch.no_grad()
    def whiten(self, pixels: Tensor) -> None:
        """Fixes the stem at the strongest principal directions of its squares, scaled to unit variance.

        Each stands there twice, the second time negative, since the ReLU behind it would lose half of it (Jordan 2024,
        https://arxiv.org/abs/2404.00498, after Page 2019).
        """
        stem: nn.Conv2d = self.features.get_submodule("stem")  # type: ignore[assignment]
        scaled = self.features.get_submodule("scale")(pixels)
        squares = nn.functional.unfold(scaled, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)  # (squares, 48)
        variances, directions = torch.linalg.eigh(torch.cov(squares.T))  # in rising order
        chosen = stem.out_channels // 2
        whitened = directions[:, -chosen:] / (variances[-chosen:] + WHITENING_FLOOR).sqrt()
        stem.weight.copy_(torch.cat([whitened, -whitened], 1).T.view_as(stem.weight))
        stem.weight.requires_grad_(False)


class Scale(nn.Module):
    """Bytes to about -2 to 2."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Shifts and scales, whatever the shape."""
        return (pixels - MEAN) / DEVIATION


def _register(size: str, side: int, widths: tuple[int, int, int], blocks: tuple[int, int, int]) -> None:
    register(
        f"compact-{size}",
        summary=f"compact residual network, {', '.join(map(str, widths))} channels, {sum(blocks)} blocks",
        source="Belvedere, after ResNet (He et al. 2016)",
        licensed="Apache-2.0",
        preprocess=Preprocess(side, side, "stretch"),
        flexible=True,
    )(partial(CompactNetwork, widths=widths, blocks=blocks))


_register("small", 112, (32, 64, 128), (1, 2, 2))
_register("medium", 128, (48, 96, 192), (1, 2, 2))
_register("large", 144, (64, 128, 192), (2, 2, 2))
_register("xlarge", 160, (96, 192, 384), (2, 2, 2))
