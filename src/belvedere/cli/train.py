"""The command `train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

import belvedere
from belvedere.cli.app import (
    AsJson,
    Labels,
    Out,
    Overwrite,
    Seed,
    Spreadsheet,
    app,
    console,
    print_json,
    print_report_path,
)
from belvedere.errors import UsageError

RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="How to train: quick, standard, best, probe, finetune or article. Without: standard, or probe "
        "with --network or --weights.",
    ),
]
BackboneName = Annotated[
    str | None, typer.Option("--network", help="Pretrained network of timm's to stand on; see belvedere backbones.")
]
WeightsFile = Annotated[
    Path | None, typer.Option("--weights", help="File of its weights; without, downloaded on first use.")
]
TeacherModel = Annotated[Path | None, typer.Option("--teacher", help="Run whose answers are learnt beside the labels.")]
Unlabeled = Annotated[
    Path | None, typer.Option("--unlabeled", help="Folder of photographs for which only the teacher answers.")
]


@app.command()
def train(
    photos: Annotated[
        Path | None, typer.Argument(help="Folder of class folders, or with train and test; or a table.")
    ] = None,
    recipe: RecipeName = None,
    backbone: BackboneName = None,
    weights: WeightsFile = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    teacher: TeacherModel = None,
    unlabeled: Unlabeled = None,
    labels: Labels = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose values take the place of the recipe's.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the recipe as TOML and end.")] = False,
    out: Out = Path("run"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Plan the training to fit into so many minutes.")
    ] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was cut off.")] = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on PHOTOS, measure it, and write a run folder with the model and its report."""
    from belvedere.inference.writers.text import show_evaluation
    from belvedere.runtime.progress import console_progress

    recipe = recipe or ("probe" if backbone or weights else "standard")
    given = {"network": backbone, "weights": weights, "teacher": teacher, "unlabeled": unlabeled}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if print_config:
        print(belvedere.recipe_to_toml(recipe, config, epochs, **changes), end="")  # noqa: T201
        return
    if photos is None:
        raise UsageError("PHOTOS is missing: give a folder of labeled photographs, or a table.")
    run = belvedere.train(
        photos if labels is None else belvedere.load_dataset(photos, labels, console_progress()),
        out=out,
        recipe=recipe,
        config=config,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        device=device,
        overwrite=overwrite,
        resume=resume,
        offline=offline,
        spreadsheet=spreadsheet,
        progress=console_progress(),
        **changes,
    )
    if not run.leads:
        return  # one of the processes that torch's launcher started speaks for all
    if as_json:
        print_json(run.metrics)
    else:
        show_evaluation(console(), run.evaluation)
        print_report_path(run.folder / "report.html")
