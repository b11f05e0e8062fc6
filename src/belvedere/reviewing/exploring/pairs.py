"""Finds copies among the images of a map, in a thread: identical files, and images that show the same up to a shift.

Those of an audit are known.
"""

from collections import defaultdict
from collections.abc import Sequence

from belvedere.data.hashing import HashedSamples
from belvedere.data.near_duplicates.shifts import find_shifted_pairs
from belvedere.data.split_names import fill_splits
from belvedere.errors import BelvedereError
from belvedere.reviewing.stoppable_thread import StoppableThread
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample

MAX_PAIRS = 20_000
STOP_SECONDS = 5.0  # for the step that is being computed; it ends with the process


class PairFinder:
    """Pairs of rows, as they are found."""

    def __init__(
        self, samples: Sequence[Sample], hashes: Sequence[str], known: Sequence[tuple[int, int]] | None = None
    ) -> None:
        self._contents = HashedSamples(tuple(samples), tuple(hashes))
        self._splits = fill_splits([sample.split for sample in samples])
        self.is_done = known is not None
        self.pairs = self._identical() if known is None else list(known[:MAX_PAIRS])
        self._thread: StoppableThread | None = None

    def start(self) -> None:
        """Start the search for images that are not identical, unless the pairs are known."""
        if not self.is_done:
            self._thread = StoppableThread("copies", self._search, Progress())
            self._thread.start()

    def stop(self) -> None:
        """End the search."""
        if self._thread is not None:
            self._thread.stop(STOP_SECONDS)

    def _identical(self) -> list[tuple[int, int]]:
        rows = defaultdict[str, list[int]](list)
        for row, key in enumerate(self._contents.hashes):
            rows[key].append(row)
        return [(group[0], other) for group in rows.values() for other in group[1:]]

    def _search(self, progress: Progress) -> None:
        try:
            found = find_shifted_pairs(self._contents, progress)
            self.pairs = [*self.pairs, *((int(one), int(other)) for one, other in found)][:MAX_PAIRS]
        except (BelvedereError, OSError):  # such as a full disk: the map is of use without
            pass
        finally:
            self.is_done = True

    def describe(self) -> dict[str, object]:
        """Return the pairs and whether the search has ended, for the page; a leak has images of two splits."""
        is_done, pairs = self.is_done, self.pairs  # in this order: the search may end meanwhile
        leaks = [self._splits[one] != self._splits[other] for one, other in pairs]
        return {"pairs": pairs, "leaks": leaks, "done": is_done}
