"""The server process: socket, signals and a graceful shutdown."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, overload

import uvicorn

from belvedere.errors import UsageError
from belvedere.inference.model import Model
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.providers import DeviceOptions, Provider
from belvedere.runtime.http.background import NOTEBOOK_ANCESTORS, BackgroundServer
from belvedere.runtime.http.connections import configure
from belvedere.runtime.network import BACKLOG, address_of, check_main_thread, is_local, listen, stop_connecting, url_of
from belvedere.serving.app import Service
from belvedere.serving.json_logging import json_log
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.origins import Origins

TOKEN_VARIABLE = "BELVEDERE_TOKEN"  # noqa: S105 - the name of a variable
SHUTDOWN_SECONDS = 10  # in addition to the limits of a request; then open requests are dropped
BACKLOG_SECONDS = 0.5  # at shutdown, to accept the connections in the backlog
HEADER_SECONDS = 1.0  # at shutdown, for the request of a connection just accepted

log = logging.getLogger("belvedere.serving")


@overload
def serve(
    model: Model | Path | str = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    started: Callable[[str, LoadedModel, bool], None] | None = None,
    block: Literal[True] = True,
) -> None: ...


@overload
def serve(
    model: Model | Path | str = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    started: Callable[[str, LoadedModel, bool], None] | None = None,
    block: Literal[False],
) -> BackgroundServer: ...


def serve(
    model: Model | Path | str = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    started: Callable[[str, LoadedModel, bool], None] | None = None,
    block: bool = True,
) -> BackgroundServer | None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C, or in a thread.

    At shutdown the server reports that it is not ready, accepts requests for `limits.drain_seconds` more, and finishes
    all open requests, also those in the backlog. A second signal stops it at once.

    Args:
        model: Model, model.onnx or run folder. A new file in its place is loaded.
        host: Address to listen on; "0.0.0.0" or "::" for every address of this machine.
        port: Port; 0 for a free one.
        limits: Limits of requests, default `Limits()`.
        threads: Threads that run the model, and as many that decode. Default: one per core that the process may use.
        token: Bearer token that requests must send. Default: no token, every client is served.
        accept_rate: See `belvedere.load_model`.
        device: See `belvedere.load_model`. Default: that of the model.
        providers: See `belvedere.load_model`. Default: those of the model.
        cors_origins: Origins whose pages may send requests, such as "https://example.com", or "*" for every one.
        started: Called with the address of the server, the model, and whether only this machine reaches the server.
        block: Whether to serve until SIGTERM or Ctrl-C. False serves in a thread, and logs no JSON lines to stderr.

    Returns:
        The running server, with `url` and `stop()`, if `block` is False.

    Raises:
        InvalidModelError: The model cannot be used.
        UsageError: An argument is invalid, or `block` is true outside the main thread or in a running event loop.
    """
    if block:
        check_main_thread("serve", "belvedere", "serve", model.name if isinstance(model, Model) else str(model))
    _check_token(token)
    limits, metrics, origins = limits or Limits(), Metrics(), Origins(cors_origins)
    watch, threads = _open_model(model, metrics, accept_rate, DeviceOptions(device, providers, threads))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        only_local = is_local(address_of(listener))
        local_name = host if token is None and only_local else None
        frames = "'none'" if block else NOTEBOOK_ANCESTORS
        service = Service(watch, limits, metrics, token, threads, local_name, origins, frames)
        address = url_of(listener, host)
        server = _Server(service, lambda: started and started(address, watch.current, only_local))
        if not block:
            stack.pop_all()  # the thread closes the socket
            return BackgroundServer(server, listener, address)
        with json_log():
            server.run(sockets=[listener])
    return None


def _open_model(
    model: Model | Path | str, metrics: Metrics, accept_rate: float | None, options: DeviceOptions
) -> tuple[ModelWatch, int | None]:
    """Return the watch of a model, and the number of threads; options that are not given are those of the model."""
    if isinstance(model, Model):
        accept_rate = model.accept_rate if accept_rate is None else accept_rate
        device, providers, threads = options.device, options.providers, options.threads or model.options.threads
        if options == DeviceOptions(threads=options.threads):
            device, providers = model.options.device, model.options.providers
        options, model = DeviceOptions(device, providers, threads), model.name
    watch = ModelWatch(model, partial(_log_reload, metrics), accept_rate, options)
    metrics.show_model(watch.current.name, watch.current.sha256)
    return watch, options.threads


def _check_token(token: str | None) -> None:
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token or len(token) < 8):
        raise UsageError("The token is invalid. Give 8 or more printable ASCII characters without spaces, or no token.")


def _log_reload(metrics: Metrics, outcome: str, loaded: LoadedModel, error: str | None) -> None:
    metrics.reloads.labels(outcome).inc()
    fields = {"model": loaded.name, "sha256": loaded.sha256}
    if error is None:
        metrics.show_model(loaded.name, loaded.sha256)
        log.info("A new model file is in use.", extra={"fields": fields})
    else:
        fields["reason"] = error
        log.warning(f"The model file is {outcome}: the loaded model stays in use.", extra={"fields": fields})


class _Server(uvicorn.Server):
    """uvicorn's server, with a shutdown that loses no request, and exit code 0 after a signal."""

    def __init__(self, service: Service, on_started: Callable[[], object]) -> None:
        limits = service.limits
        config, self._connections = configure(
            service.asgi,
            limits,
            lifespan="on",
            log_config=None,
            backlog=BACKLOG,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=int(limits.body_seconds + limits.response_seconds + SHUTDOWN_SECONDS),
        )
        super().__init__(config)
        self._service = service
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.middleware.is_closing = True
        await self._wait(self._service.limits.drain_seconds, lambda: True)
        for listener in sockets or []:
            stop_connecting(listener)
        await self._wait(BACKLOG_SECONDS, lambda: True)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self._wait(HEADER_SECONDS, lambda: any(each.awaits_header for each in self._connections))
        await super().shutdown(sockets)

    async def _wait(self, seconds: float, is_needed: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.force_exit and is_needed() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the main thread, without raising them again afterwards, as uvicorn does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {each: signal.signal(each, self._exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)

    def _exit(self, *_: object) -> None:
        self.force_exit, self.should_exit = self.should_exit, True


def read_token(file: Path | None) -> str | None:
    """Read the token from a file, or from the variable BELVEDERE_TOKEN.

    Raises:
        UsageError: The file cannot be read.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)  # an empty one is invalid, so that it does not open the server
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The token in {file} cannot be read: {reason}. Choose another file.") from error
