"""The command `journal`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Overwrite, Spreadsheet, app, console, print_json
from belvedere.errors import UsageError
from belvedere.runtime.terminal import tell


@app.command()
def journal(
    file: Annotated[Path, typer.Argument(metavar="JOURNAL", help="What review wrote.")],
    photos: Annotated[Path | None, typer.Argument(help="The data set that shall be corrected.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="NAME.csv for a table, else a folder (with PHOTOS only).", show_default=False),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the photographs instead of linking to them.")] = False,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Count what JOURNAL holds, write it as CSV, or write PHOTOS corrected, as a table or a folder of links."""
    from belvedere.data.export import check_place, export_decisions, export_folder, export_table, summarise
    from belvedere.runtime.progress import console_progress

    is_table = out is not None and out.suffix.lower() == ".csv"
    if photos is not None and out is None:
        raise UsageError("Say with --out where the corrected photographs go: NAME.csv for a table, or a folder.")
    if photos is None and out is not None and not is_table:
        raise UsageError(f"Decisions go into a file that ends in .csv. Received: {out}. For a folder, add PHOTOS.")
    if spreadsheet and not is_table:
        raise UsageError("--spreadsheet is for a table: add --out NAME.csv, or leave it out.")
    told_of = summarise(file)
    if out is not None:
        check_place(out, [file] if photos is None else [file, photos], is_table=is_table, overwrite=overwrite)
    if photos is not None and out is not None:
        progress = console_progress()
        dataset = belvedere.load_dataset(photos, file, progress)
        progress.say_notes(dataset.notes)
        if is_table:
            export_table(dataset, out, overwrite=overwrite, spreadsheet=spreadsheet)
        else:
            export_folder(dataset, out, copy=copy, overwrite=overwrite)
    elif out is not None:
        export_decisions(file, out, overwrite=overwrite, spreadsheet=spreadsheet)
    if as_json:
        print_json(told_of)
    elif out is not None:
        tell(f"Written: {out}")
    else:
        _print_summary(told_of)


def _print_summary(told_of: dict[str, object]) -> None:
    from belvedere.inference.writers.text import plain_text

    terminal = console()
    terminal.print(f"{told_of['hold']} of {told_of['lines']} decisions hold, on {told_of['photographs']} photographs")
    for title in ("actions", "people"):
        counts = told_of[title]
        if isinstance(counts, dict) and counts:
            counted = ", ".join(f"{name} {count}" for name, count in counts.items())
            terminal.print(plain_text(f"{title}: {counted}"))
    if told_of["damaged_lines"]:
        tell(f"Torn or damaged and left out: lines {told_of['damaged_lines']}")
