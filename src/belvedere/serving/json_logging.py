"""The server's log: one JSON object a line, on stderr.

Knows how a record is written; does not know what is logged.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from belvedere.runtime.terminal import tell

log = logging.getLogger("belvedere.serving")


class JsonLines(logging.Formatter):
    """Writes a record, and the fields that come with it, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


@contextmanager
def json_log() -> Iterator[None]:
    """Write what the server and every library log to stderr, as JSON lines; warnings and ended threads too."""
    root = logging.getLogger()
    before = root.handlers, root.level, log.level, threading.excepthook, sys.unraisablehook
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook, sys.unraisablehook = _log_thread, _log_unraisable
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers, _, _, threading.excepthook, sys.unraisablehook = before
        root.setLevel(before[1])
        log.setLevel(before[2])


def announce(message: str) -> None:
    """Tell whoever started the server something: as it is on a terminal, else as a line of the log."""
    if sys.stderr is not None and sys.stderr.isatty():
        tell(message)
    else:
        log.info(message)


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread else "unknown"
    log.error("The thread %s ended.", name, exc_info=ended.exc_value)


def _log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    log.error("%s: %r.", failed.err_msg or "Ignored", failed.object, exc_info=failed.exc_value)
