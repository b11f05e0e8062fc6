"""Commands for mending labels: review, journal and compare. Arguments and printing only."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.edge import AsJson, Overwrite, Spreadsheet, app, console, print_json, say_where
from belvedere.errors import UsageError
from belvedere.terminal import tell


@app.command()
def review(
    run_or_audit: Annotated[Path, typer.Argument(help="Folder that train, evaluate --out or audit wrote.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            help="The data set, for neighbors and for photographs that moved; else the run's.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="For heat-maps and neighbors; else the run's or the audit's.", show_default=False),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            help="File for the decisions; else the one RUN was trained with, or RUN.journal.jsonl.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; any but this machine's needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 for any that is free.")] = 8642,
    who: Annotated[
        str | None, typer.Option("--who", help="Your name, for the journal; else the user's.", show_default=False)
    ] = None,
) -> None:
    """Go through doubtful labels, duplicates and leaks on a local web page, with the keyboard."""
    from belvedere.progress import for_stderr

    done = belvedere.run_review(
        run_or_audit, photos=photos, model=model, journal=journal, host=host, port=port, who=who, progress=for_stderr()
    )
    tell(f"{done.recorded:,} decisions in {done.journal}, {done.left:,} doubts left.")
    tell(f"Train with them: belvedere train PHOTOS --labels {shlex.quote(str(done.journal))}")


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
    from belvedere.corrected import check_place, export_decisions, export_folder, export_table, summarise
    from belvedere.progress import for_stderr

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
        progress = for_stderr()
        dataset = belvedere.read_folder(photos, file, progress)
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
    from belvedere.tables import plain_text

    terminal = console()
    terminal.print(f"{told_of['hold']} of {told_of['lines']} decisions hold, on {told_of['photographs']} photographs")
    for title in ("actions", "people"):
        counts = told_of[title]
        if isinstance(counts, dict) and counts:
            counted = ", ".join(f"{name} {count}" for name, count in counts.items())
            terminal.print(plain_text(f"{title}: {counted}"))
    if told_of["damaged_lines"]:
        tell(f"Torn or damaged and left out: lines {told_of['damaged_lines']}")


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder that train or evaluate --out wrote: before.")],
    run_b: Annotated[Path, typer.Argument(help="The other one: now.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a page with pictures, and JSON.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare RUN_A and RUN_B on the same photographs: accuracy, each class, and which pictures changed sides."""
    from belvedere.comparing.page import judge, table_rows, write_comparison
    from belvedere.comparing.runs import to_json
    from belvedere.output_folder import check_free
    from belvedere.progress import for_stderr
    from belvedere.tables import plain_table, plain_text

    progress = for_stderr()
    if out is not None:
        check_free(out, overwrite=overwrite, inputs=(run_a, run_b))
    comparison = belvedere.compare(run_a, run_b, progress=progress)
    progress.say_notes(comparison.notes)
    page = write_comparison(out, comparison, inputs=(run_a, run_b), overwrite=overwrite) if out is not None else None
    if as_json:
        print_json(to_json(comparison))
    else:
        table = plain_table()
        table.add_column("class", overflow="fold")
        for title in ("before", "now", "change", "95% interval"):
            table.add_column(title, justify="right")
        for name, *cells in table_rows(comparison):
            table.add_row(plain_text(name), *cells)
        console().print(table)
        console().print(judge(comparison))
    if page is not None:
        say_where(page)
    elif not as_json:
        tell("Add --out FOLDER for a page with the pictures that changed sides.")
