"""The command `serve`."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from belvedere.cli.app import AcceptRate, AsJson, Device, command, print_json
from belvedere.errors import UsageError

if TYPE_CHECKING:
    from belvedere.serving.model_watch import LoadedModel

DefaultModel = Annotated[
    Path | None, typer.Argument(help="A model.onnx, a run folder, or hf://user/name. Default: the bundled model.")
]
Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine. Default: 127.0.0.1.", show_default=False),
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="0: any free port. Default: 8000.", show_default=False),
]
UnixSocket = Annotated[
    Path | None,
    typer.Option("--unix-socket", help="Listen on a Unix socket, in place of host and port.", show_default=False),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="File with the token of requests. Default: the variable BELVEDERE_TOKEN."),
]
ServingThreads = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of a process that run the model, and as many that decode. Default: the CPUs it may use."
    ),
]
Workers = Annotated[
    int,
    typer.Option(min=1, help="Processes that share the address, the queue and the CPUs; for machines with many CPUs."),
]
MaxMegapixels = Annotated[
    float, typer.Option(help="Size of an image, megapixels; larger JPEGs are decoded at a reduced scale.")
]
RootPath = Annotated[str, typer.Option(help="Path of the server on the proxy before it, such as /belvedere.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=PATH",
        help="Serve a further model under a name. Repeatable; without MODEL the first is that of /predict.",
        show_default=False,
    ),
]
Monitor = Annotated[
    Path | None,
    typer.Option(
        "--monitor",
        metavar="FOLDER",
        help="Record predictions and embeddings, without images, for belvedere monitor.",
        show_default=False,
    ),
]
CorsOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        help="Origin whose pages may send requests, such as https://example.com; * for all. Repeatable.",
        show_default=False,
    ),
]


@command("belvedere serve run", "belvedere serve --model birds=birds-run --model trees=trees.onnx --port 8080")
def serve(
    model: DefaultModel = None,
    models: Models = None,
    host: Host = None,
    port: Port = None,
    unix_socket: UnixSocket = None,
    token_file: TokenFile = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Images that may wait; more are rejected with 503.")] = 256,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Images per batch and thread, at most 32.")] = 16,
    threads: ServingThreads = None,
    workers: Workers = 1,
    max_files: Annotated[int, typer.Option(min=1, help="Images per request.")] = 32,
    max_body_mb: Annotated[float, typer.Option(help="Size of a request, MB.")] = 32,
    max_megapixels: MaxMegapixels = 50,
    timeout: Annotated[float, typer.Option(help="Seconds to receive a request, and again to respond.")] = 30,
    keep_alive: Annotated[float, typer.Option(help="Seconds to keep an idle connection open.")] = 5,
    cors_origins: CorsOrigins = None,
    root_path: RootPath = "",
    monitor: Monitor = None,
    monitor_max_mb: Annotated[float, typer.Option(help="Size of the records, MB; the oldest are deleted.")] = 1000,
    accept_rate: AcceptRate = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Serve models over HTTP, with a page to drop images on.

    Runs until Ctrl-C or SIGTERM.
    """
    from belvedere.serving.limits import Limits
    from belvedere.serving.server import read_token, serve

    address = _read_address(host, port, unix_socket)
    limits = Limits(
        max_body_bytes=_millions(max_body_mb),
        max_pixels=_millions(max_megapixels),
        max_files=max_files,
        max_queue=max_queue,
        max_monitor_bytes=_millions(monitor_max_mb),
        max_batch_size=max_batch_size,
        body_seconds=timeout,
        response_seconds=timeout,
        header_seconds=min(timeout, 10.0),
        keep_alive_seconds=keep_alive,
    )
    token = read_token(token_file)
    serve(
        _read_models(model, models or []),
        **address,
        unix_socket=unix_socket,
        limits=limits,
        threads=threads,
        token=token,
        accept_rate=accept_rate,
        device=device,
        cors_origins=cors_origins or (),
        root_path=root_path,
        monitor=monitor,
        workers=workers,
        started=partial(_announce, as_json, token is not None),
    )


def _read_models(default: Path | None, named: list[str]) -> dict[str, Path]:
    """Return the models by name, the default first."""
    from belvedere.inference.model_paths import BUNDLED
    from belvedere.serving.model_watch import DEFAULT_NAME

    models = {DEFAULT_NAME: default or BUNDLED} if default or not named else {}
    for text in named:
        name, equals, path = text.partition("=")
        if not (equals and path):
            raise UsageError(f"--model has no name and path: {text!r}. Give both, such as scenes=run.")
        if name in models:
            raise UsageError(f"Two models are called {name!r}. Give each another name.")
        models[name] = Path(path)
    return models


def _announce(as_json: bool, has_token: bool, address: str, served: "LoadedModel", only_local: bool) -> None:
    from belvedere.serving.json_logging import announce

    if as_json:
        print_json({"address": address, "model": served.name, "sha256": served.sha256})
        sys.stdout.flush()
    else:
        docs = "" if address.startswith("unix:") else f" (API: {address}/docs)"
        announce(f"Serving {served.name} on {address}{docs}. Ctrl-C ends it.")
    if not has_token and not only_local:
        announce("Everybody who reaches this machine may send requests. Require a token with --token-file.")


def _read_address(host: str | None, port: int | None, unix_socket: Path | None) -> dict[str, Any]:
    """Return the host and port that are given, for which a Unix socket has no use."""
    address = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if unix_socket is not None and address:
        raise UsageError("--unix-socket listens on no address. Leave out --host and --port, or --unix-socket.")
    return address


def _millions(number: float) -> int:
    """Return millions; `Limits` refuses what is no number."""
    product = number * 1e6
    return int(product) if math.isfinite(product) else cast("int", product)
