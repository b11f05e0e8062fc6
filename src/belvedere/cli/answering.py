"""Commands that put a model to work: predict and export. Arguments and printing only."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from belvedere.cli.edge import AcceptRate, AsJson, app, tell, told
from belvedere.errors import UsageError

STDIN = Path("-")


@app.command()
@told
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            show_default=False,
            help="Pictures and folders of them, or - for names on stdin; before them a model.onnx or run folder, if "
            "not the bundled model.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers; its suffix names the format.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="table, csv, jsonl, json or parquet.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was cut off (csv, jsonl, parquet).")
    ] = False,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Names on stdin end with NUL, as of find -print0.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="PNG with the pictures and their answers.")] = None,
    heatmaps: Annotated[
        Path | None, typer.Option("--heatmaps", help="Folder for pictures of where the evidence for each tag is.")
    ] = None,
    accept_rate: AcceptRate = None,
    as_json: AsJson = False,
) -> None:
    """Answer for IMAGES with MODEL: class probabilities, tags, none of these; as table, CSV, JSON lines or Parquet."""
    from belvedere.predict import choose_model, predict_files, read_names
    from belvedere.progress import for_stderr

    if as_json and (form or out):
        raise UsageError("--json prints a JSON document on stdout: leave out --format and --out, or leave out --json.")
    form = _choose_form("json" if as_json else form, out)
    model, named = choose_model(images, accept_rate)
    if STDIN in named and named != [STDIN]:
        raise UsageError("- reads the names of all pictures from stdin: give no others beside it.")
    sources = read_names(sys.stdin.buffer, b"\0" if null else b"\n") if named == [STDIN] else named
    done = predict_files(
        model, sources, form, out=out, sheet=sheet, heatmaps=heatmaps, resume=resume, progress=for_stderr()
    )
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
