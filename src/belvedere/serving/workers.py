"""Pools of threads with a time limit per task.

A thread cannot be stopped from outside. A thread over the limit continues until its task ends; a new one replaces it,
at most `size` times.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Generic, TypeVar

from belvedere.runtime.parallel import BackgroundThread

Task = TypeVar("Task")
Started = tuple[Task, float]  # a task and its start


class Worker(BackgroundThread, Generic[Task]):
    """A thread of a pool."""

    def __init__(self, run: "Callable[[Worker[Task]], None]", name: str) -> None:
        super().__init__(lambda: run(self), name)
        self.current: Started[Task] | None = None
        self.is_replaced = False  # then it must not take another task

    @contextmanager
    def working_on(self, task: Task) -> Iterator[None]:
        """Record the current task and its start."""
        self.current = task, time.monotonic()
        try:
            yield
        finally:
            self.current = None


class WorkerPool(Generic[Task]):
    """Threads that run the same function."""

    def __init__(
        self, name: str, size: int, seconds: float, run: Callable[[Worker[Task]], None], stop_one: Callable[[], None]
    ) -> None:
        """Create the threads; `start` starts them.

        Args:
            name: Prefix of the thread names.
            size: Number of threads, and maximum number of replaced ones.
            seconds: Time limit per task.
            run: Function of a thread.
            stop_one: Makes one of the threads return.
        """
        self._numbers, self._name, self._run, self._stop_one = count(), name, run, stop_one
        self._size, self.seconds = size, seconds
        self._workers = [self._new_worker() for _ in range(size)]
        self._replaced: list[Worker[Task]] = []
        self._late: list[tuple[Worker[Task], Started[Task]]] = []

    def _new_worker(self) -> Worker[Task]:
        return Worker(self._run, f"{self._name}-{next(self._numbers)}")

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    def close(self, deadline: float) -> None:
        """Stop the threads after the waiting tasks, and return at the deadline (of `time.monotonic`) at the latest."""
        for _ in self._workers:
            self._stop_one()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Whether every thread exists, perhaps stuck."""
        return all(worker.is_alive() for worker in self._workers)

    def current_tasks(self) -> list[Task]:
        """Return the tasks in work."""
        workers = (*self._workers, *self._replaced)
        return [current[0] for worker in workers if (current := worker.current) is not None]

    def describe_stuck(self) -> list[str]:
        """Return name and duration of the threads over the time limit."""
        self._late = [(worker, started) for worker, started in self._late if worker.current is started]
        now = time.monotonic()
        return [f"{worker.name} for {now - start:.0f} s" for worker, (_, start) in self._late]

    def replace_late(self) -> list[Task]:
        """Replace the threads that went over the time limit, and return their tasks."""
        tasks = []
        known = {id(started) for _, started in self._late}  # `_late` keeps them alive, so their ids are unique
        for index, worker in enumerate(self._workers):
            started = worker.current
            if started is not None and id(started) not in known and time.monotonic() - started[1] > self.seconds:
                tasks.append(started[0])
                self._late.append((worker, started))
                self._replace(index)
        return tasks

    def _replace(self, index: int) -> None:
        self._replaced = [worker for worker in self._replaced if worker.is_alive()]
        if len(self._replaced) < self._size:
            self._workers[index].is_replaced = True
            self._replaced.append(self._workers[index])
            self._workers[index] = self._new_worker()
            self._workers[index].start()
