"""How a command ends: whatever happens, with an exit code and at most one line on stderr."""

import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from belvedere.cli.app import app
from belvedere.errors import BelvedereError, UsageError
from belvedere.runtime.terminal import is_writable, silence, tell

# The root of typer's own errors, which stand in a module of click's or in one that is private to typer.
WRONG_CALL: Any = next(kind for kind in reversed(typer.BadParameter.mro()) if hasattr(kind, "format_message"))
TRACEBACK_VARIABLE = "BELVEDERE_TRACEBACK"


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name.

    Returns:
        The exit code. Nothing waits in stdout and stderr any more.
    """
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone: nothing more to say
        silence(sys.stdout)
        code = 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - where every command ends
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exception(error)
        reason, code = _explain(error)
        tell(" ".join(["belvedere:", reason, *getattr(error, "__notes__", ())]))
    is_writable(sys.stderr)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    """Run the command that is called; an exit code is what it returns, or raises as `typer.Exit`."""
    if any(re.fullmatch(r"(--[\w-]+=)?", argument) for argument in arguments):
        raise UsageError("An argument is empty. Give a name, or leave it out.")
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"Can't find the working folder: {error.strerror}. Change to one that is there.") from error
    try:
        with typer.main.get_command(app).make_context("belvedere", list(arguments) or ["--help"]) as context:
            context.command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _explain(error: BaseException) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    stdout_works = is_writable(sys.stdout)
    if isinstance(error, BelvedereError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "Ended by Ctrl-C.", 130
    if isinstance(error, WRONG_CALL):
        command = error.ctx.command_path if error.ctx else "belvedere"
        return f"{error.format_message()} See: {command} --help", error.exit_code
    if isinstance(error, OSError) and (error.filename is None or not stdout_works):
        return f"Can't write the output: {error.strerror or error}. Send it to another place.", 1
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror or error}.", 1
    if isinstance(error, RecursionError):
        return "A file is nested too deeply to be read.", 1
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return "There is not enough memory. Give fewer or smaller files, or more memory.", 1
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return (
        f"A fault in Belvedere: {type(error).__name__}: {error} ({place}). Please report it, with what "
        f"{TRACEBACK_VARIABLE}=1 shows."
    ), 1
