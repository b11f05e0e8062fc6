"""The command `monitor`."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import (
    AsJson,
    Device,
    Overwrite,
    Seed,
    Threads,
    console,
    image_command,
    print_json,
    print_report_path,
)
from belvedere.runtime.terminal import count, print_error

Run = Annotated[Path, typer.Argument(help="Folder of train, or of evaluate --out.")]
NewImages = Annotated[Path, typer.Argument(help="Folder of new images, or the folder of serve --monitor.")]
RunModel = Annotated[Path | None, typer.Option("--model", help="The model. Default: that of RUN.", show_default=False)]
Since = Annotated[
    datetime | None, typer.Option("--since", help="Leave out records before this time.", show_default=False)
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="File of metrics for Prometheus, by node_exporter.", show_default=False),
]
FailOnChange = Annotated[bool, typer.Option("--fail-on-change", help="End with exit code 1 if something changed.")]


@image_command(
    "belvedere monitor run new-images --out monitoring",
    "belvedere monitor run served --since 2026-11-01 --fail-on-change",
)
def monitor(
    run: Run,
    source: NewImages,
    model: RunModel = None,
    since: Since = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for a report, JSON and the images to label.")
    ] = None,
    metrics_file: MetricsFile = None,
    fail_on_change: FailOnChange = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare new images with the test images of a run.

    Shows what changed, the accuracy to expect, and images to label. Needs no labels.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_drift

    progress = CommandProgress("monitor")
    report = belvedere.monitor(
        run,
        source,
        model=model,
        since=since,
        out=out,
        metrics_file=metrics_file,
        seed=seed,
        overwrite=overwrite,
        device=device,
        threads=threads,
        progress=progress,
    )
    progress.log_warnings(report.warnings)
    if as_json:
        print_json(report.to_dict())
    else:
        show_drift(console(), report)
    if out is not None:
        print_report_path(out / "report.html")
        if copies := list((out / "to_label").glob("*")):
            labels = shlex.join(["belvedere", "label", str(out / "to_label")])
            print_error(f"Label {count(len(copies), 'image')}: {labels}")
    elif not as_json:
        print_error("Add --out FOLDER for a report, and for images to label.")
    if fail_on_change and report.is_changed:
        raise typer.Exit(1)
