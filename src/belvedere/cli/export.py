"""The command `export`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, ModelPath, Overwrite, command, print_json
from belvedere.runtime.terminal import count, print_error, print_line


@command()
def export(
    model: ModelPath,
    out: Annotated[Path, typer.Option("--out", help="File to write, such as model-int8.onnx.")],
    format: Annotated[str, typer.Option("--format", help="int8, float16-weights or nchw.")],
    calibration_data: Annotated[
        Path,
        typer.Option("--calibration-data", help="Images like those it is for, to calibrate and compare on."),
    ],
    no_tta: Annotated[
        bool, typer.Option("--no-tta", help="Without test-time augmentation (the mirror image).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write it even if its predictions differ too much.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write MODEL in another format if its predictions stay close to the original's."""
    from belvedere.cli.progress import CommandProgress

    result = belvedere.export(
        model,
        out,
        format,
        calibration_data=calibration_data,
        tta=not no_tta,
        force=force,
        overwrite=overwrite,
        progress=CommandProgress("export"),
    )
    if as_json:
        print_json(asdict(result) | {"within_tolerance": result.within_tolerance, "file": str(out)})
        return
    tolerance = result.tolerance
    print_line(f"{out}: {result.size_bytes / 1e6:.2f} MB (original {result.original_size_bytes / 1e6:.2f} MB)")
    print_line(
        f"same class on {result.agreement:.2%} of {count(result.num_images, 'image')} (min. {tolerance.agreement:.1%})"
    )
    print_line(
        f"largest change of a probability {result.max_change:.4f} (at most {tolerance.change}), "
        f"mean {result.mean_change:.4f}"
    )
    if result.ood_flip_rate is not None:
        print_line(
            f'"none of these" for one of the two on {result.ood_flip_rate:.2%} (at most {tolerance.ood_flip_rate:.1%})'
        )
    if not result.within_tolerance:
        print_error("belvedere: the predictions differ too much; the file was written because of --force")
