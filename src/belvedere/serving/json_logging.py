"""The log of the server: one JSON object per line on stderr."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from belvedere.runtime.terminal import print_error

log = logging.getLogger("belvedere.serving")


class JsonFormatter(logging.Formatter):
    """Format a record and its `fields` as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


@contextmanager
def json_log() -> Iterator[None]:
    """Log to stderr as JSON lines, also the records of libraries, warnings and exceptions of threads."""
    root = logging.getLogger()
    handlers, levels = root.handlers, (root.level, log.level)
    hooks = threading.excepthook, sys.unraisablehook
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook, sys.unraisablehook = _log_thread_exception, _log_unraisable
    try:
        yield
    finally:
        logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook = hooks
        root.handlers = handlers
        root.setLevel(levels[0])
        log.setLevel(levels[1])


def announce(message: str) -> None:
    """Write a message to the terminal, or to the log if stderr is not a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        print_error(message)
    else:
        log.info(message)


def _log_thread_exception(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "unknown"
    log.error("Thread %s ended with an exception.", name, exc_info=args.exc_value)


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    log.error("%s: %r.", args.err_msg or "Ignored exception", args.object, exc_info=args.exc_value)
