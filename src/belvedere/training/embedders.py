"""What networks compute of images, once for each, for the cache of embeddings."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from belvedere.training.device import Hardware
from belvedere.training.networks.registry import Network
from belvedere.training.pretrained_weights import Weights, weights_name
from belvedere.training.recipes import Recipe
from belvedere.types.model import Preprocess


@dataclass(frozen=True)
class NetworkEmbedder:
    """A network that describes pictures where training runs."""

    network: Network
    hardware: Hardware
    preprocess: Preprocess
    name: str

    @property
    def width(self) -> int:
        """D."""
        return self.network.classify.in_features

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describes pictures, (n, H, W, 3), as (n, D)."""
        with torch.inference_mode(), self.hardware.autocast():
            pixels = torch.from_numpy(images).to(self.hardware.device).permute(0, 3, 1, 2).float()
            described: NDArray[np.float32] = self.network.embed(pixels).float().cpu().numpy()
        return described


@dataclass(frozen=True)
class SpatialEmbedder(NetworkEmbedder):
    """A network that describes every place of pictures."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, h, w)."""
        size = self.preprocess
        with torch.inference_mode():
            blank = torch.zeros(1, 3, size.height, size.width, device=self.hardware.device)
            found = self.network.places(blank).shape
        return found[1], found[2], found[3]

    @property
    def width(self) -> int:
        """D h w."""
        return math.prod(self.shape)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describes pictures, (n, H, W, 3), as (n, D h w)."""
        with torch.inference_mode(), self.hardware.autocast():
            pixels = torch.from_numpy(images).to(self.hardware.device).permute(0, 3, 1, 2).float()
            seen: NDArray[np.float32] = self.network.look(pixels).flatten(1).float().cpu().numpy()
        return seen


def onnx_name(embedding_key: str) -> str:
    """Names what describes pictures as a model file does, which computes in float32."""
    return f"{embedding_key}-onnx"


def described_name(recipe: Recipe, weights: Weights) -> str:
    """Names what describes the pictures: backbone, weights, and whether from both sides."""
    return weights_name(recipe.network, weights) + ("-both" if recipe.flip_tta else "")
