"""The command `export`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import belvedere
from belvedere.cli.app import AsJson, ModelPath, Overwrite, command, print_json
from belvedere.runtime.terminal import count, print_error, print_line

if TYPE_CHECKING:
    from belvedere.inference.export import Export, ExportComparison

FORMATS = ("int8", "float16-weights", "nchw", "hub", "page")  # for completion, without an import
Format = Annotated[
    str,
    typer.Option("--format", help="int8, float16-weights, nchw, hub or page.", autocompletion=lambda: FORMATS),
]


@command(
    "belvedere export run --format page --out page",
    "belvedere export run --format int8 --calibration-data images --out small.onnx",
)
def export(
    model: ModelPath,
    out: Annotated[
        Path, typer.Option("--out", help="File to write, such as model-int8.onnx; a folder for hub and page.")
    ],
    format: Format,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            "--calibration-data",
            help="Images like those it is for, to calibrate and compare on; hub and page need none.",
            show_default=False,
        ),
    ] = None,
    license: Annotated[  # noqa: A002 - the name of the field
        str | None,
        typer.Option(
            "--license",
            help="License for hub, such as apache-2.0. Default: that of the pretrained weights, if known.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            help="npm package onnxruntime-web for page. Default: downloaded once, 33 MB, from registry.npmjs.org.",
            show_default=False,
        ),
    ] = None,
    no_tta: Annotated[
        bool, typer.Option("--no-tta", help="Without test-time augmentation (the mirror image).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write it even if its predictions differ too much.")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a model in another format.

    For all formats but page, nothing is written if its predictions differ too
    much from the original's.
    """
    from belvedere.cli.progress import CommandProgress

    result = belvedere.export(
        model,
        out,
        format,
        calibration_data=calibration_data,
        tta=not no_tta,
        license=license,
        runtime=runtime,
        force=force,
        overwrite=overwrite,
        progress=CommandProgress("export"),
    )
    if as_json:
        print_json(_to_dict(result) | {"file": str(out)})
        return
    _print_result(result, out)


def _to_dict(result: "Export") -> dict[str, Any]:
    """Return the fields of a result, with `within_tolerance` in the comparison."""
    fields = asdict(result)
    if result.comparison:
        fields["comparison"]["within_tolerance"] = result.comparison.within_tolerance
    return fields


def _print_result(result: "Export", out: Path) -> None:
    print_line(f"{out}: {result.size_bytes / 1e6:.2f} MB (original {result.original_size_bytes / 1e6:.2f} MB)")
    if result.comparison:
        _print_comparison(result.comparison)
    else:
        print_line("Put the folder on any web host, or try it at http://localhost:8080:")
        print_line(f"  python -m http.server 8080 --bind 127.0.0.1 --directory {shlex.quote(str(out))}")


def _print_comparison(found: "ExportComparison") -> None:
    tolerance = found.tolerance
    print_line(
        f"same class on {found.agreement:.2%} of {count(found.num_images, 'image')} (min. {tolerance.agreement:.1%})"
    )
    print_line(
        f"largest change of a probability {found.max_change:.4f} (at most {tolerance.change}), "
        f"mean {found.mean_change:.4f}"
    )
    if found.ood_flip_rate is not None:
        print_line(
            f'"none of these" for one of the two on {found.ood_flip_rate:.2%} (at most {tolerance.ood_flip_rate:.1%})'
        )
    if not found.within_tolerance:
        print_error("belvedere: the predictions differ too much; the file was written because of --force")
