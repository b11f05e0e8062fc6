"""Commands that use what is there: predict, show, backbones and cache. Arguments and printing only."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.edge import AsJson, app, console, print_json, tell, told
from belvedere.errors import UsageError


@app.command()
@told
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
        tell(f"belvedere: {done.unreadable} of {done.images} files could not be read")
        raise typer.Exit(1)


@app.command()
@told
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
            print_json(dataclasses.asdict(card))
        else:
            show_layers(console(), card.layers)
            show_card(console(), card)
        return
    if "/" in model or "." in model:
        raise UsageError(f"There is no file or folder {model}. Give a model.onnx, a run folder or a network's name.")
    entry, layers = belvedere.describe_network(model, classes)
    if as_json:
        print_json({"network": entry.name, "layers": [dataclasses.asdict(layer) for layer in layers]})
    else:
        show_layers(console(), layers)
        console().print(f"{entry.name}: {entry.summary}. Source: {entry.source}. Licence: {entry.licence}.")


@app.command()
@told
def backbones(as_json: AsJson = False) -> None:
    """List pretrained networks to stand on, from small and quick to large."""
    from belvedere.tables import show_backbones

    if as_json:
        print_json({"backbones": [dataclasses.asdict(each) for each in belvedere.list_backbones()]})
    else:
        show_backbones(console(), belvedere.list_backbones())
        tell(
            "M: million parameters; side in pixels; images a second on two cores. "
            "Take one with: belvedere train PHOTOS --backbone NAME"
        )


@app.command()
@told
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
        print_json({"folder": str(cache_folder()), "stores": rows, "freed_bytes": freed})
    elif clear:
        tell(f"Freed {freed / 1e6:,.0f} MB in {cache_folder()}.")
    else:
        show_stores(console(), stores)
        tell(f"The cache is in {cache_folder()}. Empty it with: belvedere cache --clear")


def _choose_form(form: str | None, out: Path | None) -> str:
    """The form of the answers: the one named, else by the suffix of the file, else a table."""
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    if out is not None and form is None and not suffix:
        raise UsageError(f"{out} has no suffix that says the form. Give it one, or add --format csv, jsonl or json.")
    if out is not None and (form or suffix) == "table":
        raise UsageError(f"A table goes to the terminal only. For {out} take --format csv, jsonl or json.")
    return form or suffix or "table"
