"""Work on every core, ahead of whoever takes the results, in memory that stays flat.

Knows order and how far ahead to run; does not know what is done.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AHEAD = 128  # results that may wait to be taken

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def parallel_map(
    function: Callable[[Item], Outcome], items: Iterable[Item], ahead: int = AHEAD, together: int = 1
) -> Iterator[Outcome]:
    """Calls a function for each item in threads, in order.

    Args:
        function: What to do; an error of its ends the iteration, before the results of those it was taken with.
        items: Taken as they are needed, never all at once.
        ahead: How many results may wait to be taken.
        together: How many items a thread takes at once: more than one where handing over costs as much as the work.

    Yields:
        A result for each item, in the order of the items.
    """
    waiting = chunks_of(items, min(together, ahead))
    running: deque[Future[list[Outcome]]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        while True:
            wanted = max(1, ahead // together) - len(running)
            running.extend(
                pool.submit(lambda chunk: list(map(function, chunk)), chunk) for chunk in islice(waiting, wanted)
            )
            if not running:
                return
            yield from running.popleft().result()
    finally:  # where nobody takes the rest, it is not begun
        pool.shutdown(cancel_futures=True)


def chunks_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cuts items into lists of a size, the last perhaps shorter; taken as they are needed."""
    waiting = iter(items)
    return iter(lambda: list(islice(waiting, size)), [])
