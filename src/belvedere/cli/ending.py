"""The end of a command: its exit code and, after an error, one line on stderr."""

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
from belvedere.runtime.terminal import flush_or_silence, print_error, silence

# The base class of typer's errors, which is in a module of click or in a private one of typer.
CLICK_ERROR: Any = next(kind for kind in reversed(typer.BadParameter.mro()) if hasattr(kind, "format_message"))
TRACEBACK_VARIABLE = "BELVEDERE_TRACEBACK"
COMPLETE_VARIABLE = "_BELVEDERE_COMPLETE"  # set by the completion script of a shell


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: The arguments, without the program's name.

    Returns:
        The exit code; stdout and stderr are flushed.
    """
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has ended
        silence(sys.stdout)
        code = 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the end of every command
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exception(error)
        reason, code = _explain(error)
        message = " ".join([reason, *getattr(error, "__notes__", ())])
        print_error(f"belvedere: {name_options(message, arguments)}")
    flush_or_silence(sys.stderr)
    return code


def name_options(message: str, arguments: Sequence[str]) -> str:
    """Replace the names of arguments, as in `out`, by options of the command, as in --out; recipe keys by --set."""
    group: Any = typer.main.get_command(app)
    command = next((group.commands[word] for word in arguments if word in group.commands), group)
    shown = {
        param.name.removeprefix("no_"): max(param.opts, key=len)
        if param.param_type_name == "option"
        else param.human_readable_name.removesuffix("...")
        for param in command.params
    }
    message = re.sub(r"`(\w+=\w+)`", r"--set \1", message)
    return re.sub(r"`(\w+)`", lambda match: shown.get(match[1], match[0]), message)


def _invoke(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    if any(re.fullmatch(r"(--[\w-]+=)?", argument) for argument in arguments):
        raise UsageError("An argument is empty. Give a name, or leave it out.")
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"Cannot find the working folder: {error.strerror}. Change to one that exists.") from error
    group = typer.main.get_command(app)
    try:
        if os.environ.get(COMPLETE_VARIABLE):
            group.main(prog_name="belvedere")
        with group.make_context("belvedere", list(arguments) or ["--help"]) as context:
            context.command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except SystemExit as end:  # of the completion
        return int(end.code or 0)
    return 0


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    stdout_works = flush_or_silence(sys.stdout)
    if isinstance(error, BelvedereError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted by Ctrl-C.", 130
    if isinstance(error, CLICK_ERROR):
        command = error.ctx.command_path if error.ctx else "belvedere"
        return f"{error.format_message()} See: {command} --help", error.exit_code
    if isinstance(error, OSError) and (error.filename is None or not stdout_works):
        return f"Cannot write the output: {error.strerror or error}. Choose another file, or free disk space.", 1
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror or error}.", 1
    if isinstance(error, RecursionError):
        return "A file is nested too deeply to be read.", 1
    if isinstance(error, MemoryError) or "cannot start new thread" in str(error):
        return "There is not enough memory. Give fewer or smaller files, or more memory.", 1
    last = traceback.extract_tb(error.__traceback__)[-1]
    location = f"{Path(last.filename).name}, line {last.lineno}"
    return (
        f"Bug in Belvedere: {type(error).__name__}: {error} ({location}). Please report it, with the output of "
        f"{TRACEBACK_VARIABLE}=1."
    ), 1
