"""Progress of commands that train: sets the allocator and Ctrl-C of the process for each stage."""

from collections.abc import Iterator
from contextlib import contextmanager

from belvedere.runtime.memory import keep_freed_memory, trim_memory
from belvedere.runtime.progress import ForwardedProgress, console_progress
from belvedere.runtime.signals import defer_interrupt


class TrainingProgress(ForwardedProgress):
    """Shows progress on the console."""

    def __init__(self) -> None:
        super().__init__(console_progress())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Keep freed memory for "fit", return that of "export", and defer Ctrl-C during "write"."""
        if name == "fit":
            with keep_freed_memory():
                yield
        elif name == "write":
            with defer_interrupt(self):
                yield
        else:
            yield
            trim_memory()
