"""The command `review`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import PageHost, PagePort, image_command
from belvedere.runtime.terminal import count, print_error


@image_command("belvedere review audit", "belvedere review run --annotator Anna")
def review(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of train, evaluate --out or audit.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Dataset, for neighbors and for moved images. Default: that of the run.", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="Model for heatmaps and neighbors. Default: that of the run or audit.", show_default=False
        ),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            help="File for the decisions. Default: the one RUN was trained with, or RUN.corrections.jsonl.",
            show_default=False,
        ),
    ] = None,
    host: PageHost = "127.0.0.1",
    port: PagePort = 8642,
    annotator: Annotated[
        str | None,
        typer.Option("--annotator", help="Your name, for the corrections. Default: the user name.", show_default=False),
    ] = None,
) -> None:
    """Correct labels on a local web page, with the keyboard.

    Shows label issues, duplicates and split leaks, or the mistakes of a run.
    """
    from belvedere.cli.progress import CommandProgress

    result = belvedere.review(
        source,
        data=data,
        model=model,
        corrections=corrections,
        host=host,
        port=port,
        annotator=annotator,
        progress=CommandProgress("review"),
    )
    decisions, left = count(result.num_decisions, "decision"), count(result.num_left, "item")
    print_error(f"{decisions} in {result.corrections}, {left} left.")
    print_error(f"Train with them: belvedere train DATA --corrections {shlex.quote(str(result.corrections))}")
