"""A background thread that ends at the next step of its progress after a stop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from belvedere.runtime.parallel import BackgroundThread
from belvedere.runtime.progress import ForwardedProgress, Progress, Task
from belvedere.runtime.thread_pool import PoolClosedError

STOP_SECONDS = 20.0  # for the step that is being computed


class StoppableThread:
    """Runs a function with a progress, until it returns or `stop`."""

    def __init__(self, name: str, function: Callable[[Progress], object], progress: Progress) -> None:
        self._stop = threading.Event()
        self._function, self._progress = function, _StoppableProgress(progress, self._stop)
        self._thread = BackgroundThread(self._run, name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        with suppress(_StoppedError, PoolClosedError):
            self._function(self._progress)

    def wait(self, seconds: float) -> None:
        """Wait for the thread despite Ctrl-C, since a process that ends during inference crashes."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            with suppress(KeyboardInterrupt):
                self._thread.join(left)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the thread at its next step, and wait for it."""
        self._stop.set()
        self.wait(seconds)


class _StoppedError(Exception):
    """Ends the function."""


class _StoppableProgress(ForwardedProgress):
    """Raises `_StoppedError` at the next step after a stop."""

    def __init__(self, inner: Progress, stop: threading.Event) -> None:
        super().__init__(inner)
        self._stop = stop

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        if self._stop.is_set():
            raise _StoppedError
        with super().task(description, images, unit) as task:
            yield _StoppableTask(task, self._stop)


class _StoppableTask(Task):
    def __init__(self, inner: Task, stop: threading.Event) -> None:
        self._inner, self._stop = inner, stop

    def advance(self, images: int, metrics: str = "") -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._inner.advance(images, metrics)

    def resume_at(self, images: int) -> None:
        self._inner.resume_at(images)
