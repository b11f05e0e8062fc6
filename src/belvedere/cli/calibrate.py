"""The command `calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Layout, ModelPath, Overwrite, Root, console, image_command, print_json
from belvedere.runtime.terminal import count, print_error


@image_command("belvedere calibrate run new-images", "belvedere calibrate run new-images.csv --out calibrated.onnx")
def calibrate(
    model: ModelPath,
    data: Annotated[Path, typer.Argument(help="Labeled images that MODEL was not trained on: a folder or a table.")],
    root: Root = None,
    layout: Layout = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="File to write. Default: MODEL itself.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although metrics get worse.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Fit a model's probabilities and thresholds to held-out images.

    These are temperature, prediction sets, the threshold of none of these, and tags.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_calibration

    progress = CommandProgress("calibrate")
    dataset = belvedere.load_dataset(data, progress=progress, root=root, layout=layout)
    result = belvedere.calibrate(model, dataset, out=out, force=force, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(result.to_dict())
        return
    show_calibration(console(), result)
    if result.num_test_images:
        print_error(f"Not used: {count(result.num_test_images, 'image')} of the test split.")
    print_error(f"Written: {result.path}")
