"""The training's own log: everything said to the user, kept in train.log as well."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from belvedere.runtime.progress import Progress, Task
from belvedere.runtime.terminal import printable
from belvedere.types.data import Note


class LoggedProgress(Progress):
    """Passes everything on, and appends what is said to a file."""

    def __init__(self, file: Path, inner: Progress) -> None:
        self._file, self._inner = file, inner

    def say(self, message: str) -> None:
        """Tells the user, and the log with the time."""
        self.record(message)
        self._inner.say(message)

    def record(self, message: str) -> None:
        """Tells the log only."""
        with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {printable(message)}\n")

    def say_notes(self, notes: Iterable[Note]) -> None:
        """Tells the user what was found, with the first few names; the log gets them all."""
        notes = tuple(notes)
        self._inner.say_notes(notes)
        for note in notes:
            self.record(note.message)
            for name in note.names:
                self.record(f"  {name}")

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        """Shows one job, as the inner progress does."""
        with self._inner.task(description, images, unit) as task:
            yield task
