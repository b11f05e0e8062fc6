"""Records of predictions for `belvedere monitor`, written by a thread, so that no request waits for the disk.

A file gets lines at its end only, and belongs to one process. A killed process loses the records in its queue, and may
leave an incomplete line, which readers skip. The oldest files are deleted when all together are too large.
"""

import errno
import logging
import os
import queue
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import UsageError
from belvedere.evaluation.monitoring.records import PATTERN, to_line
from belvedere.runtime.parallel import BackgroundThread
from belvedere.runtime.terminal import describe_error
from belvedere.serving.batcher import PredictionResult
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.types.prediction import Prediction

MAX_WAITING = 4096  # images; further ones are not recorded
MIN_BYTES = 100_000
NUM_FILES = 10  # of the largest size
STOP_SECONDS = 5.0
RETRY_SECONDS = 10.0  # after a failure

log = logging.getLogger("belvedere.serving")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Values for the record of one image; a result would keep its heatmap, too."""

    time: float
    name: str  # of the model, in metrics
    sha256: str
    prediction: Prediction
    embedding: NDArray[np.float32]


class Recorder:
    """Writes records into a folder that only its owner may read."""

    def __init__(self, folder: Path, metrics: Metrics, max_bytes: int) -> None:
        """Create the folder, and check that files can be created in it.

        Args:
            folder: Folder for the files.
            metrics: Counts written and lost records.
            max_bytes: Largest size of all files.

        Raises:
            UsageError: The folder cannot be written, or the size is too small.
        """
        if max_bytes < MIN_BYTES:
            raise UsageError(f"Limit max_monitor_bytes is too small: {max_bytes:,}. Give at least {MIN_BYTES:,}.")
        self._folder, self._metrics, self._max_bytes = folder, metrics, max_bytes
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._thread = BackgroundThread(self._write_all, "recorder")
        self._file: IO[bytes] | None = None
        self._size = 0
        self._retry = self._next_warning = 0.0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._create_file().unlink()
        except OSError as error:
            raise UsageError(f"Cannot write into {folder}: {describe_error(error)}. Choose another folder.") from error

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write the waiting records and stop the thread; wait at most `STOP_SECONDS`."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=STOP_SECONDS)
            self._thread.join(STOP_SECONDS)

    def record(self, loaded: LoadedModel, results: Sequence[PredictionResult]) -> None:
        """Queue the predictions of a request; those that the full queue does not take are dropped and counted."""
        now, dropped = time.time(), 0
        for result in results:
            if result.embedding is not None:
                waiting = _Waiting(now, loaded.served_name, loaded.sha256, result.prediction, result.embedding)
                try:
                    self._queue.put_nowait(waiting)
                except queue.Full:
                    dropped += 1
        if dropped:
            self._metrics.count_records(loaded.served_name, "dropped", dropped)

    def _write_all(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._metrics.count_records(waiting.name, "written" if self._write(waiting) else "failed", 1)
        if self._file is not None:
            self._file.close()

    def _write(self, waiting: _Waiting) -> bool:
        """Write a record, and return whether it is written."""
        try:
            return self._append(to_line(waiting.time, waiting.sha256, waiting.prediction, waiting.embedding))
        except OSError as error:
            self._warn(error)
            self._close()
        except Exception as error:  # noqa: BLE001 - the thread continues with the next record
            self._warn(error)
        return False

    def _append(self, content: bytes) -> bool:
        if self._file is None or self._size >= self._max_bytes // NUM_FILES or _is_deleted(self._file):
            if time.monotonic() < self._retry:
                return False
            self._open()
        if self._file is not None:
            if self._file.write(content) != len(content):  # unbuffered: the system has it if this process is killed
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(content)
        return True

    def _open(self) -> None:
        """Open the next file, and delete the oldest if there is no room."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._file, self._size = self._create_file().open("ab", buffering=0), 0
        self._delete_oldest()

    def _create_file(self) -> Path:
        """Create a file, whose name sorts behind the older ones."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        path = self._folder / PATTERN.replace("*", f"{now}-{secrets.token_hex(4)}")
        path.touch(mode=0o600, exist_ok=False)
        return path

    def _delete_oldest(self) -> None:
        total = self._max_bytes // NUM_FILES  # the new file will grow
        for path in sorted(self._folder.glob(PATTERN), reverse=True):
            with suppress(OSError):  # another process has deleted it, or has it open on Windows
                total += path.stat().st_size
                if total > self._max_bytes:
                    path.unlink()

    def _warn(self, error: Exception) -> None:
        if time.monotonic() >= self._next_warning:
            log.warning("Predictions cannot be recorded.", extra={"fields": {"reason": describe_error(error)}})
            self._next_warning = time.monotonic() + RETRY_SECONDS

    def _close(self) -> None:
        """Close the file after a failure; another one is opened after a while."""
        self._retry = time.monotonic() + RETRY_SECONDS
        if self._file is not None:
            with suppress(OSError):
                is_empty = not os.fstat(self._file.fileno()).st_size
                self._file.close()
                if is_empty:
                    Path(self._file.name).unlink()
            self._file = None


def _is_deleted(file: IO[bytes]) -> bool:
    """Return whether another process has deleted an open file, which Windows does not allow."""
    return sys.platform != "win32" and os.fstat(file.fileno()).st_nlink == 0
