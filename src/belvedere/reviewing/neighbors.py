"""Finds the most similar images of each class by the embeddings of a model, computed in the background."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.hashing import HashedSamples
from belvedere.errors import BelvedereError
from belvedere.inference.uncertainty.knn import unit_vectors
from belvedere.reviewing.models import Embed
from belvedere.reviewing.stoppable_thread import StoppableThread
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample

NUM_NEIGHBORS = 4  # per class
MAX_IMAGES = 50_000  # to search; of more, every n-th


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An image similar to the one under review."""

    path: Path
    sha256: str
    label: str
    similarity: float  # cosine of the embeddings


class NeighborIndex:
    """Finds neighbors once the embeddings are computed."""

    def __init__(self) -> None:
        self.error = ""  # why there are no neighbors
        self._ready = threading.Event()
        self._thread: StoppableThread | None = None
        self._samples: Sequence[Sample] = ()
        self._hashes: NDArray[np.str_] = np.array([], np.str_)
        self._embeddings: NDArray[np.float32] = np.zeros((0, 0), np.float32)  # (N, D), unit vectors
        self._rows: Mapping[str, int] = {}

    @property
    def is_ready(self) -> bool:
        """Whether the embeddings are computed."""
        return self._ready.is_set()

    @property
    def is_started(self) -> bool:
        """Whether there is a model."""
        return self._thread is not None

    def start(self, hash_images: Callable[[Progress], HashedSamples], embed: Embed, progress: Progress) -> None:
        """Compute the embeddings in a thread, until `stop`."""
        self._thread = StoppableThread("neighbors", partial(self._compute, hash_images, embed), progress)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.wait(seconds)

    def stop(self) -> None:
        """End the thread after its current batch; finished embeddings stay in the cache."""
        if self._thread is not None:
            self._thread.stop()

    def _compute(self, hash_images: Callable[[Progress], HashedSamples], embed: Embed, progress: Progress) -> None:
        try:
            found = embed(hash_images(progress), progress)
        except (BelvedereError, OSError) as error:
            self.error = str(error)
            return
        self._embeddings = unit_vectors(found.values)
        self._samples, self._hashes = found.samples, np.array(found.hashes)
        self._rows = {key: row for row, key in enumerate(found.hashes)}
        self._ready.set()

    def find(self, sha256: str, labels: Mapping[str, str], class_names: Sequence[str]) -> dict[str, list[Neighbor]]:
        """Find the most similar images of each class.

        Args:
            sha256: Hash of the image under review; its copies are excluded.
            labels: Corrected labels by hash.
            class_names: Classes.

        Returns:
            Up to `NUM_NEIGHBORS` of each class, most similar first; empty while the embeddings are not ready.
        """
        if not self.is_ready or sha256 not in self._rows:
            return {}
        similarities = self._embeddings @ self._embeddings[self._rows[sha256]]  # (N,)
        similarities[self._hashes == sha256] = -2
        found: dict[str, list[Neighbor]] = {name: [] for name in class_names}
        open_classes = set(class_names)
        for row in np.argsort(-similarities):
            if not open_classes or similarities[row] < -1.5:
                break
            key, sample = str(self._hashes[row]), self._samples[row]
            label = labels.get(key, sample.label)
            if label in open_classes and all(key != other.sha256 for other in found[label]):
                found[label].append(Neighbor(sample.path, key, label, float(similarities[row])))
                if len(found[label]) == NUM_NEIGHBORS:
                    open_classes.discard(label)
        return found


def subsample(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return every n-th sample of a large dataset."""
    return samples[:: -(-len(samples) // MAX_IMAGES) or 1]
