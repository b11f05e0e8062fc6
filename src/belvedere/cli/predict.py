"""The command `predict`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belvedere.cli.app import AcceptRate, AsJson, Code, Device, Overwrite, Spreadsheet, Threads, image_command, run_code
from belvedere.errors import UsageError, find_named
from belvedere.runtime.terminal import count, print_error

if TYPE_CHECKING:
    from belvedere.inference.batch import PredictionSummary, Sink

Images = Annotated[
    list[Path],
    typer.Argument(
        show_default=False,
        help="Images and folders of images, or - for paths on stdin; a model.onnx, a run folder or hf://user/name may "
        "come first. Default model: the bundled one.",
    ),
]
NamedModel = Annotated[
    Path | None,
    typer.Option(
        "--model", help="A model.onnx, a run folder or hf://user/name; IMAGES are images only.", show_default=False
    ),
]
OutFile = Annotated[Path | None, typer.Option("--out", help="File for the predictions; its suffix names the format.")]
FORMATS = ("table", "csv", "jsonl", "json", "parquet")  # for completion, without an import
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="table, csv, jsonl, json, parquet, or a registered one.", autocompletion=lambda: FORMATS
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the same interrupted command (csv, jsonl, parquet).")]
BACKENDS = ("local", "ray")
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        help="local, or ray: many machines, into a folder of Parquet files.",
        autocompletion=lambda: BACKENDS,
    ),
]
NullSeparated = Annotated[bool, typer.Option("-0", "--null", help="Paths on stdin end with NUL, as of find -print0.")]
ContactSheetFile = Annotated[
    Path | None, typer.Option("--contact-sheet", help="PNG with the images and their predictions.")
]
HeatmapFolder = Annotated[
    Path | None, typer.Option("--heatmaps", help="Folder for images with a heatmap for each tag.")
]
STDIN_DESCRIPTOR = 0


@image_command(
    "belvedere predict run holiday",
    "belvedere predict run holiday --out predictions.csv --contact-sheet sheet.png",
)
def predict(
    images: Images,
    model: NamedModel = None,
    out: OutFile = None,
    format: Format = None,
    resume: Resume = False,
    backend: Backend = "local",
    overwrite: Overwrite = False,
    null: NullSeparated = False,
    contact_sheet: ContactSheetFile = None,
    heatmaps: HeatmapFolder = None,
    accept_rate: AcceptRate = None,
    device: Device = "auto",
    threads: Threads = None,
    spreadsheet: Spreadsheet = False,
    code: Code = None,
    as_json: AsJson = False,
) -> None:
    """Classify images and folders of images.

    Prints a table, or writes CSV, JSON, JSON Lines or Parquet with probabilities, tags and none of these.
    """
    from belvedere.cli.prediction_table import register_table
    from belvedere.cli.progress import CommandProgress
    from belvedere.evaluation.report.sinks import ContactSheet, Heatmaps
    from belvedere.images.inputs import read_paths
    from belvedere.inference.batch import STDIN, choose_model, predict_files

    register_table()
    progress = CommandProgress("predict")
    run_code(code)
    if as_json and (format or out):
        raise UsageError("--json prints to stdout: leave out --format and --out, or leave out --json.")
    find_named("backend", backend, dict.fromkeys(BACKENDS))
    chosen_format = _choose_format("json" if as_json else format, out)
    chosen, named = choose_model(images, model=model, accept_rate=accept_rate, device=device, threads=threads)
    if STDIN in named and named != [STDIN]:
        raise UsageError("- reads the paths of all images from stdin: give no others.")
    sources = read_paths(sys.stdin.buffer, b"\0" if null else b"\n") if named == [STDIN] else named
    if backend == "ray":
        others = resume, contact_sheet, heatmaps, accept_rate, spreadsheet, threads, device != "auto"
        if out is None or chosen_format != "parquet" or any(others):
            raise UsageError("--backend ray writes a folder: give --out predictions.parquet and no other outputs.")
        from belvedere.inference.ray_backend import predict_at_scale  # Ray is optional, and its import takes seconds

        summary = predict_at_scale(chosen.name, sources, out, overwrite=overwrite, progress=progress)
    else:
        sinks: list[Sink] = [] if heatmaps is None else [Heatmaps(heatmaps, overwrite=overwrite)]
        if contact_sheet is not None:
            sinks.insert(0, ContactSheet(contact_sheet, overwrite=overwrite, progress=progress))
        options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "spreadsheet": spreadsheet}
        options["inputs"] = [STDIN_DESCRIPTOR] if named == [STDIN] else []
        summary = predict_files(chosen, sources, chosen_format, out=out, sinks=sinks, **options, progress=progress)
    if out is not None:
        progress.log(f"{count(summary.num_images, 'image')} predicted: {out}")
    if summary.num_unreadable:
        print_error(f"belvedere: {_without_reason(summary) if chosen_format == 'table' else summary}")
        raise typer.Exit(1)


def _without_reason(summary: "PredictionSummary") -> "PredictionSummary":
    """Return a summary for a table, whose rows have the reasons."""
    return replace(summary, example="")


def _choose_format(name: str | None, out: Path | None) -> str:
    """Return the format that is named, or that of the file's suffix, or else a table."""
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    if out is not None and name is None and not suffix:
        raise UsageError(f"{out} has no suffix that names a format. Add one, or --format csv, jsonl or json.")
    if out is not None and (name or suffix) == "table":
        raise UsageError(f"A table is printed only. For {out} use --format csv, jsonl or json.")
    return name or suffix or "table"
