"""Showing how far a long job is: a bar on a terminal, a line now and then elsewhere, nothing when not asked.

Knows how progress looks, and is the only owner of Rich's live display; does not know what is being done.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from belvedere.runtime.terminal import printable, tell
from belvedere.types.data import Note

SECONDS_BETWEEN_LINES = 10.0
NAMES_SHOWN = 3  # of a note
WIDE = 100  # columns of a terminal that has room for a long bar


class Task:
    """One job; this kind shows nothing."""

    def advance(self, images: int, figures: str = "") -> None:
        """Says that so many more images are done, with a few figures to show beside the bar."""

    def skip(self, images: int) -> None:
        """Says, before the first is done, that so many were done by an earlier process: they tell nothing of speed."""


class Progress:
    """Shows nothing: what a program that calls Belvedere gets unless it asks for more."""

    def say(self, message: str) -> None:
        """Tells the user something, in one line."""

    def say_notes(self, notes: Iterable[Note]) -> None:
        """Tells the user what was found in the photographs, a line each with the first few names."""
        for note in notes:
            more = f" and {len(note.names) - NAMES_SHOWN} more" if len(note.names) > NAMES_SHOWN else ""
            names = ": " + ", ".join(note.names[:NAMES_SHOWN]) + more if note.names else ""
            self.say(f"Note: {note.message}{names}")

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        """Shows one job while the block runs.

        Args:
            description: What is being done, such as "Reading".
            images: How many images it takes, or other things; 0 where nobody knows.
            unit: What they are.

        Yields:
            The task to report to.
        """
        yield Task()


class _LineTask(Task):
    """A line every ten seconds, for a log or a pipe."""

    def __init__(self, description: str, images: int, unit: str) -> None:
        self._description, self._images, self._unit = description, images, unit
        self._figures = ""
        self.skip(0)

    def skip(self, images: int) -> None:
        self._done = self._skipped = images
        self._start = self._last = time.monotonic()

    def advance(self, images: int, figures: str = "") -> None:
        self._done += images
        self._figures = figures
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = (self._done - self._skipped) / (now - self._start)
            of = f"/{self._images}" if self._images else ""
            left = f", {(self._images - self._done) / rate if rate else 0:.0f} s left" if self._images else ""
            speed = f"{rate:.0f} {self._unit}/s{left}"
            tell(f"{self._description}: {self._done}{of} {self._unit}, {speed} {self._figures}".rstrip())


class LineProgress(Progress):
    """Lines on stderr, for where it is not a terminal."""

    def say(self, message: str) -> None:
        tell(message)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        yield _LineTask(description, images, unit)


class TerminalProgress(Progress):
    """Rich's bars on stderr, with images a second and the time left."""

    def __init__(self) -> None:
        from belvedere.runtime.console import PlainConsole

        self._console = PlainConsole(stderr=True)

    def say(self, message: str) -> None:
        self._console.print(printable(message), soft_wrap=True)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        from rich.markup import escape
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=8 if self._console.width < WIDE else 24),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
        )
        with Bars(*columns, console=self._console, transient=True) as bars:
            identity = bars.add_task(escape(description), total=images or None, rate="", figures="")

            class BarTask(Task):
                def __init__(self) -> None:
                    self.skip(0)

                def skip(self, images: int) -> None:
                    self._skipped, self._start = images, time.monotonic()
                    bars.reset(identity, completed=images)

                def advance(self, images: int, figures: str = "") -> None:
                    bars.advance(identity, images)
                    done = bars.tasks[0].completed - self._skipped
                    rate = done / max(time.monotonic() - self._start, 1e-9)
                    bars.update(identity, rate=f"{rate:.0f} {unit}/s", figures=escape(figures))

            yield BarTask()


def console_progress() -> Progress:
    """Chooses what suits stderr: bars on a terminal, lines in a log."""
    return TerminalProgress() if sys.stderr.isatty() else LineProgress()
