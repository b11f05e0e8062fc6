"""The command `compare`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Overwrite, app, console, print_json, print_report_path
from belvedere.runtime.terminal import tell


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder that train or evaluate --out wrote: before.")],
    run_b: Annotated[Path, typer.Argument(help="The other one: now.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a page with pictures, and JSON.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare RUN_A and RUN_B on the same photographs: accuracy, each class, and which pictures changed sides."""
    from belvedere.evaluation.compare import to_json
    from belvedere.evaluation.report.comparison import judge, table_rows, write_comparison
    from belvedere.inference.writers.text import plain_table, plain_text
    from belvedere.runtime.output_folder import check_output_folder
    from belvedere.runtime.progress import console_progress

    progress = console_progress()
    if out is not None:
        check_output_folder(out, overwrite=overwrite, inputs=(run_a, run_b))
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
        print_report_path(page)
    elif not as_json:
        tell("Add --out FOLDER for a page with the pictures that changed sides.")
