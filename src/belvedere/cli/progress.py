"""Progress of commands: the console, with options in messages, and the stages of a training or an audit."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from belvedere.cli.ending import name_options
from belvedere.runtime.memory import keep_freed_memory, trim_memory
from belvedere.runtime.progress import ForwardedProgress, console_progress
from belvedere.runtime.signals import defer_interrupt
from belvedere.runtime.terminal import print_error
from belvedere.types.data import DataWarning


class CommandProgress(ForwardedProgress):
    """The console, which shows arguments in messages, as in `data`, as options of the command."""

    def __init__(self, command: str) -> None:
        super().__init__(console_progress())
        self._command = command

    def log(self, message: str) -> None:
        """Show a message, with options."""
        super().log(name_options(message, [self._command]))

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        """Show warnings, with options; names of files are not changed."""
        command = [self._command]
        super().log_warnings([replace(each, message=name_options(each.message, command)) for each in warnings])


class StageProgress(CommandProgress):
    """Progress of a command that sets the allocator and Ctrl-C of the process for each of its stages."""

    def __init__(self, command: str = "train") -> None:
        super().__init__(command)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Keep freed memory for "read" and "fit", return that of "export", and defer Ctrl-C during "write"."""
        if name in ("read", "fit"):
            with keep_freed_memory():
                yield
        elif name == "write":
            with defer_interrupt(self):
                yield
        else:
            yield
            trim_memory()


class WarningPrinter(logging.Handler):
    """Prints warnings that are not part of the progress of a command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record to stderr."""
        print_error(f"Warning: {record.getMessage()}")
