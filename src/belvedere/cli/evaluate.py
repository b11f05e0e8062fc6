"""The command `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from belvedere.cli.app import (
    AcceptRate,
    AsJson,
    Labels,
    ModelPath,
    Overwrite,
    Spreadsheet,
    app,
    console,
    print_json,
    print_report_path,
)
from belvedere.errors import UsageError
from belvedere.runtime.terminal import tell


@app.command()
def evaluate(
    model: ModelPath,
    photos: Annotated[Path, typer.Argument(help="Labelled photographs, as for train; a test part is taken if named.")],
    labels: Labels = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a report, figures and tables.")] = None,
    outliers: Annotated[
        Path | None,
        typer.Option("--ood", help="Folder of pictures of none of the classes: is it told that they are?"),
    ] = None,
    accept_rate: AcceptRate = None,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Measure MODEL on PHOTOS: accuracy, confusion, calibration, tags, none of these, most confident mistakes."""
    from belvedere.evaluation.run_folder import evaluate_into
    from belvedere.inference.writers.text import show_evaluation
    from belvedere.runtime.progress import console_progress

    if spreadsheet and out is None:
        raise UsageError("--spreadsheet is for the table that --out FOLDER writes: add it, or leave --spreadsheet out.")
    evaluation, metrics = evaluate_into(
        model,
        photos,
        out,
        overwrite=overwrite,
        progress=console_progress(),
        outliers=outliers,
        accept_rate=accept_rate,
        labels=labels,
        spreadsheet=spreadsheet,
    )
    if as_json:
        print_json(metrics)
        return
    show_evaluation(console(), evaluation)
    if out is None:
        tell("Add --out FOLDER for a report with pictures.")
    else:
        print_report_path(out / "report.html")
