"""The command `assess`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import (
    AsJson,
    Device,
    Layout,
    ModelPath,
    Overwrite,
    PageHost,
    PagePort,
    Root,
    Threads,
    console,
    image_command,
    print_json,
    print_report_path,
)
from belvedere.errors import UsageError

Images = Annotated[
    Path, typer.Argument(help="Images whose labels may be wrong, as for evaluate; or any, with --unlabeled.")
]
Budget = Annotated[int, typer.Option("--budget", min=2, help="Images to classify. More extend the same sample.")]
Against = Annotated[
    Path | None, typer.Option("--against", help="Another model: its difference in accuracy, on the same images.")
]
Unlabeled = Annotated[bool, typer.Option("--unlabeled", help="DATA has no labels; its folders are no classes.")]
Repeats = Annotated[int, typer.Option("--repeats", min=0, help="Images that a second person classifies as well.")]
Annotations = Annotated[
    Path | None,
    typer.Option("--annotations", help="File for the answers. Default: OUT.annotations.jsonl.", show_default=False),
]
Page = Annotated[
    bool, typer.Option("--page/--no-page", help="Serve the page, or write the report of the answers so far.")
]
Annotator = Annotated[
    str | None,
    typer.Option("--annotator", help="Your name, for the answers. Default: the user name.", show_default=False),
]


@image_command(
    "belvedere assess run images",
    "belvedere assess run new-images --unlabeled --against corrected",
)
def assess(
    model: ModelPath,
    data: Images,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("assessment"),
    budget: Budget = 100,
    against: Against = None,
    unlabeled: Unlabeled = False,
    repeats: Repeats = 0,
    annotations: Annotations = None,
    page: Page = True,
    root: Root = None,
    layout: Layout = "auto",
    host: PageHost = "127.0.0.1",
    port: PagePort = 8642,
    annotator: Annotator = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the sample.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the accuracy on true labels.

    You classify about 100 images, the uncertain ones more often, on a local page without label and prediction. Ctrl-C
    ends it and writes the report; the same command continues.
    """
    from belvedere.cli.progress import CommandProgress
    from belvedere.cli.tables import show_assessment

    has_options = root is not None or layout != "auto"
    if unlabeled and has_options:
        raise UsageError("--root and --layout are for labels: leave them or --unlabeled out.")
    progress = CommandProgress("assess")
    result = belvedere.assess(
        belvedere.load_model(model, device=device, threads=threads),
        belvedere.load_dataset(data, progress=progress, root=root, layout=layout) if has_options else data,
        out=out,
        budget=budget,
        against=against,
        unlabeled=unlabeled,
        repeats=repeats,
        annotations=annotations,
        page=page,
        seed=seed,
        overwrite=overwrite,
        host=host,
        port=port,
        annotator=annotator,
        progress=progress,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        show_assessment(console(), result)
    print_report_path(out / "report.html")
