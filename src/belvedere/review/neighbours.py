"""The nearest neighbours of a photograph in each class, as a model sees them.

Knows embeddings and their angles; does not know what a person decides. They are worked out beside the page, which is
there at once, and kept in the cache.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.hashing import Contents
from belvedere.errors import BelvedereError
from belvedere.review.models import Describe
from belvedere.runtime.progress import Progress, Task
from belvedere.runtime.timeouts import BackgroundThread
from belvedere.types.data import Sample

EACH = 4  # neighbours of a class
STOP_SECONDS = 20.0  # for a few pictures to go through a model, however large it is
MOST_PHOTOGRAPHS = 50_000  # to look among; of more, every n-th


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A photograph like the one in doubt."""

    path: Path
    sha256: str
    label: str
    likeness: float  # cosine of the angle between the embeddings


class Neighbours:
    """Finds neighbours, as soon as the photographs are described."""

    def __init__(self) -> None:
        self.problem = ""  # why there are none
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._samples: Sequence[Sample] = ()
        self._hashes: NDArray[np.str_] = np.array([], np.str_)
        self._values: NDArray[np.float32] = np.zeros((0, 0), np.float32)  # (N, D), each of length 1
        self._rows: Mapping[str, int] = {}

    @property
    def ready(self) -> bool:
        """Whether the photographs are described."""
        return self._ready.is_set()

    @property
    def is_started(self) -> bool:
        """Whether there is anything to find neighbours by."""
        return self._thread is not None

    def start(self, gather: Callable[[Progress], Contents], describe: Describe, progress: Progress) -> None:
        """Gathers and describes the photographs in a thread, until `stop`."""
        arguments = (gather, describe, _Stoppable(progress, self._stop))
        self._thread = BackgroundThread(partial(self._describe, *arguments), "neighbors")
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Waits for the thread, whatever key is pressed: a process that ends in a model's code crashes."""
        until = time.monotonic() + seconds
        while self._thread is not None and self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            with suppress(KeyboardInterrupt):
                self._thread.join(left)

    def stop(self) -> None:
        """Ends the thread after the pictures that it is at; those that were described stay in the cache."""
        self._stop.set()
        self.wait(STOP_SECONDS)

    def _describe(self, gather: Callable[[Progress], Contents], describe: Describe, progress: Progress) -> None:
        try:
            found = describe(gather(progress), progress)
        except _Stopped:
            return
        except (BelvedereError, OSError) as error:
            self.problem = str(error)
            return
        lengths = np.linalg.norm(found.values, axis=1, keepdims=True)
        self._values = found.values / np.maximum(lengths, 1e-12)
        self._samples, self._hashes = found.samples, np.array(found.hashes)
        self._rows = {key: row for row, key in enumerate(found.hashes)}
        self._ready.set()

    def find(self, sha256: str, labels: Mapping[str, str], class_names: Sequence[str]) -> dict[str, list[Neighbour]]:
        """Finds the nearest photographs of each class.

        Args:
            sha256: Of the photograph in doubt; itself and its copies are left out.
            labels: Corrected labels by hash, which hold in place of the given ones.
            class_names: The classes.

        Returns:
            The nearest few of each class, nearest first; nothing while they are not ready.
        """
        if not self.ready or sha256 not in self._rows:
            return {}
        likeness = self._values @ self._values[self._rows[sha256]]  # (N,)
        likeness[self._hashes == sha256] = -2
        found: dict[str, list[Neighbour]] = {name: [] for name in class_names}
        open_classes = set(class_names)
        for row in np.argsort(-likeness):
            if not open_classes or likeness[row] < -1.5:
                break
            key, sample = str(self._hashes[row]), self._samples[row]
            label = labels.get(key, sample.label)
            if label in open_classes and all(key != other.sha256 for other in found[label]):
                found[label].append(Neighbour(sample.path, key, label, float(likeness[row])))
                if len(found[label]) == EACH:
                    open_classes.discard(label)
        return found


def subsample(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Leaves every n-th photograph of a large data set."""
    return samples[:: -(-len(samples) // MOST_PHOTOGRAPHS) or 1]


class _Stopped(Exception):
    """The work shall end."""


class _Stoppable(Progress):
    """Shows how far work is, and ends it when it next says so."""

    def __init__(self, shown: Progress, stop: threading.Event) -> None:
        self._shown, self._stop = shown, stop

    def say(self, message: str) -> None:
        self._shown.say(message)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        with self._shown.task(description, images, unit) as task:
            yield _StoppableTask(task, self._stop)


class _StoppableTask(Task):
    def __init__(self, shown: Task, stop: threading.Event) -> None:
        self._shown, self._stop = shown, stop

    def advance(self, images: int, figures: str = "") -> None:
        if self._stop.is_set():
            raise _Stopped
        self._shown.advance(images, figures)

    def skip(self, images: int) -> None:
        self._shown.skip(images)
