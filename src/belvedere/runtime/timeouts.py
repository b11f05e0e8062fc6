"""Work that may never end: in threads that can be left behind.

Knows threads and time limits; does not know what is done. A thread in native code can't be ended from outside, and the
interpreter's own end aborts the process while there is one: `running_threads` tells whether to end it otherwise.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class BackgroundThread(threading.Thread):
    """A daemon thread, which may be in the middle of its work when the process ends."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        super().__init__(target=work, name=name, daemon=True)


class _Call(Generic[Outcome]):
    """A call in a thread of its own, and what came of it."""

    def __init__(self, function: Callable[[], Outcome]) -> None:
        self._function = function
        self.outcome: list[Outcome] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.outcome.append(self._function())
        except BaseException as error:  # noqa: BLE001 - raised again where it was called
            self.error = error


def call_with_timeout(function: Callable[[], Outcome], seconds: float, name: str) -> Outcome:
    """Call a function in a thread of its own, and leave it behind after a time.

    Args:
        function: What to do.
        seconds: For which it is waited for.
        name: Of the thread.

    Returns:
        What the function returned.

    Raises:
        TimeoutError: It has not returned in time; errors of the function's are raised as they are.
    """
    call = _Call(function)
    thread = BackgroundThread(call.run, name)
    thread.start()
    thread.join(seconds)
    if call.error is not None:
        raise call.error
    if not call.outcome:
        raise TimeoutError
    return call.outcome[0]


def running_threads(seconds: float) -> list[threading.Thread]:
    """Return the background threads that are still at work after a moment of waiting."""
    until = time.monotonic() + seconds
    threads = [thread for thread in threading.enumerate() if isinstance(thread, BackgroundThread)]
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]
