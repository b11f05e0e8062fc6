"""Warnings that are ignored while Pillow decodes, in any number of threads."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class PillowWarnings:
    """Ignores warnings while any thread decodes: what Pillow finds odd comes back as an error or a note.

    `warnings.catch_warnings` changes the whole process, so the first thread in enters it and the last one out leaves
    it; those between decode side by side.
    """

    def __init__(self) -> None:
        self._lock, self._threads = threading.Lock(), 0
        self._caught: warnings.catch_warnings[None] | None = None

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Ignore warnings within a block."""
        with self._lock:
            self._threads += 1
            if self._caught is None:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if self._threads == 0 and self._caught is not None:
                    self._caught.__exit__(None, None, None)
                    self._caught = None


pillow_warnings = PillowWarnings()
