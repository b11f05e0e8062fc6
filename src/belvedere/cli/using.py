"""Commands that show what is there: show, backbones and cache. Arguments and printing only."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.edge import AsJson, app, console, print_json
from belvedere.errors import UsageError
from belvedere.terminal import tell


@app.command()
def show(
    model: Annotated[
        str | None,
        typer.Argument(help="A model.onnx, a run folder, or the name of a network; without, the bundled model."),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Classes of a network that is given by name.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Show MODEL's layers with their output shapes and parameters, and where it comes from."""
    from belvedere.listings import show_card, show_layers
    from belvedere.model_paths import explain_missing, find_nearest, takes_model

    if model is None or Path(model).exists():
        card = (belvedere.load() if model is None else belvedere.load(model)).card
        if as_json:
            print_json(dataclasses.asdict(card))
        else:
            show_layers(console(), card.layers)
            show_card(console(), card)
        return
    partial = Path(f"{model}.partial").is_dir()
    if partial or "/" in model or "." in model or takes_model(find_nearest(Path(model)) or Path()):
        raise UsageError(f"{explain_missing(Path(model))} Give a model.onnx, a run folder or a network's name.")
    entry, layers = belvedere.describe_network(model, classes)
    if as_json:
        print_json({"network": entry.name, "layers": [dataclasses.asdict(layer) for layer in layers]})
    else:
        show_layers(console(), layers)
        console().print(f"{entry.name}: {entry.summary}. Source: {entry.source}. Licence: {entry.licence}.")


@app.command()
def backbones(as_json: AsJson = False) -> None:
    """List pretrained networks to stand on, from small and quick to large."""
    from belvedere.listings import show_backbones

    if as_json:
        print_json({"backbones": [dataclasses.asdict(each) for each in belvedere.list_backbones()]})
    else:
        show_backbones(console(), belvedere.list_backbones())
        tell(
            "M: million parameters; side in pixels; images a second on two cores. "
            "Take one with: belvedere train PHOTOS --backbone NAME"
        )


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False, as_json: AsJson = False
) -> None:
    """List what is kept on disk of photographs, decoded pictures and embeddings, or delete it."""
    from belvedere.cache import clear_cache, list_stores
    from belvedere.environment import cache_folder
    from belvedere.listings import show_stores

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
