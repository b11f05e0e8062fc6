"""The command `evaluate`."""

import time
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import (
    AcceptRate,
    AsJson,
    Corrections,
    Data,
    Device,
    Layout,
    ModelPath,
    Overwrite,
    Root,
    Spreadsheet,
    Threads,
    console,
    image_command,
    print_json,
    print_report_path,
)
from belvedere.errors import UsageError
from belvedere.runtime.terminal import print_error


@image_command(
    "belvedere evaluate run new-images",
    "belvedere evaluate run new-images --ood other-images --out evaluation",
)
def evaluate(
    model: ModelPath,
    data: Data,
    root: Root = None,
    layout: Layout = "auto",
    corrections: Corrections = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a report, plots and tables.")] = None,
    ood: Annotated[
        Path | None,
        typer.Option("--ood", help="Folder of images of none of the classes, to measure how many are rejected."),
    ] = None,
    accept_rate: AcceptRate = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on labeled images.

    If DATA has a test split, only that is used. Shows accuracy, confusion matrix, calibration, tags and none of these.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_evaluation
    from belvedere.evaluation.run_folder import collect_metrics

    if spreadsheet and out is None:
        raise UsageError("--spreadsheet is for the table that --out FOLDER writes: add it, or leave --spreadsheet out.")
    started, progress = time.perf_counter(), CommandProgress("evaluate")
    loaded = belvedere.load_model(model, accept_rate=accept_rate, device=device, threads=threads)
    dataset = belvedere.load_dataset(data, corrections, progress, root=root, layout=layout)
    evaluation = belvedere.evaluate(
        loaded, dataset, out=out, ood=ood, overwrite=overwrite, spreadsheet=spreadsheet, progress=progress
    )
    if as_json:
        seconds = time.perf_counter() - started
        print_json(collect_metrics(evaluation, loaded.identity, loaded.card, seconds, spreadsheet))
        return
    show_evaluation(console(), evaluation)
    if out is None:
        print_error("Add --out FOLDER for a report with images.")
    else:
        print_report_path(out / "report.html")
