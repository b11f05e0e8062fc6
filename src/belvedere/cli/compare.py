"""The command `compare`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Overwrite, console, image_command, print_json, print_report_path
from belvedere.runtime.terminal import print_error


@image_command("belvedere compare run corrected", "belvedere compare run corrected --out comparison")
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of train, or of evaluate --out: before.")],
    run_b: Annotated[Path, typer.Argument(help="The other folder: after.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a report with images, and JSON.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs on the same images.

    Shows the accuracy of each class, and the images whose prediction changed.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_comparison

    progress = CommandProgress("compare")
    comparison = belvedere.compare(run_a, run_b, out=out, overwrite=overwrite, progress=progress)
    progress.log_warnings(comparison.warnings)
    if as_json:
        print_json(comparison.to_dict())
    else:
        show_comparison(console(), comparison)
    if out is not None:
        print_report_path(out / "report.html")
    elif not as_json:
        print_error("Add --out FOLDER for a report with the images whose prediction changed.")
