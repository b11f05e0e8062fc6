"""What every command shares: the application, its common options, and how a command ends.

Answers go to stdout; progress and messages to stderr. What a user can mend ends in one line and exit code 1 (a failed
job) or 2 (a wrong call). Does not know what any command does.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from belvedere.errors import BelvedereError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="belvedere",
    help="From a folder of labelled photographs to an image classifier you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Arguments = ParamSpec("Arguments")
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of Belvedere's that are there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable answer on stdout.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same result, on a CPU bit for bit.")
]
AcceptRate = Annotated[
    float | None,
    typer.Option(
        "--accept-rate",
        help="Share of pictures of the classes that are not called none of these; without, the model's 0.95.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="Journal of corrections that belvedere review wrote.", show_default=False),
]
ModelPath = Annotated[Path, typer.Argument(help="A model.onnx, or the run folder that holds one.")]


def told(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turns what ends a command into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            command(*arguments, **options)
        except BelvedereError as error:
            tell(" ".join([f"belvedere: {error}", *getattr(error, "__notes__", ())]))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            tell(" ".join(["belvedere: Ended by Ctrl-C.", *getattr(error, "__notes__", ())]))
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read our output has gone: nothing more to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


def console() -> "Console":
    """Returns stdout as rich writes to it."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(content: Mapping[str, object]) -> None:
    """Prints a machine-readable answer."""
    print(json.dumps(content, indent=2))  # noqa: T201 - ASCII, which any terminal and pipe takes


def tell(message: str) -> None:
    """Says something to the user, beside the answer."""
    print(message, file=sys.stderr)  # noqa: T201


def say_where(report: Path) -> None:
    """Names the report that was written."""
    tell(f"Report: {report}")
