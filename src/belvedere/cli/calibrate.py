"""The command `calibrate`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, ModelPath, Overwrite, app, print_json
from belvedere.runtime.terminal import print_line, tell


@app.command()
def calibrate(
    model: ModelPath,
    table: Annotated[
        Path, typer.Argument(help="Table with the columns image and label, the latter such as sea|mountain.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Model file to write; without, MODEL itself is replaced.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although its tags got worse.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit MODEL's tags to a TABLE of a few dozen photographs with all their labels."""
    from belvedere.runtime.progress import console_progress

    done = belvedere.calibrate(model, table, out=out, force=force, overwrite=overwrite, progress=console_progress())
    if as_json:
        print_json(dataclasses.asdict(done) | {"file": str(done.file)})
        return
    for when, figures in (("as trained", done.before), ("after, on photographs not fitted on", done.after)):
        values = {"micro F1": figures.micro_f1, "mean average precision": figures.mean_average_precision}
        told_values = "   ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)
        print_line(f"{told_values}   ({when})")
    if done.test_images:
        tell(f"{done.test_images} rows of the table's test part stayed aside.")
    tell(f"Fitted on {done.images} photographs, and written: {done.file}")
