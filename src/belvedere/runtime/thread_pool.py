"""A thread pool that lives as long as its owner, and that a forked process makes anew."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakSet

from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.operating_system import call_at_fork

Result = TypeVar("Result")


class PoolClosedError(RuntimeError):
    """The process ends: thread pools take no more tasks."""


class ThreadPool:
    """Threads that start with the first task, and again with the first one after `close` or a fork.

    The threads end when the pool is garbage collected.
    """

    def __init__(self, num_threads: int | None = None) -> None:
        """Set up a pool.

        Args:
            num_threads: Number of threads; default: one per CPU that the process may use when they start.
        """
        self._num_threads = num_threads
        self._reset()
        _POOLS.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Call a function in a thread.

        Raises:
            PoolClosedError: The process ends, and this is a daemon thread.
        """
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._num_threads or num_usable_cpus(), "belvedere")
            try:
                return self._executor.submit(function)
            except RuntimeError as error:
                if "shutdown" not in str(error):  # such as too many threads
                    raise
                raise PoolClosedError(str(error)) from error

    def close(self) -> None:
        """End the threads after the submitted tasks."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


_POOLS: WeakSet[ThreadPool] = WeakSet()


def _reset_pools() -> None:
    """Forget the threads of the parent process, which a child does not have, and locks that they may hold."""
    for pool in list(_POOLS):
        pool._reset()


call_at_fork(_reset_pools)
