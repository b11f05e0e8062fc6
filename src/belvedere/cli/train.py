"""The command `train`."""

from collections.abc import Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import belvedere
from belvedere.cli.app import (
    DATA_HELP,
    DEVICES,
    AsJson,
    Code,
    Corrections,
    GroupBy,
    Layout,
    NetworkName,
    Out,
    Overwrite,
    Root,
    Seed,
    Spreadsheet,
    WeightsFile,
    console,
    image_command,
    print_json,
    print_report_path,
    run_code,
)
from belvedere.errors import UsageError, find_named

if TYPE_CHECKING:
    from belvedere.data.dataset import Dataset
    from belvedere.training.recipes import Recipe
    from belvedere.training.run import Run

RECIPE_NAMES = ("quick", "standard", "best", "probe", "finetune", "article")  # for completion, without an import
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="quick, standard, best, probe, finetune, article, or a registered one. Default: standard, or probe with "
        "--weights or a pretrained --network.",
        show_default=False,
        autocompletion=lambda: RECIPE_NAMES,
    ),
]
TeacherRun = Annotated[Path | None, typer.Option("--teacher", help="Run folder to distill from.", show_default=False)]
UnlabeledFolder = Annotated[
    Path | None, typer.Option("--unlabeled", help="Folder of images for distillation.", show_default=False)
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the recipe, such as ema_decay=0.99; repeatable.",
        show_default=False,
    ),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME[=URI]",
        help="Log to tensorboard, mlflow, wandb or trackio; repeatable.",
        show_default=False,
    ),
]
MaxMinutes = Annotated[
    float | None, typer.Option("--max-minutes", help="Fit the training into this time.", show_default=False)
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        "--start-from", help="Run folder, or hf://user/name, whose weights to start from.", show_default=False
    ),
]
Folds = Annotated[int | None, typer.Option("--folds", help="Cross-validate with this many folds.", show_default=False)]


@image_command("belvedere train images", "belvedere train images --recipe probe --corrections audit.corrections.jsonl")
def train(
    data: Annotated[Path | None, typer.Argument(help=DATA_HELP)] = None,
    root: Root = None,
    layout: Layout = "auto",
    recipe: RecipeName = None,
    network: NetworkName = None,
    weights: WeightsFile = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    teacher: TeacherRun = None,
    unlabeled: UnlabeledFolder = None,
    start_from: StartFrom = None,
    folds: Folds = None,
    group_by: GroupBy = None,
    corrections: Corrections = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with keys of the recipe.", show_default=False)] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the recipe as TOML and exit.")] = False,
    out: Out = Path("run"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.", show_default=False)] = None,
    assignments: Assignments = None,
    max_minutes: MaxMinutes = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", autocompletion=lambda: DEVICES)] = "auto",
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
    spreadsheet: Spreadsheet = False,
    track: Trackers = None,
    code: Code = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier and evaluate it.

    Writes a run folder with the model and a report.
    """
    from belvedere.cli.progress import StageProgress
    from belvedere.data.groups import group_column

    run_code(code)
    progress = StageProgress()
    recipe = recipe or _default_recipe(network, weights, start_from)
    given = {"epochs": epochs, "network": network, "weights": weights, "teacher": teacher, "unlabeled": unlabeled}
    changes = _parse_assignments(assignments or (), given)
    epochs = changes.pop("epochs", None)  # by an argument, which unsets `min_steps`
    if print_config:
        chosen = recipe if start_from is None or recipe else _recipe_of(start_from, offline)
        print(belvedere.recipe_to_toml(chosen or "standard", config, epochs, **changes), end="")  # noqa: T201
        return
    if data is None:
        raise UsageError("DATA is missing: give a folder of labeled images, or a table.")
    dataset: Path | Dataset = data
    if corrections is not None or root is not None or layout != "auto":
        column = group_column(group_by)
        dataset = belvedere.load_dataset(data, corrections, progress, root=root, layout=layout, group_column=column)
    options: dict[str, Any] = {"max_minutes": max_minutes, "seed": seed, "device": device, "offline": offline}
    options |= {"overwrite": overwrite, "resume": resume, "spreadsheet": spreadsheet, "track": track or ()}
    options |= {"start_from": start_from, "folds": folds, "group_by": group_by, "progress": progress}
    run = belvedere.train(dataset, out=out, recipe=recipe, config=config, epochs=epochs, **options, **changes)
    if run.is_main_process:  # one of several processes prints the result
        _print_run(run, as_json)


def _print_run(run: "Run", as_json: bool) -> None:
    from belvedere.cli.tables import show_evaluation

    if as_json:
        print_json(run.metrics)
    else:
        show_evaluation(console(), run.evaluation)
        print_report_path(run.folder / "report.html")


def _recipe_of(run: Path, offline: bool) -> "Recipe":
    from belvedere.training.start_from import read_start, recipe_of

    return recipe_of(read_start(run, offline=offline))


def _default_recipe(network: str | None, weights: Path | None, start_from: Path | None) -> str | None:
    """Return the recipe for a network: `probe` if it is pretrained; None for that of the run to start from."""
    if start_from is not None:
        return None
    if weights is not None:
        return "probe"
    if network is None:
        return "standard"
    from belvedere.training.networks import NETWORKS

    return "standard" if network in NETWORKS else "probe"


def _parse_assignments(assignments: Iterable[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parse KEY=VALUE, where a value that is not TOML is a string; options that are given override them."""
    import tomllib

    values = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"--set needs KEY=VALUE. Received: {text!r}.")
        try:
            parsed = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            parsed = {}
        values[key.strip()] = parsed["value"] if len(parsed) == 1 else value.strip()
    if values:
        _check_keys(values)
    return values | {key: value for key, value in given.items() if value is not None}


def _check_keys(keys: Iterable[str]) -> None:
    """Refuse keys that no recipe has, among them arguments of the command."""
    from belvedere.training.recipe_config import FIELDS

    arguments = signature(train).parameters
    for key in keys:
        if key in arguments and key not in FIELDS:
            raise UsageError(f"--set is for keys of the recipe. Received: {key!r}. Give `{key}` instead.")
        find_named("recipe key", key, FIELDS)
