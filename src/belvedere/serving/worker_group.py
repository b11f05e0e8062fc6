"""Several processes that serve one address.

They share its listening socket, so the system gives a connection to one that is free. Each has models, a queue and
metrics of its own, and runs `worker_process`. A process that ends is replaced; connections in the backlog wait for it.
"""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from belvedere.errors import UsageError
from belvedere.inference.providers import Provider
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.serving.limits import Limits
from belvedere.serving.listening import Place
from belvedere.serving.peers import check_folder

MAX_WORKERS = 256
POLL_SECONDS = 0.05
RESTART_SECONDS = 1.0  # at least between two starts of one process

log = logging.getLogger("belvedere.serving")


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Options of a service, which its processes receive as JSON."""

    limits: Limits
    threads: int | None = None
    token: str | None = None
    accept_rate: float | None = None
    device: str = "auto"
    providers: Sequence[Provider] | None = None
    cors_origins: Sequence[str] = ()
    root_path: str = ""
    monitor: Path | str | None = None

    def divide(self, workers: int) -> "ServiceOptions":
        """Return the options of each of several processes, which together keep to these limits."""
        limits = replace(
            self.limits,
            max_queue=max(self.limits.max_files, self.limits.max_queue // workers),
            max_buffered_bytes=max(self.limits.max_body_bytes, self.limits.max_buffered_bytes // workers),
        )
        return replace(self, limits=limits, threads=self.threads or max(1, num_usable_cpus() // workers))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ServiceOptions":
        """Return the options from JSON, where tuples are lists."""
        providers = values["providers"] and [
            each if isinstance(each, str) else tuple(each) for each in values["providers"]
        ]
        return cls(**{**values, "limits": Limits(**values["limits"]), "providers": providers})


def check_workers(workers: int, block: bool) -> None:
    """Check the number of processes.

    Raises:
        UsageError: It is invalid, or there cannot be several.
    """
    if type(workers) is not int or not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"`workers` must be a whole number from 1 to {MAX_WORKERS}. Received: {workers!r}.")
    if workers > 1 and not block:
        raise UsageError("Several `workers` are for a server that blocks. Leave out `workers`, or set `block`.")
    if workers > 1 and sys.platform == "win32":
        raise UsageError("Windows cannot share a port between `workers`. Leave `workers` out.")


def run_workers(
    workers: int, models: Mapping[str, str], options: ServiceOptions, place: Place, ready: Callable[[], None]
) -> None:
    """Serve in several processes until SIGTERM or Ctrl-C; a second signal stops them at once.

    Args:
        workers: Number of processes.
        models: Paths of the models by name.
        options: Options of all processes together.
        place: Listening socket, which they inherit.
        ready: Called once all of them accept requests.

    Raises:
        UsageError: A process does not start, or cannot have a socket in the folder for temporary files.
    """
    with TemporaryDirectory(prefix="belvedere-") as folder:
        check_folder(Path(folder), workers)
        common = {
            "models": dict(models),
            "options": asdict(options.divide(workers)),
            "place": [place.listener.fileno(), place.url, place.is_local, place.local_name],
            "folder": folder,
        }
        group = _Group(common, place, options.limits.drain_seconds)
        try:
            group.start(workers)
            with group.catching_signals():
                ready()
                group.watch()
        finally:
            group.kill()


class _Group:
    """The processes of a server, by number."""

    def __init__(self, options: Mapping[str, object], place: Place, drain_seconds: float) -> None:
        self._options, self._place, self._drain_seconds = options, place, drain_seconds
        self._processes: list[subprocess.Popen[str]] = []
        self._restart: list[float] = []  # earliest time of the next start of each
        self._num_signals = 0

    def start(self, count: int) -> None:
        """Start the processes, and wait until all of them accept requests."""
        for number in range(count):
            self._processes.append(self._open(number))
            self._restart.append(time.monotonic() + RESTART_SECONDS)
        for process in self._processes:
            line = process.stdout.readline() if process.stdout else ""
            if error := _error_of(process, line):
                raise UsageError(f"A process of the server did not start: {error}")

    def watch(self) -> None:
        """Replace processes that end, until a signal comes; pass it on, and wait for them."""
        num_sent, refuse_at = 0, math.inf
        while self._num_signals == 0 or any(process.poll() is None for process in self._processes):
            if self._num_signals == 0:
                self._replace_ended()
            while num_sent < self._num_signals:
                refuse_at = min(refuse_at, time.monotonic() + self._drain_seconds)
                for process in self._processes:
                    process.terminate()
                num_sent += 1
            if time.monotonic() >= refuse_at:  # for all: a process that ends alone leaves the socket to the others
                self._place.refuse()
                refuse_at = math.inf
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Kill the processes that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            _close(process)

    @contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Count SIGTERM and Ctrl-C."""

        def count(*_: object) -> None:
            self._num_signals += 1

        handlers = {each: signal.signal(each, count) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)

    def _replace_ended(self) -> None:
        for number, process in enumerate(self._processes):
            if process.poll() is None or time.monotonic() < self._restart[number]:
                continue
            fields = {"process": number, "reason": _error_of(process, "") or "it ended"}
            log.error("A process of the server ended, and is started again.", extra={"fields": fields})
            _close(process)
            self._processes[number] = self._open(number)
            self._restart[number] = time.monotonic() + RESTART_SECONDS

    def _open(self, number: int) -> subprocess.Popen[str]:
        paths = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "belvedere.serving.worker_process"],
            stdin=subprocess.PIPE,  # stays open: its end tells that this process was killed
            stdout=subprocess.PIPE,
            pass_fds=[self._place.listener.fileno()],
            process_group=0,  # Ctrl-C in a terminal reaches this process only
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            text=True,
        )
        with suppress(OSError):  # it has ended, which its exit code tells
            if process.stdin is not None:
                process.stdin.write(json.dumps({**self._options, "number": number}, default=str) + "\n")
                process.stdin.flush()
        return process


def _error_of(process: subprocess.Popen[str], line: str) -> str:
    """Return why a process does not run, by its first line or its exit code; empty for one that is ready."""
    with suppress(ValueError, OSError):
        if not line and process.stdout is not None:
            line = process.stdout.readline()
        if error := json.loads(line or "{}").get("error"):
            return str(error)
    return "" if line else f"exit code {process.wait()}; see the log"


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
