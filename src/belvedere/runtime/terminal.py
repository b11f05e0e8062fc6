"""Lines for people: no name moves a terminal's cursor, and a stream that takes nothing does not end a job.

Knows stdin, stdout, stderr and what a terminal acts on; does not know what is written.
"""

import io
import os
import sys
from typing import TextIO


def printable(text: str) -> str:
    """Write as escapes what a terminal may act on or can't show: line ends, controls, turns of direction, odd bytes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def printable_lines(text: str) -> str:
    """Write the same as escapes, but keep line ends."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


class PrintableText(io.TextIOWrapper):
    """A text file on a terminal, which gets escapes instead of what a terminal may act on."""

    def write(self, text: str, /) -> int:
        """Write text, line ends as they are."""
        return super().write(printable_lines(text))


def print_line(line: str) -> None:
    """Print one line to stdout."""
    print(printable(line))  # noqa: T201


def tell(message: str) -> None:
    """Write one line to stderr; where nobody takes it, it is lost."""
    if sys.stderr is None:
        return
    try:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        silence(sys.stderr)


def open_streams() -> None:
    """Open what this process was started without: a closed stdin, stdout or stderr.

    Else the next file that is opened would get its number, and what is printed, or read, would go there. Reading from a
    closed stdin and writing to a closed stdout fail as before; what is told on a closed stderr is lost.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            opened = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # as of names that the encoding does not have


def silence(stream: TextIO) -> None:
    """Let what is written to a stream that takes nothing be lost, also what waits in it, when the process ends."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, stream.fileno())
    except (OSError, ValueError):  # no stream of the system's: nothing waits
        pass
    finally:
        os.close(sink)


def is_writable(stream: TextIO) -> bool:
    """Write out what waits in a stream; where that fails, silence the stream."""
    try:
        stream.flush()
    except (OSError, ValueError):  # the latter of a stream that was closed when it could not be written out
        silence(stream)
        return False
    return True
