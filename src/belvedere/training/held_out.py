"""Outputs of a trained network on held-out images, to fit its uncertainty on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.data.sampling import evenly_spaced
from belvedere.inference.tags import multi_hot
from belvedere.training.augment import resize_batch
from belvedere.training.data_loader import DataLoader
from belvedere.training.device import Device, Runtime
from belvedere.training.networks.registry import Network
from belvedere.training.training_data import TrainingData

BATCH_SIZE = 128
MAX_TRAIN_IMAGES = 3000  # enough for the distribution of each class
MAX_MAP_IMAGES = 800  # enough to fit tags
NO_ROWS = np.zeros(0, np.intp)


@dataclass(frozen=True)
class NetworkOutputs:
    """Outputs for N images."""

    logits: NDArray[np.float32]  # (N, K)
    embeddings: NDArray[np.float32]  # (N, D)
    activation_maps: NDArray[np.float32]  # (m, K, h, w), of the m images that they were requested of


@dataclass(frozen=True)
class HeldOutOutputs:
    """Outputs for M held-out images, and embeddings of n training images."""

    logits: NDArray[np.float32]  # (M, K)
    labels: NDArray[np.int64]  # (M,)
    embeddings: NDArray[np.float32]  # (M, D)
    activation_maps: NDArray[np.float32]  # (P, K, h, w), of some images
    multi_hot: NDArray[np.bool_]  # (P, K), all their labels
    train_embeddings: NDArray[np.float32]  # (n, D)
    train_labels: NDArray[np.int64]  # (n,)
    ood_mask: NDArray[np.bool_] | None = None  # (M,) images that are not among the training ones; None: all


def predict_held_out(network: Network, data: TrainingData, runtime: Runtime) -> HeldOutOutputs:
    """Run a fitted network, on the device, on all validation images and some training images."""
    size = data.preprocess.height
    train, validation = DataLoader(data.train, runtime.device), DataLoader(data.validation, runtime.device)

    def run(loader: DataLoader, rows: NDArray[np.intp], map_rows: NDArray[np.intp] = NO_ROWS) -> NetworkOutputs:
        parts = np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
        batches = (
            (resize_batch(loader.load_batch(part)[0], size), np.flatnonzero(np.isin(part, map_rows))) for part in parts
        )
        return run_network(network, batches, runtime.device)

    train_rows = select_train_rows(train.labels)
    map_rows = evenly_spaced(len(validation), min(MAX_MAP_IMAGES, len(validation)))
    train_outputs = run(train, train_rows)
    outputs = run(validation, np.arange(len(validation)), map_rows)
    return HeldOutOutputs(
        outputs.logits,
        validation.labels,
        outputs.embeddings,
        outputs.activation_maps,
        multi_hot([data.validation_samples[row] for row in map_rows], data.class_names),
        train_outputs.embeddings,
        train.labels[train_rows],
    )


def select_train_rows(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows, (n,), of the training images that are embedded: evenly spaced ones, and one of each class."""
    first_of_class = np.unique(labels, return_index=True)[1]
    return np.union1d(evenly_spaced(len(labels), min(MAX_TRAIN_IMAGES, len(labels))), first_of_class)


def run_network(network: Network, batches: Iterable[tuple[Tensor, NDArray[np.intp]]], device: Device) -> NetworkOutputs:
    """Run a network on batches on the device.

    A batch is pixels, (n, 3, H, W), RGB, 0 to 255, and the indices of the images whose activation maps are requested.
    """
    network.eval()
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode(), device.autocast():
        for pixels, chosen in batches:
            features = network.feature_map_tta(pixels)  # (n, D, h, w)
            embedding = features.mean((2, 3))
            maps = spatial_logits(network, features[torch.from_numpy(chosen)])
            rows.append((network.classify(embedding), embedding, maps))
    return NetworkOutputs(*(torch.cat(each).float().cpu().numpy() for each in zip(*rows, strict=True)))


def spatial_logits(network: Network, features: Tensor) -> Tensor:
    """Return the logits of each position, (n, K, h, w), of a feature map, (n, D, h, w)."""
    count, width, rows, columns = features.shape
    flat: Tensor = network.classify(features.permute(0, 2, 3, 1).reshape(-1, width))
    return flat.view(count, rows, columns, flat.shape[1]).permute(0, 3, 1, 2)
