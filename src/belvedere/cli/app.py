"""The application, the options that commands share, and output to stdout and stderr.

Results go to stdout; progress and messages to stderr.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperOption

from belvedere.cli.help import Command, CommandGroup
from belvedere.errors import CacheError
from belvedere.runtime.environment import cache_folder, make_cache_folder
from belvedere.runtime.serialization import dump_json
from belvedere.runtime.terminal import print_error

if TYPE_CHECKING:
    from rich.console import Console

Function = TypeVar("Function", bound=Callable[..., Any])


class _ImageCommand(Command):
    """A command that reads image files, with an option that limits their size."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        limit = TyperOption(
            param_decls=["--max-megapixels"],
            type=float,
            help="Size of an image, megapixels; larger JPEGs are decoded at a reduced scale. Default: 100.",
            callback=_limit_pixels,
            expose_value=False,
        )
        self.params.append(limit)


def _limit_pixels(context: Any, option: Any, max_megapixels: float | None) -> None:  # noqa: ARG001 - arguments of click
    if max_megapixels is not None:
        from belvedere.images.limits import set_max_megapixels

        set_max_megapixels(max_megapixels)


app = typer.Typer(
    name="belvedere",
    help="From a folder of labeled images to an image classifier you can trust.",
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def command(*examples: str, cls: type[Command] = Command) -> Callable[[Function], Function]:
    """Return a decorator that makes a function a command of its name, with examples for its help."""
    return app.command(cls=cls, epilog="\n".join(examples))


image_command = partial(command, cls=_ImageCommand)
ModelPath = Annotated[Path, typer.Argument(help="A model.onnx, a run folder, or hf://user/name[@revision].")]
DATA_HELP = "Labeled images: a folder of class folders, perhaps with train and test above, or a table."
Data = Annotated[Path, typer.Argument(help=DATA_HELP)]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="Folder that the paths in a table are relative to. Default: that of the table.",
        show_default=False,
    ),
]
Layout = Annotated[str, typer.Option("--layout", help="auto, or classes: every folder in DATA is a class.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results, or any existing file that is not read.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Random seed; the result is reproducible, bit by bit on a CPU."),
]
AcceptRate = Annotated[
    float | None,
    typer.Option(
        "--accept-rate",
        help="Fraction of in-distribution images to accept; the others are none of these. Default: the model's, 0.95.",
        show_default=False,
    ),
]
DEVICES = ("auto", "cpu", "cuda")
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto (a GPU if ONNX Runtime has CUDA), cpu or cuda.", autocompletion=lambda: DEVICES
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads that run the model. Default: the CPUs it may use.", show_default=False
    ),
]
Corrections = Annotated[
    Path | None,
    typer.Option("--corrections", help="File of corrections from belvedere review.", show_default=False),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Never divide groups of images: folder, exif-day, near-duplicates, or a column of the table.",
        show_default=False,
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option(
        "--network", help="Network: one of belvedere networks, or any pretrained timm model.", show_default=False
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", help="File of pretrained weights. Default: downloaded on first use.", show_default=False),
]
PageHost = Annotated[str, typer.Option("--host", help="Address to listen on. Without a token: local addresses only.")]
PagePort = Annotated[int, typer.Option("--port", min=0, max=65_535, help="0: any free port.")]
Spreadsheet = Annotated[
    bool,
    typer.Option("--spreadsheet", help="Put an apostrophe before CSV cells that a spreadsheet would run as formulas."),
]

Code = Annotated[
    list[Path] | None,
    typer.Option(
        "--code",
        metavar="FILE.py",
        help="Run a Python file that registers networks, recipes, checks, formats or optimizers; repeatable.",
        show_default=False,
    ),
]


def run_code(files: list[Path] | None) -> None:
    """Run the files of `Code`, before their names are looked up."""
    if files:
        from belvedere.runtime.code_file import load_code

        for file in files:
            load_code(file)


def console() -> "Console":
    """Return a console on stdout; importing Rich takes long."""
    from belvedere.runtime.console import PlainConsole

    return PlainConsole()


def print_json(content: Mapping[str, object]) -> None:
    """Print JSON to stdout."""
    print(dump_json(content, indent=2))  # noqa: T201 - ASCII


def print_report_path(report: Path) -> None:
    """Print the path of a report to stderr."""
    print_error(f"Report: {report}")


def keep_fonts_in_cache() -> None:
    """Let matplotlib keep its font list in our cache folder; called before matplotlib is imported."""
    if "MPLCONFIGDIR" not in os.environ:
        with suppress(CacheError, OSError):
            os.environ["MPLCONFIGDIR"] = str(cache_folder() / "matplotlib")
            make_cache_folder()  # otherwise matplotlib makes it, readable for everybody
