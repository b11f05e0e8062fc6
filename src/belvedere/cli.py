"""The command line: arguments and printing only.

Each command is short and calls one function of the house. Answers go to stdout; progress and messages to stderr. What
a user can mend ends in one line and exit code 1 (a failed job) or 2 (a wrong call).
"""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

import belvedere
from belvedere.errors import BelvedereError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="belvedere",
    help="From a folder of labelled photographs to an image classifier you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Arguments = ParamSpec("Arguments")
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of Belvedere's that are there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable answer on stdout.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same result, on a CPU bit for bit.")
]
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
TeacherModel = Annotated[
    Path | None, typer.Option("--teacher", help="Run or model whose answers are learnt beside the labels.")
]
Unlabelled = Annotated[
    Path | None, typer.Option("--unlabelled", help="Folder of photographs for which only the teacher answers.")
]
ModelPath = Annotated[Path, typer.Argument(help="A model.onnx, or the run folder that holds one.")]


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    app()


def _told(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turns what ends a command into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            command(*arguments, **options)
        except BelvedereError as error:
            _tell(" ".join([f"belvedere: {error}", *getattr(error, "__notes__", ())]))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            _tell(" ".join(["belvedere: Ended by Ctrl-C.", *getattr(error, "__notes__", ())]))
            raise typer.Exit(130) from None
        except BrokenPipeError:  # whoever read our output has gone: nothing more to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


@app.callback(invoke_without_command=True)
def _global(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(belvedere.__version__)  # noqa: T201
        raise typer.Exit


@app.command()
@_told
def demo(
    out: Out = Path("belvedere-demo"), seed: Seed = 0, overwrite: Overwrite = False, as_json: AsJson = False
) -> None:
    """Draw a practice set, run the whole job on it and say where the report is (about a minute)."""
    from belvedere.progress import for_stderr
    from belvedere.tables import show_evaluation, show_predictions

    shown = belvedere.run_demo(out, seed=seed, overwrite=overwrite, progress=for_stderr())
    if as_json:
        _print_json({"report": str(shown.report), "fjord": shown.fjord.prediction, **shown.run.metrics})
        return
    console = _console()
    show_evaluation(console, shown.run.evaluation)
    shares = sorted(shown.fjord_shares.items(), key=lambda item: -item[1])
    console.print("\nA fjord, which holds " + ", ".join(f"{name} {share:.0%}" for name, share in shares) + ":")
    show_predictions(console, [shown.fjord], shown.run.evaluation.class_names)
    _say_where(shown.report)


@app.command()
@_told
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
    config: Annotated[Path | None, typer.Option(help="TOML file whose values take the place of the recipe's.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the recipe as TOML and end.")] = False,
    out: Out = Path("run"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Plan the training to fit into so many minutes.")] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was cut off.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on PHOTOS, measure it, and write a run folder with the model and its report."""
    from belvedere.progress import for_stderr
    from belvedere.tables import show_evaluation

    recipe = recipe or ("pretrained" if backbone or weights else "standard")
    given = {"network": backbone, "weights": weights, "teacher": teacher, "unlabelled": unlabelled}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if print_config:
        print(belvedere.print_recipe(recipe, config, epochs, **changes), end="")  # noqa: T201
        return
    if photos is None:
        raise UsageError("PHOTOS is missing: give a folder of labelled photographs, or a table.")
    run = belvedere.train(
        photos,
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
        progress=for_stderr(),
        **changes,
    )
    if not run.leads:
        return  # one of the processes that torch's launcher started speaks for all
    if as_json:
        _print_json(run.metrics)
    else:
        show_evaluation(_console(), run.evaluation)
        _say_where(run.folder / "report.html")


@app.command()
@_told
def evaluate(
    model: ModelPath,
    photos: Annotated[Path, typer.Argument(help="Labelled photographs, as for train; a test part is taken if named.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a report, figures and tables.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure MODEL on PHOTOS: accuracy, confusion, calibration and the surest mistakes."""
    from belvedere.progress import for_stderr
    from belvedere.results import evaluate_into
    from belvedere.tables import show_evaluation

    evaluation, metrics = evaluate_into(model, photos, out, overwrite=overwrite, progress=for_stderr())
    if as_json:
        _print_json(metrics)
        return
    show_evaluation(_console(), evaluation)
    if out is None:
        _tell("Add --out FOLDER for a report with pictures.")
    else:
        _say_where(out / "report.html")


@app.command()
@_told
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            show_default=False,
            help="Pictures, and folders of them; before them a model.onnx or run folder, if not the bundled model.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the answers; its suffix names the format.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="table, csv, jsonl or json.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="PNG with the pictures and their answers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer for IMAGES with MODEL: class probabilities as a table, CSV or JSON lines, and a contact sheet."""
    from belvedere.predict import choose_model, predict_files
    from belvedere.progress import for_stderr

    if as_json and (form or out):
        raise UsageError("--json prints a JSON document on stdout: leave out --format and --out, or leave out --json.")
    form = _choose_form("json" if as_json else form, out)
    model, images = choose_model(images)
    done = predict_files(model, images, form, out=out, sheet=sheet, progress=for_stderr())
    if done.unreadable:
        _tell(f"belvedere: {done.unreadable} of {done.images} files could not be read")
        raise typer.Exit(1)


@app.command()
@_told
def show(
    model: Annotated[
        str | None,
        typer.Argument(help="A model.onnx, a run folder, or the name of a network; without, the bundled model."),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Classes of a network that is given by name.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Show MODEL's layers with their output shapes and parameters, and where it comes from."""
    from belvedere.tables import show_card, show_layers

    if model is None or Path(model).exists():
        card = (belvedere.load() if model is None else belvedere.load(model)).card
        if as_json:
            _print_json(dataclasses.asdict(card))
        else:
            show_layers(_console(), card.layers)
            show_card(_console(), card)
        return
    if "/" in model or "." in model:
        raise UsageError(f"There is no file or folder {model}. Give a model.onnx, a run folder or a network's name.")
    entry, layers = belvedere.describe_network(model, classes)
    if as_json:
        _print_json({"network": entry.name, "layers": [dataclasses.asdict(layer) for layer in layers]})
    else:
        show_layers(_console(), layers)
        _console().print(f"{entry.name}: {entry.summary}. Source: {entry.source}. Licence: {entry.licence}.")


@app.command()
@_told
def backbones(as_json: AsJson = False) -> None:
    """List pretrained networks to stand on, from small and quick to large."""
    from belvedere.tables import show_backbones

    if as_json:
        _print_json({"backbones": [dataclasses.asdict(each) for each in belvedere.list_backbones()]})
    else:
        show_backbones(_console(), belvedere.list_backbones())
        _tell(
            "M: million parameters; side in pixels; images a second on two cores. "
            "Take one with: belvedere train PHOTOS --backbone NAME"
        )


@app.command()
@_told
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False, as_json: AsJson = False
) -> None:
    """List what is kept on disk of photographs, decoded pictures and embeddings, or delete it."""
    from belvedere.cache import cache_folder, clear_cache, list_stores
    from belvedere.tables import show_stores

    freed = clear_cache() if clear else 0
    stores = list_stores()
    if as_json:
        rows = [dataclasses.asdict(store) | {"folder": str(store.folder)} for store in stores]
        _print_json({"folder": str(cache_folder()), "stores": rows, "freed_bytes": freed})
    elif clear:
        _tell(f"Freed {freed / 1e6:,.0f} MB in {cache_folder()}.")
    else:
        show_stores(_console(), stores)
        _tell(f"The cache is in {cache_folder()}. Empty it with: belvedere cache --clear")


def _choose_form(form: str | None, out: Path | None) -> str:
    """The form of the answers: the one named, else by the suffix of the file, else a table."""
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    if out is not None and form is None and not suffix:
        raise UsageError(f"{out} has no suffix that says the form. Give it one, or add --format csv, jsonl or json.")
    if out is not None and (form or suffix) == "table":
        raise UsageError(f"A table goes to the terminal only. For {out} take --format csv, jsonl or json.")
    return form or suffix or "table"


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _print_json(content: Mapping[str, object]) -> None:
    print(json.dumps(content, indent=2))  # noqa: T201 - ASCII, which any terminal and pipe takes


def _tell(message: str) -> None:
    print(message, file=sys.stderr)  # noqa: T201


def _say_where(report: Path) -> None:
    _tell(f"Report: {report}")
