"""Threads with a clock on their work: one that does not come back from it in time is replaced.

Knows threads and time limits; does not know what the work is. A thread can't be ended from outside: one that is over
its limit is given up, another takes its place, a bounded number of times, and it ends by itself once its work does.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Generic, TypeVar

from belvedere.runtime.timeouts import BackgroundThread

Work = TypeVar("Work")
Task = tuple[Work, float]  # what is being done, and when it was begun


class Worker(BackgroundThread, Generic[Work]):
    """A thread of a pool."""

    def __init__(self, run: "Callable[[Worker[Work]], None]", name: str) -> None:
        super().__init__(lambda: run(self), name)
        self.task: Task[Work] | None = None
        self.is_replaced = False  # then it takes no more work

    @contextmanager
    def at(self, work: Work) -> Iterator[None]:
        """Note what is being done."""
        self.task = work, time.monotonic()
        try:
            yield
        finally:
            self.task = None


class Pool(Generic[Work]):
    """Threads that do the same."""

    def __init__(
        self,
        name: str,
        size: int,
        seconds: float,
        run: Callable[[Worker[Work]], None],
        end_one: Callable[[], None],
    ) -> None:
        """Make the threads; `start` starts them.

        Args:
            name: Of the threads, before their number.
            size: Threads that work at one time; as many more may be stuck.
            seconds: For one piece of work.
            run: What a thread does.
            end_one: Makes one of the threads return.
        """
        self._numbers, self._name, self._run, self._end_one = count(), name, run, end_one
        self._size, self.seconds = size, seconds
        self._workers = [self._make() for _ in range(size)]
        self._replaced: list[Worker[Work]] = []
        self._given_up: list[tuple[Worker[Work], Task[Work]]] = []

    def _make(self) -> Worker[Work]:
        return Worker(self._run, f"{self._name}-{next(self._numbers)}")

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    def close(self, until: float) -> None:
        """End the threads after the work that waits; what hangs is left behind at a moment of `time.monotonic`."""
        for _ in self._workers:
            self._end_one()
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Whether every thread is there, perhaps stuck."""
        return all(worker.is_alive() for worker in self._workers)

    def list_work(self) -> list[Work]:
        """Return what is being done."""
        return [task[0] for worker in (*self._workers, *self._replaced) if (task := worker.task) is not None]

    def list_stuck(self) -> list[str]:
        """Name the threads that are over their time, and still at it."""
        self._given_up = [(worker, task) for worker, task in self._given_up if worker.task is task]
        now = time.monotonic()
        return [f"{worker.name} for {now - began:.0f} s" for worker, (_, began) in self._given_up]

    def give_up_late(self) -> list[Work]:
        """Replace the threads that are over their time, and return what they are at."""
        late = []
        known = {id(task) for _, task in self._given_up}  # which are held there, so that the numbers mean them
        for place, worker in enumerate(self._workers):
            task = worker.task
            if task is not None and id(task) not in known and time.monotonic() - task[1] > self.seconds:
                late.append(task[0])
                self._given_up.append((worker, task))
                self._replace(place)
        return late

    def _replace(self, place: int) -> None:
        self._replaced = [worker for worker in self._replaced if worker.is_alive()]
        if len(self._replaced) < self._size:
            self._workers[place].is_replaced = True
            self._replaced.append(self._workers[place])
            self._workers[place] = self._make()
            self._workers[place].start()
