"""Deferred Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from belvedere.runtime.progress import Progress


@contextmanager
def defer_interrupt(progress: Progress) -> Iterator[None]:
    """Let a block of a few seconds finish although Ctrl-C is pressed once; the second Ctrl-C interrupts it.

    Args:
        progress: Shows what a second Ctrl-C does.
    """
    ignored = signal.getsignal(signal.SIGINT) in (None, signal.SIG_IGN)
    if ignored or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, previous)
        with suppress(RuntimeError):  # the signal may interrupt another message
            progress.log("The model and its report are being written: press Ctrl-C again to abort.")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
