"""The command `corrections`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Layout, Overwrite, Root, Spreadsheet, command, console, print_json
from belvedere.errors import UsageError
from belvedere.runtime.terminal import print_error


@command(
    "belvedere corrections audit.corrections.jsonl",
    "belvedere corrections audit.corrections.jsonl images --out corrected-images",
)
def corrections(
    file: Annotated[Path, typer.Argument(metavar="CORRECTIONS", help="File of corrections from belvedere review.")],
    data: Annotated[Path | None, typer.Argument(help="Dataset to correct.")] = None,
    root: Root = None,
    layout: Layout = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="NAME.csv for a table; with DATA, also a folder.", show_default=False),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")] = False,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Count corrections of labels, or write the corrected dataset.

    Writes CORRECTIONS as CSV, or DATA as a table or a folder of links.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_corrections
    from belvedere.data.export import check_output, export_decisions, export_folder, export_table, summarize

    is_table = out is not None and out.suffix.lower() == ".csv"
    if data is not None and out is None:
        raise UsageError("--out is missing: give NAME.csv for a table of the corrected images, or a folder.")
    if data is None and out is not None and not is_table:
        raise UsageError(f"Corrections are written to a .csv file. Received: {out}. For a folder, add DATA.")
    if spreadsheet and not is_table:
        raise UsageError("--spreadsheet is for a table: add --out NAME.csv, or leave it out.")
    summary = summarize(file)
    if out is not None:
        check_output(out, [file] if data is None else [file, data], is_table=is_table, overwrite=overwrite)
    if data is not None and out is not None:
        progress = CommandProgress("corrections")
        dataset = belvedere.load_dataset(data, file, progress, root=root, layout=layout)
        progress.log_warnings(dataset.warnings)
        if is_table:
            export_table(dataset, out, overwrite=overwrite, spreadsheet=spreadsheet)
        else:
            export_folder(dataset, out, copy=copy, overwrite=overwrite)
    elif out is not None:
        export_decisions(file, out, overwrite=overwrite, spreadsheet=spreadsheet)
    if as_json:
        print_json(summary)
    elif out is not None:
        print_error(f"Written: {out}")
    else:
        show_corrections(console(), summary)
