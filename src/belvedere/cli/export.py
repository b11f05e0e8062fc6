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
    form: Annotated[str, typer.Option("--form", help="int8, float16 or plain.")],
    photos: Annotated[
        Path, typer.Option("--calibration", help="Photographs like those it is for: to calibrate and to compare on.")
    ],
    views: Annotated[
        int | None, typer.Option("--views", min=1, max=1, help="1: look once, not also at the mirror image.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although its answers are over the bound.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write MODEL in another form, if its answers stay those of the original."""
    from belvedere.runtime.progress import for_stderr

    done = belvedere.export_model(
        model, out, form, photos=photos, views=views, force=force, overwrite=overwrite, progress=for_stderr()
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
    if done.none_changed is not None:
        print_line(
            f'"none of these" from one of the two only on {done.none_changed:.2%} (bound {bound.none_changed:.1%})'
        )
    if not done.holds:
        tell("belvedere: its answers are over the bound; it was written because of --force")
