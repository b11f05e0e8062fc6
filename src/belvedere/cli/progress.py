"""Progress of commands: the console, with what training and reviewing add."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from belvedere.cli.ending import name_options
from belvedere.runtime.memory import keep_freed_memory, trim_memory
from belvedere.runtime.progress import ForwardedProgress, console_progress
from belvedere.runtime.signals import defer_interrupt
from belvedere.types.data import DataWarning


class TrainingProgress(ForwardedProgress):
    """Sets the allocator and Ctrl-C of the process for each stage of a training."""

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


class ReviewProgress(ForwardedProgress):
    """Shows arguments in messages, as in `data`, as options of the command."""

    def __init__(self) -> None:
        super().__init__(console_progress())

    def log(self, message: str) -> None:
        """Show a message, with options."""
        super().log(name_options(message, ["review"]))

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        """Show warnings, with options."""
        super().log_warnings([replace(each, message=name_options(each.message, ["review"])) for each in warnings])
