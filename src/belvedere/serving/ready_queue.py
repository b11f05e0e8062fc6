"""Decoded images that wait for their model: a batch holds images of one model, and the models take turns."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


class ReadyQueue(Generic[Key, Item]):
    """Items in groups, which are taken group by group."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._groups: dict[Key, deque[Item]] = {}  # none is empty; the first one has its turn
        self._num_stops = 0

    def put(self, key: Key, item: Item) -> None:
        """Add an item to its group."""
        with self._changed:
            self._groups.setdefault(key, deque()).append(item)
            self._changed.notify_all()  # a thread that waits for another group must not use up the notice

    def stop_one(self) -> None:
        """Let one `take` return nothing, once no item waits."""
        with self._changed:
            self._num_stops += 1
            self._changed.notify_all()

    def take(self, max_items: int, max_delay: float, may_grow: Callable[[], bool]) -> list[Item]:
        """Wait for items, and return those of one group.

        Args:
            max_items: Maximum number of items.
            max_delay: Seconds to wait for further items of the group.
            may_grow: Whether further items are expected.

        Returns:
            At least one item; none after `stop_one`.
        """
        with self._changed:
            while not self._groups:
                if self._num_stops:
                    self._num_stops -= 1
                    return []
                self._changed.wait()
            key = next(iter(self._groups))
            items = self._pop(key, max_items)
            deadline = time.monotonic() + max_delay
            while len(items) < max_items and may_grow() and (seconds := deadline - time.monotonic()) > 0:
                self._changed.wait(seconds)
                items += self._pop(key, max_items - len(items))
            return items

    def _pop(self, key: Key, max_items: int) -> list[Item]:
        """Remove items of a group; what is left of it goes to the end of the groups."""
        group = self._groups.pop(key, None)
        if group is None:
            return []
        items = [group.popleft() for _ in range(min(max_items, len(group)))]
        if group:
            self._groups[key] = group
        return items
