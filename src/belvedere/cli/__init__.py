"""The command line: arguments and printing. Each module holds one command, which calls one function of the library."""

import logging
import os
import sys
from typing import Annotated

import typer

import belvedere
from belvedere.cli import (  # noqa: F401 - each module adds its command
    assess,
    audit,
    cache,
    calibrate,
    compare,
    corrections,
    demo,
    evaluate,
    explore,
    export,
    fetch,
    label,
    monitor,
    networks,
    predict,
    push,
    review,
    serve,
    show,
    train,
)
from belvedere.cli.app import app, keep_fonts_in_cache
from belvedere.cli.ending import run
from belvedere.cli.progress import WarningPrinter
from belvedere.runtime.parallel import running_threads
from belvedere.runtime.terminal import open_streams, print_line

__all__ = ["app", "main"]

END_SECONDS = 0.5  # for threads to end


def main() -> None:
    """Run the command line and end the process with its exit code."""
    open_streams()
    keep_fonts_in_cache()
    logging.getLogger("belvedere.runtime").addHandler(WarningPrinter())
    code = run(sys.argv[1:])
    if running_threads(END_SECONDS):  # in native code, which aborts the interpreter's exit
        os._exit(code)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _global(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print_line(belvedere.__version__)
        raise typer.Exit
