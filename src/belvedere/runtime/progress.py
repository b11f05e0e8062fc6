"""Progress of long jobs: bars on a terminal or in a notebook, lines in a log, records of the logger `belvedere`."""

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.runtime.terminal import print_error, printable
from belvedere.types.data import DataWarning

LINE_INTERVAL_SECONDS = 10.0
MAX_NAMES = 3  # shown with a warning
WIDE_COLUMNS = 100  # terminal width for a long bar
REDRAW_SECONDS = 0.2  # between two states of a bar in a notebook
WARNING_PREFIX = "Warning: "

TOKEN = re.compile(r"(?<=[?&]token=)[\w-]+")  # of an address; log records may be kept where others read them
LOGGER = logging.getLogger("belvedere")  # without a handler: what it receives is for the program that uses the library
LOGGER.addHandler(logging.NullHandler())


class Task:
    """A running job; this class shows nothing."""

    def advance(self, images: int, metrics: str = "") -> None:
        """Report that more images are done, with metrics to show beside the bar."""

    def resume_at(self, images: int) -> None:
        """Report, before the first `advance`, the images done by an earlier process; the rate excludes them."""


class Progress:
    """Receives messages and progress; this class shows nothing."""

    def log(self, message: str) -> None:
        """Show a message.

        Args:
            message: One line.
        """

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        """Show warnings about data, a line each with the first few names.

        Args:
            warnings: Warnings, each with a message and names of files.
        """
        for warning in warnings:
            self.log(WARNING_PREFIX + describe_warning(warning))

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        """Show a job during the block.

        Args:
            description: Name of the work, such as "Reading".
            images: Number of images, or of other units; 0 if unknown.
            unit: Name of the units.

        Yields:
            The task to report to.
        """
        yield Task()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a stage, for which a program may prepare.

        Args:
            name: "read" for an audit; "fit", "export" or "write" for a training.
        """
        yield


def describe_warning(warning: DataWarning) -> str:
    """Return a warning in one line, with its first few names."""
    more = f" and {len(warning.names) - MAX_NAMES} more" if len(warning.names) > MAX_NAMES else ""
    return warning.message + (": " + ", ".join(warning.names[:MAX_NAMES]) + more if warning.names else "")


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


class LoggerProgress(ForwardedProgress):
    """Sends messages to the logger `belvedere` as well: warnings as WARNING, others as INFO."""

    def log(self, message: str) -> None:
        super().log(message)
        message = TOKEN.sub("...", message)
        if message.startswith(WARNING_PREFIX):
            LOGGER.warning("%s", printable(message.removeprefix(WARNING_PREFIX)))
        else:
            LOGGER.info("%s", printable(message))

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        warnings = tuple(warnings)
        for warning in warnings:
            LOGGER.warning("%s", printable(describe_warning(warning)))
        super().log_warnings(warnings)


class _TimedTask(Task):
    """Shows the state of a job from time to time."""

    interval: float  # seconds between two states

    def __init__(self, description: str, images: int, unit: str) -> None:
        self._description, self._images, self._unit = description, images, unit
        self.resume_at(0)

    def resume_at(self, images: int) -> None:
        self._done = self._skipped = images
        self._start = self._last = time.monotonic()

    def advance(self, images: int, metrics: str = "") -> None:
        self._done += images
        now = time.monotonic()
        if now - self._last >= self.interval:
            self._last = now
            total = f"/{self._images}" if self._images else ""
            self._show(f"{self._done}{total}", (self._done - self._skipped) / (now - self._start), metrics)

    def _show(self, done: str, rate: float, metrics: str) -> None:
        """Show how many images are done, such as "10/25", and the images per second."""


class _LineTask(_TimedTask):
    """Prints a line every ten seconds."""

    interval = LINE_INTERVAL_SECONDS

    def _show(self, done: str, rate: float, metrics: str) -> None:
        left = f", {(self._images - self._done) / rate if rate else 0:.0f} s left" if self._images else ""
        print_error(f"{self._description}: {done} {self._unit}, {rate:.0f} {self._unit}/s{left} {metrics}".rstrip())


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


class _NotebookTask(_TimedTask):
    """Draws a bar into an output of the current cell."""

    interval = REDRAW_SECONDS

    def __init__(self, description: str, images: int, unit: str) -> None:
        from IPython.display import display

        super().__init__(description, images, unit)
        self._handle = display(self._draw(""), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def _show(self, done: str, rate: float, metrics: str) -> None:
        self._handle.update(self._draw(f"{done}, {rate:.0f} {self._unit}/s {metrics}".rstrip()), raw=True)

    def close(self) -> None:
        """Remove the bar."""
        self._handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _draw(self, text: str) -> dict[str, str]:
        import html

        value = f' value="{min(self._done / self._images, 1):.3f}"' if self._images and text else ""
        text = printable(f"{self._description}: {text}" if text else self._description)
        return {"text/plain": text, "text/html": f"<progress{value}></progress> {html.escape(text)}"}


class NotebookProgress(Progress):
    """Prints messages below the cell of a notebook, and shows bars there."""

    def log(self, message: str) -> None:
        print(printable(message), flush=True)  # noqa: T201

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        task = _NotebookTask(description, images, unit)
        try:
            yield task
        finally:
            task.close()


def console_progress() -> Progress:
    """Return bars if stderr is a terminal or the program a notebook, otherwise lines."""
    if _in_notebook():
        return NotebookProgress()
    return TerminalProgress() if sys.stderr is not None and sys.stderr.isatty() else LineProgress()


def choose_progress(progress: Progress | bool | None) -> Progress:
    """Return the progress of a call; its messages also go to the logger `belvedere`.

    Args:
        progress: A progress; True for `console_progress`, False for none; None: shown on a terminal and in a notebook.

    Raises:
        UsageError: It is another object.
    """
    if isinstance(progress, Progress):
        return progress if _is_logged(progress) else LoggerProgress(progress)
    if not (progress is None or isinstance(progress, bool)):
        raise UsageError(f"`progress` must be a Progress, True, False or None. Received: {progress!r:.100}.")
    if progress is None:
        progress = _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())
    return LoggerProgress(console_progress() if progress else Progress())


def _is_logged(progress: Progress) -> bool:
    """Return whether a progress sends its messages to the logger, itself or by one that it forwards to."""
    while isinstance(progress, ForwardedProgress) and not isinstance(progress, LoggerProgress):
        progress = progress._inner
    return isinstance(progress, LoggerProgress)


def _in_notebook() -> bool:
    """Return whether the program runs in a kernel of IPython, as in Jupyter; IPython is not imported for that."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
