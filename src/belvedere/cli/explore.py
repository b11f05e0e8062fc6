"""The command `explore`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import Layout, NetworkName, PageHost, PagePort, Root, WeightsFile, image_command


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

    progress = CommandProgress("explore")
    has_options = root is not None or layout != "auto"
    belvedere.explore(
        belvedere.load_dataset(source, progress=progress, root=root, layout=layout) if has_options else source,
        data=data,
        model=model,
        network=network,
        weights=weights,
        image=image,
        cell=cell,
        host=host,
        port=port,
        progress=progress,
    )
