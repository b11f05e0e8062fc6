"""The command `predict`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from belvedere.cli.app import AcceptRate, AsJson, Overwrite, Spreadsheet, app
from belvedere.errors import UsageError, find_named
from belvedere.runtime.terminal import tell

Images = Annotated[
    list[Path],
    typer.Argument(
        show_default=False,
        help="Pictures and folders of them, or - for names on stdin; before them a model.onnx or run folder, if "
        "not the bundled model.",
    ),
]
NamedModel = Annotated[
    Path | None,
    typer.Option("--model", help="A model.onnx or run folder; then IMAGES are images only.", show_default=False),
]
STDIN_DESCRIPTOR = 0


@app.command()
def predict(
    images: Images,
    model: NamedModel = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers; its suffix names the format.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="table, csv, jsonl, json or parquet.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was cut off (csv, jsonl, parquet).")
    ] = False,
    engine: Annotated[
        str, typer.Option("--backend", help="local, or ray: many machines, into a folder of Parquet files.")
    ] = "local",
    overwrite: Overwrite = False,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Names on stdin end with NUL, as of find -print0.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--contact-sheet", help="PNG with the pictures and their answers.")
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option("--heatmaps", help="Folder for pictures of where the evidence for each tag is.")
    ] = None,
    accept_rate: AcceptRate = None,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Classify IMAGES with MODEL: class probabilities, tags, none of these; as table, CSV, JSON lines or Parquet."""
    from belvedere.evaluation.report.sinks import ContactSheet, Heatmaps
    from belvedere.images.inputs import read_paths
    from belvedere.inference.batch import STDIN, Sink, choose_model, predict_files
    from belvedere.runtime.progress import console_progress

    if as_json and (form or out):
        raise UsageError("--json prints a JSON document on stdout: leave out --format and --out, or leave out --json.")
    find_named("engine", engine, dict.fromkeys(("local", "ray")))
    form = _choose_form("json" if as_json else form, out)
    chosen, named = choose_model(images, model=model, accept_rate=accept_rate)
    if STDIN in named and named != [STDIN]:
        raise UsageError("- reads the names of all pictures from stdin: give no others beside it.")
    sources = read_paths(sys.stdin.buffer, b"\0" if null else b"\n") if named == [STDIN] else named
    if engine == "ray":
        if out is None or form != "parquet" or resume or sheet or heatmaps or accept_rate or spreadsheet:
            raise UsageError("--backend ray writes a folder: give --out answers.parquet, and no other files or rates.")
        from belvedere.inference.ray_backend import predict_at_scale  # here, since Ray is an extra and takes seconds

        done = predict_at_scale(chosen.name, sources, out, overwrite=overwrite, progress=console_progress())
    else:
        sinks: list[Sink] = (
            [] if sheet is None else [ContactSheet(sheet, overwrite=overwrite, progress=console_progress())]
        )
        sinks += [] if heatmaps is None else [Heatmaps(heatmaps, overwrite=overwrite)]
        options: dict[str, Any] = {"out": out, "sinks": sinks}
        options |= {"inputs": [STDIN_DESCRIPTOR] if named == [STDIN] else []}
        options |= {"resume": resume, "overwrite": overwrite, "spreadsheet": spreadsheet}
        done = predict_files(chosen, sources, form, **options, progress=console_progress())
    if done.unreadable:
        tell(f"belvedere: {done.unreadable} of {done.images} files could not be read")
        raise typer.Exit(1)


def _choose_form(form: str | None, out: Path | None) -> str:
    """The form of the answers: the one named, else by the suffix of the file, else a table."""
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    if out is not None and form is None and not suffix:
        raise UsageError(f"{out} has no suffix that says the form. Give it one, or add --format csv, jsonl or json.")
    if out is not None and (form or suffix) == "table":
        raise UsageError(f"A table goes to the terminal only. For {out} take --format csv, jsonl or json.")
    return form or suffix or "table"
