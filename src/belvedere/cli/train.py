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
    say_where,
)
from belvedere.errors import UsageError

RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="How to train: quick, standard, best, pretrained, finetuned or article. Without: standard, or pretrained "
        "with --backbone or --weights.",
    ),
]
BackboneName = Annotated[
    str | None, typer.Option("--backbone", help="Pretrained network of timm's to stand on; see belvedere backbones.")
]
WeightsFile = Annotated[
    Path | None, typer.Option("--weights", help="File of its weights; without, downloaded on first use.")
]
TeacherModel = Annotated[Path | None, typer.Option("--teacher", help="Run whose answers are learnt beside the labels.")]
Unlabelled = Annotated[
    Path | None, typer.Option("--unlabelled", help="Folder of photographs for which only the teacher answers.")
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
    unlabelled: Unlabelled = None,
    labels: Labels = None,
    config: Annotated[Path | None, typer.Option(help="TOML file whose values take the place of the recipe's.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the recipe as TOML and end.")] = False,
    out: Out = Path("run"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Plan the training to fit into so many minutes.")] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was cut off.")] = False,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on PHOTOS, measure it, and write a run folder with the model and its report."""
    from belvedere.inference.writers.text import show_evaluation
    from belvedere.runtime.progress import for_stderr

    recipe = recipe or ("pretrained" if backbone or weights else "standard")
    given = {"network": backbone, "weights": weights, "teacher": teacher, "unlabelled": unlabelled}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if print_config:
        print(belvedere.print_recipe(recipe, config, epochs, **changes), end="")  # noqa: T201
        return
    if photos is None:
        raise UsageError("PHOTOS is missing: give a folder of labelled photographs, or a table.")
    run = belvedere.train(
        photos if labels is None else belvedere.read_folder(photos, labels, for_stderr()),
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
        progress=for_stderr(),
        **changes,
    )
    if not run.leads:
        return  # one of the processes that torch's launcher started speaks for all
    if as_json:
        print_json(run.metrics)
    else:
        show_evaluation(console(), run.evaluation)
        say_where(run.folder / "report.html")
