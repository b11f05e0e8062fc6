"""Ctrl-C while a finished training is written: the first is answered with a line, the second obeyed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from belvedere.runtime.progress import Progress


@contextmanager
def defer_interrupt(progress: Progress) -> Iterator[None]:
    """Lets the block, a matter of seconds, come to its end although Ctrl-C is pressed once.

    Args:
        progress: Is told that it was heard, and what pressing it again does.
    """
    deaf = signal.getsignal(signal.SIGINT) in (None, signal.SIG_IGN)
    if deaf or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def answer(*_: object) -> None:
        signal.signal(signal.SIGINT, previous)
        with suppress(RuntimeError):  # it may have come in the middle of another line
            progress.say("The model and its report are being written: Ctrl-C again gives them up.")

    previous = signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
