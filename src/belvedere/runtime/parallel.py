"""Threads: a parallel map with bounded memory, and calls with a time limit.

Threads in native code cannot be stopped, and the interpreter aborts when it exits while they run;
`running_threads` lists them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from itertools import islice
from typing import TypeVar

from belvedere.runtime.thread_pool import ThreadPool

PREFETCH = 128

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    prefetch: int = PREFETCH,
    chunk_size: int = 1,
    pool: ThreadPool | None = None,
) -> Iterator[Result]:
    """Call a function for each item in threads.

    Args:
        function: The function; an error of it ends the iteration, before the other results of its chunk.
        items: The items, consumed lazily.
        prefetch: Number of results that are computed ahead.
        chunk_size: Number of items per task of a thread: more than 1 where scheduling costs as much as the work.
        pool: Threads, which stay; default: threads of this call.

    Yields:
        The result of each item, in order.
    """
    chunks = batched(items, min(chunk_size, prefetch))
    running: deque[Future[list[Result]]] = deque()
    threads = pool or ThreadPool()
    try:
        while True:
            wanted = max(1, prefetch // chunk_size) - len(running)
            running.extend(threads.submit(partial(_map_chunk, function, chunk)) for chunk in islice(chunks, wanted))
            if not running:
                return
            yield from running.popleft().result()
    finally:
        wait([future for future in running if not future.cancel()])
        if pool is None:
            threads.close()


def _map_chunk(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return list(map(function, chunk))


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one perhaps shorter; items are consumed lazily."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])


class BackgroundThread(threading.Thread):
    """A daemon thread, which may still be running when the process ends."""

    def __init__(self, function: Callable[[], object], name: str) -> None:
        super().__init__(target=function, name=name, daemon=True)


def call_with_timeout(function: Callable[[], Result], seconds: float, name: str) -> Result:
    """Return the result of a function that runs in a thread of the given name, which is abandoned after a time.

    Raises:
        TimeoutError: The function has not returned in time. Its own errors are raised unchanged.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            future.set_exception(error)

    BackgroundThread(run, name).start()
    return future.result(seconds)


def running_threads(seconds: float) -> list[threading.Thread]:
    """Return the background threads that are still running after some seconds of waiting."""
    end = time.monotonic() + seconds
    threads = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundThread)]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]
