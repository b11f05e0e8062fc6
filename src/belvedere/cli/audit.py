"""The command `audit`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import (
    AsJson,
    Labels,
    Out,
    Overwrite,
    Seed,
    Spreadsheet,
    app,
    console,
    print_json,
    print_report_path,
)
from belvedere.runtime.terminal import tell


@app.command()
def audit(
    photos: Annotated[Path, typer.Argument(help="Labelled photographs, as for train.")],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Model to find wrong labels with; it must not have learnt from PHOTOS."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--network", help="Or a pretrained network of timm's; see belvedere backbones.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of its weights; without, downloaded on first use.")
    ] = None,
    labels: Labels = None,
    no_labels: Annotated[
        bool, typer.Option("--skip-label-issues", help="Don't look for wrong labels and pictures unlike any class.")
    ] = False,
    no_near: Annotated[bool, typer.Option("--skip-near-duplicates", help="Don't look for near duplicates.")] = False,
    out: Out = Path("audit"),
    seed: Seed = 0,
    strict: Annotated[
        bool, typer.Option("--fail-on-issues", help="End with exit code 1 if anything is flagged.")
    ] = False,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Look for unreadable, odd, duplicate, leaking and wrongly labeled photographs in PHOTOS."""
    from belvedere.auditing.checks import summarise
    from belvedere.auditing.output import collect
    from belvedere.cli.tables import show_findings
    from belvedere.runtime.progress import console_progress

    progress = console_progress()
    dataset = belvedere.load_dataset(photos, labels, progress)
    found = belvedere.audit(
        dataset,
        out=out,
        model=model,
        backbone=backbone,
        weights=weights,
        labels=not no_labels,
        near=not no_near,
        seed=seed,
        overwrite=overwrite,
        spreadsheet=spreadsheet,
        progress=progress,
    )
    progress.say_notes(found.notes)
    if as_json:
        print_json(collect(found, dataset.samples))
    else:
        summaries = summarise(found)
        show_findings(console(), [(one.title, one.flagged, one.worst) for one in summaries if one.flagged])
        tell(f"{sum(not one.flagged for one in summaries)} of {len(summaries)} checks found nothing.")
        if found.route:
            tell(f"Labels were doubted by {found.route}.")
        print_report_path(out / "report.html")
    if strict and (found.flagged or found.classes):
        raise typer.Exit(1)
