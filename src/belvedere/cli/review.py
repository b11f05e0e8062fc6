"""The command `review`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import app
from belvedere.runtime.terminal import tell


@app.command()
def review(
    run_or_audit: Annotated[Path, typer.Argument(help="Folder that train, evaluate --out or audit wrote.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="The data set, for neighbors and for photographs that moved; else the run's.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="For heat-maps and neighbors; else the run's or the audit's.", show_default=False),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            help="File for the decisions; else the one RUN was trained with, or RUN.journal.jsonl.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but this machine's needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 for any that is free.")] = 8642,
    who: Annotated[
        str | None, typer.Option("--annotator", help="Your name, for the journal; else the user's.", show_default=False)
    ] = None,
) -> None:
    """Go through doubtful labels, duplicates and leaks on a local web page, with the keyboard."""
    from belvedere.runtime.progress import console_progress

    done = belvedere.run_review(
        run_or_audit,
        photos=photos,
        model=model,
        journal=journal,
        host=host,
        port=port,
        who=who,
        progress=console_progress(),
    )
    tell(f"{done.recorded:,} decisions in {done.journal}, {done.left:,} doubts left.")
    tell(f"Train with them: belvedere train PHOTOS --corrections {shlex.quote(str(done.journal))}")
