"""Pictures and labels brought to the device they are learnt on.

Knows where pixels lie and when they fit on a GPU; does not know what happens to them there.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.training.augment import Boxes
from belvedere.training.device import Hardware

RESIDENT_SHARE = 0.5  # of a GPU's free memory, which pixels may take
LOADED_TOGETHER = 1024  # pictures brought to a GPU at once


class Rows(Protocol):
    """Pictures by their rows: an array, or a file that is read as one."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: NDArray[np.intp], /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class SoftTargets:
    """What a teacher says of V crops of each of N photographs, mixed with the labels."""

    crops: NDArray[np.float32]  # (N, V, 4): top, left, height, width, as shares of the picture's
    targets: NDArray[np.float32]  # (N, V, K), with the sum 1


@dataclass(frozen=True)
class SoftTargetBatch:
    """A batch of them: a crop of each picture."""

    crops: NDArray[np.float32]  # (n, 4)
    targets: Tensor  # (n, K), on the device

    def boxes(self, mirrored: NDArray[np.bool_], height: int, width: int) -> Boxes:
        """Returns the crops of pictures of a size, (n,) of them to be mirrored."""
        top, left, rows, columns = self.crops.T.astype(np.float64)
        return Boxes(top * height, left * width, rows * height, columns * width, mirrored)


@dataclass(frozen=True)
class Part:
    """Photographs to learn from or to validate on."""

    images: Rows  # (N, H, W, 3) uint8
    labels: NDArray[np.int64]  # (N,)
    targets: NDArray[np.float32] | None = None  # (N, K), instead of the labels, where a picture has several
    lessons: SoftTargets | None = None  # instead of either, where there is a teacher


class DataLoader:
    """A part's pictures on a device: all of them where they fit on a GPU, else batch by batch."""

    def __init__(self, part: Part, hardware: Hardware, repeats: int = 1) -> None:
        """Opens a part; with `repeats`, its pictures are there so many times."""
        self._part, self._device, self._repeats = part, hardware.device, repeats
        self._resident: Tensor | None = None
        if self._device.type == "cuda":
            one = part.images[np.zeros(1, np.intp)]
            free, _ = torch.cuda.mem_get_info(self._device)
            if one.nbytes * len(part.labels) < RESIDENT_SHARE * free:
                self._resident = self._load(one)

    def _load(self, one: NDArray[np.uint8]) -> Tensor:
        count = len(self._part.labels)
        everything = torch.empty((count, *one.shape[1:]), dtype=torch.uint8, device=self._device)
        for start in range(0, count, LOADED_TOGETHER):
            rows = np.arange(start, min(start + LOADED_TOGETHER, count))
            everything[rows[0] : rows[-1] + 1] = torch.from_numpy(self._part.images[rows])
        return everything

    def __len__(self) -> int:
        return len(self._part.labels) * self._repeats

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of the part, (N,), without repeats."""
        return self._part.labels

    def targets(self, rows: NDArray[np.intp]) -> Tensor | None:
        """Returns what is learnt of some rows instead of their labels, (n, K), on the device; None where nothing is."""
        if self._part.targets is None:
            return None
        return torch.from_numpy(self._part.targets[rows % len(self._part.labels)]).to(self._device, non_blocking=True)

    def lesson(self, rows: NDArray[np.intp], epoch: int) -> SoftTargetBatch | None:
        """Returns which crops a teacher answered for show some rows in an epoch, and what is learnt of them.

        One after the other has its turn, each for two epochs, so that its mirror image is shown as well; a picture that
        is shown several times in an epoch is shown by as many crops.
        """
        lessons = self._part.lessons
        if lessons is None:
            return None
        again, rows = np.divmod(rows, len(self._part.labels))
        view = (rows + again + self._repeats * (epoch // 2)) % lessons.crops.shape[1]
        targets = torch.from_numpy(lessons.targets[rows, view]).to(self._device, non_blocking=True)
        return SoftTargetBatch(lessons.crops[rows, view], targets)

    def take(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Returns pictures, (n, H, W, 3) uint8, and labels, (n,), of some rows, on the device."""
        rows = rows % len(self._part.labels)
        labels = torch.from_numpy(self._part.labels[rows]).to(self._device, non_blocking=True)
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self._device)], labels
        return torch.from_numpy(self._part.images[rows]).to(self._device, non_blocking=True), labels
