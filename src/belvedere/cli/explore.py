"""The command `explore`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import Layout, NetworkName, PageHost, PagePort, Root, WeightsFile, image_command
from belvedere.errors import UsageError


@image_command("belvedere explore images", "belvedere explore run --cell sea,glacier")
def explore(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DATA|RUN|AUDIT", help="Labeled images, or the folder of train, evaluate or audit --out."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset of the run or audit, if it was moved.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="Model for the embeddings. Default: that of RUN, else the bundled one.", show_default=False
        ),
    ] = None,
    network: NetworkName = None,
    weights: WeightsFile = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Begin with this image and those most like it.", show_default=False)
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            "--cell",
            metavar="LABEL,PREDICTION",
            help="Begin with this cell of the confusion matrix.",
            show_default=False,
        ),
    ] = None,
    root: Root = None,
    layout: Layout = "auto",
    host: PageHost = "127.0.0.1",
    port: PagePort = 8642,
) -> None:
    """Show a dataset, run or audit as a map on a local web page.

    Images that look alike are close. Lasso images for a table or for label, find those like an example,
    see copies as lines.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.reviewing.exploring.sources import records_dataset

    progress = CommandProgress("explore")
    load = partial(belvedere.load_dataset, progress=progress, root=root, layout=layout)
    has_options = root is not None or layout != "auto"
    if has_options and data is None and records_dataset(source):
        raise UsageError(f"--root and --layout are for labeled images and for --data. {source} records its own.")
    belvedere.explore(
        load(source) if has_options and data is None else source,
        data=load(data) if has_options and data is not None else data,
        model=model,
        network=network,
        weights=weights,
        image=image,
        cell=cell,
        host=host,
        port=port,
        progress=progress,
    )
