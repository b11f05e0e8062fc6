"""The command line: arguments and printing only.

Each command is a module of this package and calls one function of the library.
"""

import os
import sys
from typing import Annotated

import typer

import belvedere
from belvedere.cli import (
    audit,
    backbones,
    cache,
    calibrate,
    compare,
    demo,
    evaluate,
    export,
    journal,
    predict,
    review,
    serve,
    show,
    train,
)
from belvedere.cli.app import app
from belvedere.cli.ending import run
from belvedere.runtime.environment import keep_fonts_in_cache
from belvedere.runtime.terminal import open_streams, print_line
from belvedere.runtime.timeouts import running_threads

__all__ = [
    "app",
    "audit",
    "backbones",
    "cache",
    "calibrate",
    "compare",
    "demo",
    "evaluate",
    "export",
    "journal",
    "main",
    "predict",
    "review",
    "serve",
    "show",
    "train",
]


END_SECONDS = 0.5  # for threads that were told to end


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    open_streams()
    keep_fonts_in_cache()
    code = run(sys.argv[1:])
    if running_threads(END_SECONDS):  # in native code: the interpreter's end would be aborted
        os._exit(code)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _global(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print_line(belvedere.__version__)
        raise typer.Exit
