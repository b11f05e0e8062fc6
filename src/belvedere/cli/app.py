"""What every command shares: the application, its common options, and how it prints.

Answers go to stdout; progress and messages to stderr. Does not know what any command does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from belvedere.runtime.strict_json import dump_json
from belvedere.runtime.terminal import tell

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="belvedere",
    help="From a folder of labeled photographs to an image classifier you can trust.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there: older results, or any file that is not read.")
]
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
    typer.Option("--corrections", help="Journal of corrections that belvedere review wrote.", show_default=False),
]
Spreadsheet = Annotated[
    bool,
    typer.Option("--spreadsheet", help="Put an apostrophe before CSV cells that a spreadsheet takes for formulas."),
]
ModelPath = Annotated[Path, typer.Argument(help="A model.onnx, or the run folder that holds one.")]


def console() -> "Console":
    """Returns stdout for tables and lines; Rich takes long to import."""
    from belvedere.runtime.console import PlainConsole

    return PlainConsole()


def print_json(content: Mapping[str, object]) -> None:
    """Prints a machine-readable answer."""
    print(dump_json(content, indent=2))  # noqa: T201 - ASCII, which any terminal and pipe takes


def print_report_path(report: Path) -> None:
    """Names the report that was written."""
    tell(f"Report: {report}")
