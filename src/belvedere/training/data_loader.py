"""Batches of decoded images and targets on the training device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.training.augment import CropBoxes
from belvedere.training.device import Device

MAX_GPU_FRACTION = 0.5  # of the free memory of a GPU, for images
CHUNK_SIZE = 1024  # images copied to a GPU at once


class ArrayLike(Protocol):
    """Images by index: an array in memory or in a file."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: NDArray[np.intp], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SoftTargets:
    """Targets of V crops of each of N images: predictions of a teacher, mixed with the labels."""

    crops: NDArray[np.float32]  # (N, V, 4): top, left, height, width, as fractions of the image's
    targets: NDArray[np.float32]  # (N, V, K), each row with the sum 1
    embeddings: NDArray[np.float32] | None = None  # (N, V, D) of the teacher


@dataclass(frozen=True)
class SoftTargetBatch:
    """One crop of each image of a batch, and its target."""

    crops: NDArray[np.float32]  # (n, 4)
    targets: Tensor  # (n, K), on the device
    embeddings: Tensor | None = None  # (n, D) of the teacher, on the device

    def boxes(self, mirrored: NDArray[np.bool_], height: int, width: int) -> CropBoxes:
        """Return the crops in pixels for images of a size; `mirrored` (n,) marks the crops to flip."""
        top, left, rows, columns = self.crops.T.astype(np.float64)
        return CropBoxes(top * height, left * width, rows * height, columns * width, mirrored)


@dataclass(frozen=True)
class ArrayDataset:
    """Decoded images with their targets."""

    images: ArrayLike  # (N, H, W, 3) uint8
    labels: NDArray[np.int64]  # (N,)
    targets: NDArray[np.float32] | None = None  # (N, K), instead of the labels, for images with several labels
    soft_targets: SoftTargets | None = None  # instead of both, with a teacher


class DataLoader:
    """Loads batches of a dataset to a device; a dataset that fits is kept on the GPU."""

    def __init__(self, dataset: ArrayDataset, device: Device, repeats: int = 1) -> None:
        """Open a dataset; index `i` of `repeats` times N addresses image `i % N`."""
        self._dataset, self._device, self._repeats = dataset, device.torch_device, repeats
        self._resident: Tensor | None = None
        if self._device.type == "cuda":
            first = dataset.images[np.zeros(1, np.intp)]
            free, _ = torch.cuda.mem_get_info(self._device)
            if first.nbytes * len(dataset.labels) < MAX_GPU_FRACTION * free:
                self._resident = self._load_all(first.shape[1:])

    def _load_all(self, shape: tuple[int, ...]) -> Tensor:
        count = len(self._dataset.labels)
        images = torch.empty((count, *shape), dtype=torch.uint8, device=self._device)
        for start in range(0, count, CHUNK_SIZE):
            rows = np.arange(start, min(start + CHUNK_SIZE, count))
            images[rows[0] : rows[-1] + 1] = torch.from_numpy(self._dataset.images[rows])
        return images

    def __len__(self) -> int:
        return len(self._dataset.labels) * self._repeats

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the dataset, (N,), without repeats."""
        return self._dataset.labels

    def load_targets(self, rows: NDArray[np.intp]) -> Tensor | None:
        """Return the targets that replace the labels of some rows, (n, K), on the device; None without any."""
        if self._dataset.targets is None:
            return None
        targets = self._dataset.targets[rows % len(self._dataset.labels)]
        return torch.from_numpy(targets).to(self._device, non_blocking=True)

    def load_soft_targets(self, rows: NDArray[np.intp], epoch: int) -> SoftTargetBatch | None:
        """Return the crops of some rows in an epoch with their targets; None without a teacher.

        Cycles through the crops of an image, two epochs each: one plain, one flipped. Repeats of an image in one epoch
        get different crops.
        """
        soft = self._dataset.soft_targets
        if soft is None:
            return None
        repeat, rows = np.divmod(rows, len(self._dataset.labels))
        view = (rows + repeat + self._repeats * (epoch // 2)) % soft.crops.shape[1]
        targets = torch.from_numpy(soft.targets[rows, view]).to(self._device, non_blocking=True)
        if soft.embeddings is None:
            return SoftTargetBatch(soft.crops[rows, view], targets)
        embeddings = torch.from_numpy(soft.embeddings[rows, view]).to(self._device, non_blocking=True)
        return SoftTargetBatch(soft.crops[rows, view], targets, embeddings)

    def load_batch(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return images, (n, H, W, 3) uint8, and labels, (n,), on the device."""
        rows = rows % len(self._dataset.labels)
        labels = torch.from_numpy(self._dataset.labels[rows]).to(self._device, non_blocking=True)
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self._device)], labels
        return torch.from_numpy(self._dataset.images[rows]).to(self._device, non_blocking=True), labels
