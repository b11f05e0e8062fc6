"""The command `label`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import belvedere
from belvedere.cli.app import (
    NetworkName,
    Overwrite,
    PageHost,
    PagePort,
    Root,
    WeightsFile,
    console,
    image_command,
    print_report_path,
)
from belvedere.runtime.terminal import count, print_error

if TYPE_CHECKING:
    from belvedere.reviewing.labeling.server import LabelSummary


@image_command("belvedere label images", "belvedere label images --classes cat,dog,other --annotator Anna --train")
def label(
    data: Annotated[Path, typer.Argument(help="Folder of images, or a table as for train. Labels are not used.")],
    classes: Annotated[
        str, typer.Option("--classes", help="Classes, separated by commas. More can be added on the page.")
    ] = "",
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Model for the embeddings. Default: the bundled one.", show_default=False),
    ] = None,
    network: NetworkName = None,
    weights: WeightsFile = None,
    corrections: Annotated[
        Path | None,
        typer.Option("--corrections", help="File for the labels. Default: DATA.labels.jsonl.", show_default=False),
    ] = None,
    root: Root = None,
    host: PageHost = "127.0.0.1",
    port: PagePort = 8642,
    annotator: Annotated[
        str | None,
        typer.Option("--annotator", help="Your name, for the labels. Default: the user name.", show_default=False),
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train on the labels at the end.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder of the training. Default: DATA-run.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Label a folder of images on a local web page.

    Suggests classes, and asks about the images that help most.
    """
    from belvedere.cli.progress import StageProgress

    result = belvedere.label(
        data,
        classes=[name for name in map(str.strip, classes.split(",")) if name],
        model=model,
        network=network,
        weights=weights,
        corrections=corrections,
        root=root,
        host=host,
        port=port,
        annotator=annotator,
        train=train,
        out=out,
        overwrite=overwrite,
        progress=StageProgress("label"),
    )
    _print_summary(result)


def _print_summary(result: "LabelSummary") -> None:
    from belvedere.cli.tables import show_evaluation

    print_error(f"{count(result.num_labeled, 'label')} in {result.labels}, {count(result.num_left, 'image')} left.")
    if result.num_labeled:
        print_error(", ".join(f"{name} {number:,}" for name, number in result.counts.items()))
    if result.accuracy is not None:
        found = result.accuracy
        print_error(f"Estimated accuracy: {found.value:.1%} (95% interval {found.low:.1%} to {found.high:.1%})")
    for command in () if result.runs else result.commands:
        print_error(f"Train on them: {command}")
    for run in result.runs:
        show_evaluation(console(), run.evaluation)
        print_report_path(run.report)
