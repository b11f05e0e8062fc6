"""The command line: arguments and printing only.

Each command is short and calls one function of the house; they stand in this package's modules, a few to each.
"""

import os
import sys
from typing import Annotated

import typer

import belvedere
from belvedere.cli import answering, auditing, calibrating, learning, reviewing, serving, using
from belvedere.cli.edge import app
from belvedere.environment import keep_fonts_in_cache
from belvedere.timeouts import running_threads

__all__ = ["answering", "app", "auditing", "calibrating", "learning", "main", "reviewing", "serving", "using"]


END_SECONDS = 0.5  # for threads that were told to end


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    keep_fonts_in_cache()
    try:
        app()
    except SystemExit as end:
        if running_threads(END_SECONDS):  # in native code: the interpreter's end would be aborted
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


@app.callback(invoke_without_command=True)
def _global(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(belvedere.__version__)  # noqa: T201
        raise typer.Exit
