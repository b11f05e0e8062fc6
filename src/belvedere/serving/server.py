"""The process that serves: its socket, its signals, and an end that answers what was taken.

Knows how a server starts and ends; does not know what it is asked.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import uvicorn

from belvedere.errors import UsageError
from belvedere.inference.model_paths import BUNDLED
from belvedere.runtime.http.connections import limited
from belvedere.runtime.network import BACKLOG, address_of, check_main_thread, is_local, listen, stop_connecting, url_of
from belvedere.serving.app import Service
from belvedere.serving.json_logging import json_log
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.origins import Origins

TOKEN_VARIABLE = "BELVEDERE_TOKEN"  # noqa: S105 - the name of a variable
END_SECONDS = 10  # beside the limits on one request: then what is left is cut off
BACKLOG_SECONDS = 0.5  # at the end, for connections that have begun to be accepted
HEAD_SECONDS = 1.0  # at the end, for the request of a connection that was just accepted

log = logging.getLogger("belvedere.serving")


def run_server(
    model: Path | str = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    cors_origins: Sequence[str] = (),
    started: Callable[[str, LoadedModel, bool], None] | None = None,
) -> None:
    """Serves a model over HTTP until the process is told to end.

    On SIGTERM or Ctrl-C the server says that it is not ready, still answers for `limits.drain_seconds` while closing
    every connection that it answers on, then takes no new one, accepts those that had begun, and answers what it has.
    A second signal ends it at once.

    Args:
        model: A `model.onnx`, or the run folder that holds one; watched, so that a new file takes over.
        host: Address to listen on; "0.0.0.0" or "::" for every one of this machine.
        port: 0 for one that is free.
        limits: What is taken at most.
        token: What requests must bring as `Authorization: Bearer TOKEN`; none: everybody who reaches it may ask.
        accept_rate: As `belvedere.load`; also of a new file that takes over.
        cors_origins: Origins whose pages may ask too, such as "https://example.com", or "*" for every one.
        started: Called with the server's address, the model, and whether only this machine reaches it, once it listens.

    Raises:
        InvalidModelError: There is no model.
        UsageError: The address can't be listened on, the token or an origin can't be one, or the accept rate can't be
            kept; or this is not the main thread, or an event loop runs in it.
    """
    check_main_thread("run_server", "belvedere", "serve", str(model))
    limits, metrics, origins = limits or Limits(), Metrics(), Origins(cors_origins)
    _check_token(token)
    watch = ModelWatch(model, partial(_tell_model, metrics), accept_rate)
    metrics.show_model(watch.current.name, watch.current.sha256)
    with listen(host, port) as listener, json_log():
        is_near = is_local(address_of(listener))  # the name does not tell
        own_name = host if token is None and is_near else None
        service = Service(watch, limits, metrics, token, only_local=own_name, origins=origins)
        address = url_of(listener, host)
        server = _Server(_configure(service), service, lambda: started and started(address, watch.current, is_near))
        server.run(sockets=[listener])


def _tell_model(metrics: Metrics, what: str, served: LoadedModel, reason: str | None) -> None:
    """Counts and logs what the watch over the model's file says."""
    metrics.reloads.labels(what).inc()
    fields = {"model": served.name, "sha256": served.sha256}
    if reason is None:
        metrics.show_model(served.name, served.sha256)
        log.info("A new model file is in use.", extra={"fields": fields})
    else:
        word = "is gone" if what == "gone" else "is kept out"
        log.warning(f"The model file {word}: the one before it goes on.", extra={"fields": fields | {"reason": reason}})


def _configure(service: Service) -> uvicorn.Config:
    limits = service.limits
    return uvicorn.Config(
        service.gate,
        http=limited(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=limits.keep_alive_seconds,  # type: ignore[arg-type]  # only ever given to a timer
        timeout_graceful_shutdown=int(limits.body_seconds + limits.answer_seconds + END_SECONDS),
    )


class _Server(uvicorn.Server):
    """Uvicorn's, with an end that loses no request, and an exit code that is the command's own."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._service = service
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.gate.is_closing = True
        await self._wait(self._service.limits.drain_seconds, lambda: True)
        for listener in sockets or []:
            stop_connecting(listener)
        await self._wait(BACKLOG_SECONDS, lambda: True)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        connections = self.server_state.connections
        await self._wait(HEAD_SECONDS, lambda: any(getattr(each, "awaits_head", False) for each in connections))
        await super().shutdown(sockets)

    async def _wait(self, seconds: float, is_needed: Callable[[], bool]) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while not self.force_exit and is_needed() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends on a signal without raising it again: the job was done, and the exit code says so."""
        before = {each: signal.signal(each, self._end) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _end(self, *_: object) -> None:
        self.force_exit, self.should_exit = self.should_exit, True


def read_token(file: Path | None) -> str | None:
    """Reads the token from a file, else from the variable BELVEDERE_TOKEN.

    Raises:
        UsageError: The file can't be read.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)  # an empty one is no token: it is refused, rather than serving everybody
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Can't read the token in {file}: {reason}. Give another --token-file.") from error


def _check_token(token: str | None) -> None:
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token or len(token) < 8):
        raise UsageError(
            "A token is 8 or more letters, digits and signs of ASCII, without spaces. Give such a one, or none."
        )
