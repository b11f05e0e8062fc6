"""The command `serve`."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from belvedere.cli.app import AcceptRate, AsJson, Device, command, print_json

if TYPE_CHECKING:
    from belvedere.serving.model_watch import LoadedModel

CorsOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        help="Origin whose pages may send requests, such as https://example.com; * for all. Repeatable.",
        show_default=False,
    ),
]


@command()
def serve(
    model: Annotated[
        Path | None, typer.Argument(help="A model.onnx, or a run folder. Default: the bundled model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token of requests. Default: the variable BELVEDERE_TOKEN."),
    ] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Images that may wait; more are rejected with 503.")] = 256,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Images per batch and thread, at most 32.")] = 16,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that run the model, and as many that decode. Default: the CPUs it may use."),
    ] = None,
    max_files: Annotated[int, typer.Option(min=1, help="Images per request.")] = 32,
    max_body_mb: Annotated[float, typer.Option(help="Size of a request, MB.")] = 32,
    max_megapixels: Annotated[
        float, typer.Option(help="Size of an image, megapixels; larger JPEGs are decoded at a reduced scale.")
    ] = 50,
    timeout: Annotated[float, typer.Option(help="Seconds to receive a request, and again to respond.")] = 30,
    keep_alive: Annotated[float, typer.Option(help="Seconds to keep an idle connection open.")] = 5,
    cors_origins: CorsOrigins = None,
    accept_rate: AcceptRate = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Serve MODEL over HTTP, with a page to drop images on, until Ctrl-C or SIGTERM."""
    from belvedere.serving.limits import Limits
    from belvedere.serving.server import read_token, serve

    limits = Limits(
        max_body_bytes=_millions(max_body_mb),
        max_pixels=_millions(max_megapixels),
        max_files=max_files,
        max_queue=max_queue,
        max_batch_size=max_batch_size,
        body_seconds=timeout,
        response_seconds=timeout,
        header_seconds=min(timeout, 10.0),
        keep_alive_seconds=keep_alive,
    )
    token = read_token(token_file)
    serve(
        *([] if model is None else [model]),
        host=host,
        port=port,
        limits=limits,
        threads=threads,
        token=token,
        accept_rate=accept_rate,
        device=device,
        cors_origins=cors_origins or (),
        started=partial(_announce, as_json, token is not None),
    )


def _announce(as_json: bool, has_token: bool, address: str, served: "LoadedModel", only_local: bool) -> None:
    from belvedere.serving.json_logging import announce

    if as_json:
        print_json({"address": address, "model": served.name, "sha256": served.sha256})
        sys.stdout.flush()
    else:
        announce(f"Serving {served.name} on {address} (API: {address}/docs). Ctrl-C ends it.")
    if not has_token and not only_local:
        announce("Everybody who reaches this machine may send requests. Require a token with --token-file.")


def _millions(number: float) -> int:
    """Return millions; `Limits` refuses what is no number."""
    product = number * 1e6
    return int(product) if math.isfinite(product) else cast("int", product)
