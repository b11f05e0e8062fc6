"""The command `serve`."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from belvedere.cli.app import AcceptRate, AsJson, app, print_json

if TYPE_CHECKING:
    from belvedere.serving.model_watch import LoadedModel


TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="File with the token to ask for; without, the variable BELVEDERE_TOKEN."),
]
KeepAlive = Annotated[
    float, typer.Option("--keep-alive", help="Seconds for which a connection is kept on which nothing is asked.")
]
CorsOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        help="Origin whose pages may ask too, such as https://example.com; * for every one. Can be repeated.",
        show_default=False,
    ),
]


@app.command()
def serve(
    model: Annotated[
        Path | None, typer.Argument(help="A model.onnx, or a run folder; without, the bundled model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 8000,
    token_file: TokenFile = None,
    queue: Annotated[
        int, typer.Option("--max-queue", min=1, help="Images that may wait; more are rejected with 503.")
    ] = 256,
    batch: Annotated[int, typer.Option("--max-batch-size", min=1, help="Images per batch and core; 32 at most.")] = 16,
    files: Annotated[int, typer.Option("--max-files", min=1, help="Images of one request.")] = 32,
    megabytes: Annotated[float, typer.Option("--max-body-mb", help="Size of one request, MB.")] = 32,
    megapixels: Annotated[float, typer.Option("--max-megapixels", help="Size of one image, megapixels.")] = 50,
    seconds: Annotated[
        float, typer.Option("--timeout", help="Seconds to receive a request, and again to answer it.")
    ] = 30,
    keep_alive: KeepAlive = 5,
    cors_origins: CorsOrigins = None,
    accept_rate: AcceptRate = None,
    as_json: AsJson = False,
) -> None:
    """Serve MODEL over HTTP, with a page to drop photographs on, until Ctrl-C or SIGTERM."""
    from belvedere.serving.limits import Limits
    from belvedere.serving.server import read_token, run_server

    limits = Limits(
        body_bytes=_millions(megabytes),
        pixels=_millions(megapixels),
        files=files,
        queue=queue,
        batch=batch,
        body_seconds=seconds,
        answer_seconds=seconds,
        head_seconds=min(seconds, 10.0),
        keep_alive_seconds=keep_alive,
    )
    token = read_token(token_file)
    run_server(
        *([] if model is None else [model]),
        host=host,
        port=port,
        limits=limits,
        token=token,
        accept_rate=accept_rate,
        cors_origins=cors_origins or (),
        started=partial(_say_started, as_json, token is not None),
    )


def _say_started(as_json: bool, has_token: bool, address: str, served: "LoadedModel", only_local: bool) -> None:
    from belvedere.serving.json_logging import announce

    if as_json:
        print_json({"address": address, "model": served.name, "sha256": served.sha256})
        sys.stdout.flush()  # whoever started this in a pipe waits for it
    else:
        announce(f"Serving {served.name} on {address} (the API: {address}/docs). Ctrl-C ends it.")
    if not has_token and not only_local:
        announce("Everybody who reaches this machine may ask: --token-file, or BELVEDERE_TOKEN, asks for a token.")


def _millions(number: float) -> int:
    """So many millions; what is no number of anything is left to `Limits`, which says so."""
    product = number * 1e6
    return int(product) if math.isfinite(product) else cast("int", product)
