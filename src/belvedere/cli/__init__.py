"""The command line: arguments and printing only.

Each command is short and calls one function of the house; they stand in this package's modules, a few to each.
"""

from typing import Annotated

import typer

import belvedere
from belvedere.cli import answering, auditing, calibrating, learning, reviewing, serving, using
from belvedere.cli.edge import app
from belvedere.environment import keep_fonts_in_cache

__all__ = ["answering", "app", "auditing", "calibrating", "learning", "main", "reviewing", "serving", "using"]


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    keep_fonts_in_cache()
    app()


@app.callback(invoke_without_command=True)
def _global(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(belvedere.__version__)  # noqa: T201
        raise typer.Exit
