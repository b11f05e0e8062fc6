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


def map_ahead(function: Callable[[Item], Outcome], items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Outcome]:
    """Calls a function for each item in threads, in order.

    Args:
        function: What to do; an error of its ends the iteration where its result would stand.
        items: Taken as they are needed, never all at once.
        ahead: How many results may wait to be taken.

    Yields:
        A result for each item, in the order of the items.
    """
    waiting = iter(items)
    running: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while True:
            running.extend(pool.submit(function, item) for item in islice(waiting, ahead - len(running)))
            if not running:
                return
            yield running.popleft().result()
