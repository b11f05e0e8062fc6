"""Progress of long jobs: bars on a terminal, lines in a log, nothing by default."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from belvedere.runtime.terminal import print_error, printable
from belvedere.types.data import DataWarning

LINE_INTERVAL_SECONDS = 10.0
MAX_NAMES = 3  # shown with a warning
WIDE_COLUMNS = 100  # terminal width for a long bar


class Task:
    """A running job; this class shows nothing."""

    def advance(self, images: int, metrics: str = "") -> None:
        """Report that more images are done, with metrics to show beside the bar."""

    def resume_at(self, images: int) -> None:
        """Report, before the first `advance`, the images done by an earlier process; the rate excludes them."""


class Progress:
    """Receives messages and progress; this class, the default of every function, shows nothing."""

    def log(self, message: str) -> None:
        """Show a message, in one line."""

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        """Show warnings about data, a line each with the first few names."""
        for warning in warnings:
            more = f" and {len(warning.names) - MAX_NAMES} more" if len(warning.names) > MAX_NAMES else ""
            names = ": " + ", ".join(warning.names[:MAX_NAMES]) + more if warning.names else ""
            self.log(f"Warning: {warning.message}{names}")

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        """Show a job during the block.

        Args:
            description: What is done, such as "Reading".
            images: Number of images, or of other units; 0 if unknown.
            unit: Name of the units.

        Yields:
            The task to report to.
        """
        yield Task()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a stage of a training: "fit", "export" or "write"; a program may prepare its process for it."""
        yield


class ForwardedProgress(Progress):
    """Passes everything on to another progress; subclasses add to it."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def log(self, message: str) -> None:
        self._inner.log(message)

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        self._inner.log_warnings(warnings)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        with self._inner.task(description, images, unit) as task:
            yield task

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with self._inner.stage(name):
            yield


class LoggedProgress(ForwardedProgress):
    """Appends messages to a log file as well, with the time and all names of a warning."""

    def __init__(self, file: Path, inner: Progress) -> None:
        super().__init__(inner)
        self._file = file

    def log(self, message: str) -> None:
        self._write(message)
        super().log(message)

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        warnings = tuple(warnings)
        super().log_warnings(warnings)
        for warning in warnings:
            self._write(warning.message)
            for name in warning.names:
                self._write(f"  {name}")

    def _write(self, message: str) -> None:
        # Closed after each line, since Windows renames no folder with open files.
        with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {printable(message)}\n")


class _LineTask(Task):
    """Prints a line every ten seconds."""

    def __init__(self, description: str, images: int, unit: str) -> None:
        self._description, self._images, self._unit = description, images, unit
        self.resume_at(0)

    def resume_at(self, images: int) -> None:
        self._done = self._skipped = images
        self._start = self._last = time.monotonic()

    def advance(self, images: int, metrics: str = "") -> None:
        self._done += images
        now = time.monotonic()
        if now - self._last >= LINE_INTERVAL_SECONDS:
            self._last = now
            rate = (self._done - self._skipped) / (now - self._start)
            total = f"/{self._images}" if self._images else ""
            left = f", {(self._images - self._done) / rate if rate else 0:.0f} s left" if self._images else ""
            speed = f"{rate:.0f} {self._unit}/s{left}"
            print_error(f"{self._description}: {self._done}{total} {self._unit}, {speed} {metrics}".rstrip())


class LineProgress(Progress):
    """Prints lines to stderr."""

    def log(self, message: str) -> None:
        print_error(message)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        yield _LineTask(description, images, unit)


class TerminalProgress(Progress):
    """Shows bars on stderr, with images per second and remaining time."""

    def __init__(self) -> None:
        from belvedere.runtime.console import PlainConsole

        self._console = PlainConsole(stderr=True)

    def log(self, message: str) -> None:
        self._console.print(printable(message), soft_wrap=True)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        from rich.markup import escape
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=8 if self._console.width < WIDE_COLUMNS else 24),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[metrics]}"),
        )
        with Bars(*columns, console=self._console, transient=True) as bars:
            identity = bars.add_task(escape(description), total=images or None, rate="", metrics="")

            class BarTask(Task):
                def __init__(self) -> None:
                    self.resume_at(0)

                def resume_at(self, images: int) -> None:
                    self._skipped, self._start = images, time.monotonic()
                    bars.reset(identity, completed=images)

                def advance(self, images: int, metrics: str = "") -> None:
                    bars.advance(identity, images)
                    done = bars.tasks[0].completed - self._skipped
                    rate = done / max(time.monotonic() - self._start, 1e-9)
                    bars.update(identity, rate=f"{rate:.0f} {unit}/s", metrics=escape(metrics))

            yield BarTask()


def console_progress() -> Progress:
    """Return bars if stderr is a terminal, otherwise lines."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()
