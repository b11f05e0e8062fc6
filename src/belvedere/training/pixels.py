"""Photographs to one file of pixels, each decoded once, and batches back from it.

Knows how to read many pictures in parallel and how they lie in the file, so that memory stays flat in their number;
does not know what is learnt from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import TrainingError, UnreadableImage
from belvedere.images import read_inputs
from belvedere.progress import Progress
from belvedere.records import Preprocess, Sample


class PixelFile:
    """Pictures of one size in a file, N x H x W x 3 bytes; indexed by rows, as an array is.

    It is read, not mapped: the kernel caches it all the same, and the process stays small.
    """

    def __init__(self, file: Path, preprocess: Preprocess) -> None:
        self._path = file
        self._shape = (preprocess.height, preprocess.width, 3)
        self._size_bytes = preprocess.height * preprocess.width * 3

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Returns the pictures of some rows, (n, H, W, 3)."""
        images = np.empty((len(rows), *self._shape), np.uint8)
        with self._path.open("rb", buffering=0) as file:
            for image, row in zip(images, rows, strict=True):
                file.seek(int(row) * self._size_bytes)
                if file.readinto(image.data) != self._size_bytes:
                    raise TrainingError(f"{self._path} has been cut short while it was in use. Train again.")
        return images


@dataclass(frozen=True)
class Pixels:
    """Photographs ready to learn from."""

    images: PixelFile
    samples: tuple[Sample, ...]  # N, one a row
    unreadable: tuple[tuple[Sample, str], ...]  # not among them, with the reason
    remarked: tuple[tuple[Sample, str], ...]  # among them, with what was decided in reading


def read_pixels(samples: Sequence[Sample], preprocess: Preprocess, file: Path, progress: Progress) -> Pixels:
    """Decodes photographs into one file.

    Args:
        samples: The photographs.
        preprocess: The model's input, which they are fitted to.
        file: Where the pixels go: N x H x W x 3 bytes.
        progress: Shows how far it is.

    Returns:
        The pixels of those that could be read, in the given order, and the others by name.

    Raises:
        TrainingError: None could be read, or the disk is full.
    """
    if not samples:
        raise TrainingError("There are no photographs to read.")
    kept: list[Sample] = []
    unreadable: list[tuple[Sample, str]] = []
    remarked: list[tuple[Sample, str]] = []
    try:
        with file.open("wb") as out, progress.task("Reading", len(samples)) as task:
            outcomes = read_inputs((sample.path for sample in samples), preprocess)
            for sample, outcome in zip(samples, outcomes, strict=True):
                if isinstance(outcome, UnreadableImage):
                    unreadable.append((sample, outcome.reason))
                else:
                    out.write(np.ascontiguousarray(outcome.pixels).data)
                    kept.append(sample)
                    remarked += [(sample, note) for note in outcome.notes]
                task.advance(1)
    except OSError as error:
        raise TrainingError(f"Can't write the pixels to {file}: {error.strerror}. Free some space there.") from error
    if not kept:
        raise TrainingError(f"None of the {len(samples)} photographs could be read. The first: {unreadable[0][1]}.")
    return Pixels(PixelFile(file, preprocess), tuple(kept), tuple(unreadable), tuple(remarked))
