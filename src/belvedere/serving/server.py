"""The server process: socket, signals and a graceful shutdown."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, overload

import uvicorn

from belvedere.errors import UsageError
from belvedere.inference.model import Model
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.providers import DeviceOptions, Provider
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.http.connections import configure
from belvedere.runtime.network import BACKLOG, check_main_thread
from belvedere.serving.app import Service
from belvedere.serving.json_logging import json_log
from belvedere.serving.limits import Limits
from belvedere.serving.listening import Place, listen_at, read_root_path
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import DEFAULT_NAME, LoadedModel, ModelWatch
from belvedere.serving.origins import Origins
from belvedere.serving.peers import Peers
from belvedere.serving.served_models import ServedModels, check_name
from belvedere.serving.worker_group import ServiceOptions, check_workers, run_workers

TOKEN_VARIABLE = "BELVEDERE_TOKEN"  # noqa: S105 - the name of a variable
SHUTDOWN_SECONDS = 10  # in addition to the limits of a request; then open requests are dropped
BACKLOG_SECONDS = 0.5  # at shutdown, to accept the connections in the backlog
HEADER_SECONDS = 1.0  # at shutdown, for the request of a connection just accepted

Served = Model | Path | str
StartCallback = Callable[[str, LoadedModel, bool], None]

log = logging.getLogger("belvedere.serving")


@overload
def serve(
    model: Served | Mapping[str, Served] = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    unix_socket: Path | str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
    monitor: Path | str | None = None,
    workers: int = 1,
    started: StartCallback | None = None,
    block: Literal[True] = True,
) -> None: ...


@overload
def serve(
    model: Served | Mapping[str, Served] = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    unix_socket: Path | str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
    monitor: Path | str | None = None,
    workers: int = 1,
    started: StartCallback | None = None,
    block: Literal[False],
) -> BackgroundServer: ...


def serve(
    model: Served | Mapping[str, Served] = BUNDLED,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    unix_socket: Path | str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    token: str | None = None,
    accept_rate: float | None = None,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    cors_origins: Sequence[str] = (),
    root_path: str = "",
    monitor: Path | str | None = None,
    workers: int = 1,
    started: StartCallback | None = None,
    block: bool = True,
) -> BackgroundServer | None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C, or in a thread.

    At shutdown the server reports that it is not ready, accepts requests for `limits.drain_seconds` more, and finishes
    all open requests, also those in the backlog. A second signal stops it at once. A new file of a model is loaded.

    Args:
        model: Model, model.onnx or run folder; or several by name, of which the first is that of `/predict`.
        host: Address to listen on; "0.0.0.0" or "::" for every address of this machine.
        port: Port; 0 for a free one.
        unix_socket: Path of a Unix socket to listen on, in place of host and port.
        limits: Limits of requests, default `Limits()`.
        threads: Threads that run the model, and as many that decode. Default: one per core that the process may use.
        token: Bearer token that requests must send. Default: no token, every client is served.
        accept_rate: See `belvedere.load_model`.
        device: See `belvedere.load_model`. Default: that of the model.
        providers: See `belvedere.load_model`. Default: those of the model.
        cors_origins: Origins whose pages may send requests, such as "https://example.com", or "*" for every one.
        root_path: Path of this server on the proxy before it, such as "/belvedere".
        monitor: Folder for records of predictions and embeddings, for `belvedere.monitor`. Default: none.
        workers: Processes that share the address, the limits of the queue and of the memory for bodies, and the
            CPUs. Not on Windows.
        started: Called with the address of the server, the first model, and whether only this machine reaches it.
        block: Whether to serve until SIGTERM or Ctrl-C. False serves in a thread, and logs no JSON lines to stderr.

    Returns:
        The running server, with `url` and `stop()`, if `block` is False.

    Raises:
        InvalidModelError: The model cannot be used.
        UsageError: An argument is invalid, or `block` is true outside the main thread or in a running event loop.
    """
    served = _check_arguments(model, block, unix_socket, token)
    check_workers(workers, block)
    options = ServiceOptions(
        limits or Limits(), threads, token, accept_rate, device, providers, cors_origins, root_path, monitor
    )
    return _serve(served, options, listen_at(host, port, unix_socket), workers, started, block=block)


def _serve(
    served: Mapping[str, Served],
    options: ServiceOptions,
    listening: contextlib.AbstractContextManager[Place],
    workers: int,
    started: StartCallback | None,
    *,
    block: bool,
) -> BackgroundServer | None:
    paths = _paths_of(served) if workers > 1 else {}
    opened = _open_models(served, options)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(listening)
        if workers > 1:
            announce = partial(started or _ignore, place.url, opened.models.default.current, place.is_local)
            with json_log():
                run_workers(workers, paths, options, place, announce)
            return None
        server = _build_server(opened, options, place, started, is_framed=not block)
        if not block:
            return BackgroundServer(server, place.listener, place.url, stack.pop_all().close)
        with json_log():
            run_server(server, place)
    return None


@dataclass(frozen=True, slots=True)
class _Opened:
    """Models that are open."""

    models: ServedModels
    metrics: Metrics
    threads: int | None


def make_server(
    models: Mapping[str, Served], options: ServiceOptions, place: Place, started: StartCallback, peers: Peers
) -> uvicorn.Server:
    """Return the server of one of several processes.

    Raises:
        InvalidModelError: A model cannot be used.
        UsageError: An option is invalid.
    """
    return _build_server(_open_models(models, options), options, place, started, peers=peers)


def run_server(server: uvicorn.Server, place: Place) -> None:
    """Run a server in this process, which serves until SIGTERM or Ctrl-C."""
    if gc.get_freeze_count():  # by the program that calls
        server.run(sockets=[place.listener])
        return
    gc.collect()
    gc.freeze()  # a collection that visits all libraries and models would hold up the requests for 0.1 s
    try:
        server.run(sockets=[place.listener])
    finally:
        gc.unfreeze()


def _build_server(
    opened: _Opened,
    options: ServiceOptions,
    place: Place,
    started: StartCallback | None,
    *,
    is_framed: bool = False,
    peers: Peers | None = None,
) -> "_Server":
    service = Service(
        opened.models,
        options.limits,
        opened.metrics,
        options.token,
        opened.threads,
        place.local_name,
        Origins(options.cors_origins),
        read_root_path(options.root_path),
        options.monitor,
        is_framed=is_framed,
        peers=peers,
    )
    return _Server(service, place, started)


def _paths_of(served: Mapping[str, Served]) -> dict[str, str]:
    """Return the paths of models, which other processes open."""
    if any(isinstance(model, Model) for model in served.values()):
        raise UsageError("Several `workers` need the paths of models. Give them in place of open models.")
    return {name: str(model) for name, model in served.items()}


def _ignore(*_: object) -> None:
    pass


def _check_arguments(
    model: Served | Mapping[str, Served], block: bool, unix_socket: Path | str | None, token: str | None
) -> dict[str, Served]:
    """Return the models by name."""
    served = dict(model) if isinstance(model, Mapping) else {DEFAULT_NAME: model}
    if not served:
        raise UsageError("`model` names no models. Give one or more.")
    for name in served:
        check_name(name)
    if block:
        paths = {name: each.name if isinstance(each, Model) else str(each) for name, each in served.items()}
        command = [path if name == DEFAULT_NAME else f"--model={name}={path}" for name, path in paths.items()]
        check_main_thread("serve", "belvedere", "serve", *command)
    elif unix_socket is not None:
        raise UsageError("`unix_socket` is for a server that blocks, since a notebook shows an address. Give `port`.")
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token or len(token) < 8):
        raise UsageError("The token is invalid. Give 8 or more printable ASCII characters without spaces, or no token.")
    return served


def _open_models(served: Mapping[str, Served], options: ServiceOptions) -> _Opened:
    metrics, device = Metrics(), DeviceOptions(options.device, options.providers, options.threads)
    opened = [_open_model(name, model, metrics, options.accept_rate, device) for name, model in served.items()]
    return _Opened(ServedModels([watch for watch, _ in opened]), metrics, opened[0][1])


def _open_model(
    name: str, model: Served, metrics: Metrics, accept_rate: float | None, options: DeviceOptions
) -> tuple[ModelWatch, int | None]:
    """Return the watch of a model, and the number of threads; options that are not given are those of the model."""
    if isinstance(model, Model):
        accept_rate = model.accept_rate if accept_rate is None else accept_rate
        device, providers, threads = options.device, options.providers, options.threads or model.options.threads
        if options == DeviceOptions(threads=options.threads):
            device, providers = model.options.device, model.options.providers
        options, model = DeviceOptions(device, providers, threads), model.name
    watch = ModelWatch(model, partial(_log_reload, metrics), accept_rate, options, name)
    metrics.show_model(watch.current)
    return watch, options.threads


def _log_reload(metrics: Metrics, outcome: str, loaded: LoadedModel, error: str | None) -> None:
    metrics.reloads.labels(loaded.served_name, outcome).inc()
    fields = {"model": loaded.served_name, "name": loaded.name, "sha256": loaded.sha256}
    if error is None:
        metrics.show_model(loaded)
        log.info("A new model file is in use.", extra={"fields": fields})
    else:
        fields["reason"] = error
        log.warning(f"The model file is {outcome}: the loaded model stays in use.", extra={"fields": fields})


class _Server(uvicorn.Server):
    """uvicorn's server, with a shutdown that loses no request, and exit code 0 after a signal."""

    def __init__(self, service: Service, place: Place, started: StartCallback | None = None) -> None:
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
        self._place = place
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._started:
            self._started(self._place.url, self._service.models.default.current, self._place.is_local)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.middleware.is_closing = True
        await self._wait(self._service.limits.drain_seconds, lambda: True)
        self._place.refuse()
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
