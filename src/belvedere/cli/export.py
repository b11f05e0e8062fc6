"""The command `export`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, ModelPath, Overwrite, app, print_json
from belvedere.runtime.terminal import print_line, tell


@app.command()
def export(
    model: ModelPath,
    out: Annotated[Path, typer.Option("--out", help="File to write, such as model-int8.onnx.")],
    form: Annotated[str, typer.Option("--format", help="int8, float16-weights or nchw.")],
    photos: Annotated[
        Path,
        typer.Option("--calibration-data", help="Photographs like those it is for: to calibrate and to compare on."),
    ],
    no_tta: Annotated[bool, typer.Option("--no-tta", help="Predict without the mirror image.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write it although its answers are over the bound.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write MODEL in another form, if its answers stay those of the original."""
    from belvedere.runtime.progress import console_progress

    done = belvedere.export_model(
        model,
        out,
        form,
        photos=photos,
        views=1 if no_tta else None,
        force=force,
        overwrite=overwrite,
        progress=console_progress(),
    )
    if as_json:
        print_json(asdict(done) | {"holds": done.holds, "file": str(out)})
        return
    bound = done.bound
    print_line(f"{out}: {done.size_bytes / 1e6:.2f} MB (original {done.original_bytes / 1e6:.2f} MB)")
    print_line(f"top class equal on {done.agreement:.2%} of {done.images} photographs (bound {bound.agreement:.1%})")
    print_line(
        f"largest change of a probability {done.largest_change:.4f} (bound {bound.change}), mean {done.mean_change:.4f}"
    )
    if done.ood_flip_rate is not None:
        print_line(
            f'"none of these" from one of the two only on {done.ood_flip_rate:.2%} (bound {bound.ood_flip_rate:.1%})'
        )
    if not done.holds:
        tell("belvedere: its answers are over the bound; it was written because of --force")
