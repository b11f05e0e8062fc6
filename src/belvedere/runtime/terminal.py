"""Lines on stdin, stdout and stderr: escaped for a terminal, and lost where a stream cannot be written to."""

import io
import os
import sys
from typing import TextIO

MAX_REASON = 200  # characters of the message of another library's error


def printable(text: str) -> str:
    """Escape line ends, control characters, changes of direction and invalid bytes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def printable_lines(text: str) -> str:
    """Escape as `printable`, but keep line ends."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def escape_surrogates(text: str) -> str:
    """Return a text with escapes for the bytes of a file name that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, as "1 image" or "1,200 images"; the plural adds an s by default."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def describe_error(error: BaseException) -> str:
    """Return the reason that the system gives, or the start of the error's message in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


class PrintableText(io.TextIOWrapper):
    """A text file on a terminal that gets escapes."""

    def write(self, text: str, /) -> int:
        """Write escaped text, line ends unchanged."""
        return super().write(printable_lines(text))


def print_line(line: str) -> None:
    """Print one line to stdout."""
    print(printable(line))  # noqa: T201


def print_error(message: str) -> None:
    """Print one line to stderr; it is lost if stderr cannot be written to."""
    if sys.stderr is None:
        return
    try:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        silence(sys.stderr)


def open_streams() -> None:
    """Open stdin, stdout and stderr if the process was started without them.

    Otherwise the next opened file would get their number, and with it their input or output. Reading from a closed
    stdin and writing to a closed stdout fail as before; output to a closed stderr is lost.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            opened = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Send a stream that cannot be written to, and what it has buffered, to the null device."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, stream.fileno())
    except (OSError, ValueError):  # not a stream of the system: nothing is buffered
        pass
    finally:
        os.close(sink)


def flush_or_silence(stream: TextIO) -> bool:
    """Flush a stream, or silence it if it cannot be written to; return whether it can."""
    try:
        stream.flush()
    except (OSError, ValueError):  # ValueError: a stream closed after a failed flush
        silence(stream)
        return False
    return True
