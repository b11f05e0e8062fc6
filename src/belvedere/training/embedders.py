"""Embeddings of images by torch networks, for the embedding cache."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.inference.embeddings import BATCH_SIZE
from belvedere.training.device import Device
from belvedere.training.networks.registry import Network
from belvedere.training.pretrained_weights import Weights, weights_name
from belvedere.training.recipes import Recipe
from belvedere.types.model import Preprocess


@dataclass(frozen=True)
class NetworkEmbedder:
    """Embeds images with a network on the training device."""

    network: Network
    device: Device
    preprocess: Preprocess
    name: str

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.network.classify.in_features

    @property
    def batch_size(self) -> int:
        """One batch, which all threads compute."""
        return BATCH_SIZE

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings, (n, D), of images, (n, H, W, 3)."""
        with torch.inference_mode(), self.device.autocast():
            pixels = torch.from_numpy(images).to(self.device.torch_device).permute(0, 3, 1, 2).float()
            embeddings: NDArray[np.float32] = self.compute(pixels).float().cpu().numpy()
        return embeddings

    def compute(self, pixels: Tensor) -> Tensor:
        """Return the embeddings of pixels, (n, 3, H, W), on the device."""
        return self.network.forward_embedding(pixels)


@dataclass(frozen=True)
class SpatialEmbedder(NetworkEmbedder):
    """Embeds every position of images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, h, w)."""
        size = self.preprocess
        with torch.inference_mode():
            blank = torch.zeros(1, 3, size.height, size.width, device=self.device.torch_device)
            shape = self.network.feature_map(blank).shape
        return shape[1], shape[2], shape[3]

    @property
    def embedding_dim(self) -> int:
        """D h w."""
        return math.prod(self.shape)

    def compute(self, pixels: Tensor) -> Tensor:
        """Return the feature maps, (n, D h w), of pixels."""
        return self.network.feature_map_tta(pixels).flatten(1)


def onnx_name(embedding_key: str) -> str:
    """Return the name of the embedder that runs the model file, which computes in float32."""
    return f"{embedding_key}-onnx"


def embedding_key(recipe: Recipe, weights: Weights) -> str:
    """Return a name of backbone, weights and flip TTA."""
    return weights_name(recipe.network, weights) + ("-both" if recipe.flip_tta else "")
