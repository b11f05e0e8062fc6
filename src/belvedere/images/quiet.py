"""Suppresses Pillow's warnings, from any number of threads."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from belvedere.runtime.operating_system import call_at_fork


class PillowWarnings:
    """Suppresses warnings while any thread decodes, since the decoder reports problems itself.

    `warnings.catch_warnings` affects the whole process: the first thread enters it, the last one leaves it.
    """

    def __init__(self) -> None:
        self._lock, self._threads = threading.Lock(), 0
        self._caught: warnings.catch_warnings[None] | None = None
        call_at_fork(self._end, before=self._lock.acquire, after_in_parent=self._lock.release)

    def _end(self) -> None:
        """In a forked process, end what threads of its parent began."""
        self._threads = 0
        if self._caught is not None:
            self._caught.__exit__(None, None, None)
            self._caught = None
        self._lock.release()

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Suppress warnings within a block."""
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
