"""The command `show`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, app, console, print_json
from belvedere.errors import UsageError


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
    from belvedere.cli.tables import show_card, show_layers
    from belvedere.inference.model_paths import explain_missing, find_nearest, is_model_path

    if model is None or Path(model).exists():
        card = (belvedere.load() if model is None else belvedere.load(model)).card
        if as_json:
            print_json(dataclasses.asdict(card))
        else:
            show_layers(console(), card.layers)
            show_card(console(), card)
        return
    partial = Path(f"{model}.partial").is_dir()
    if partial or "/" in model or "." in model or is_model_path(find_nearest(Path(model)) or Path()):
        raise UsageError(f"{explain_missing(Path(model))} Give a model.onnx, a run folder or a network's name.")
    entry, layers = belvedere.describe_architecture(model, classes)
    if as_json:
        print_json({"network": entry.name, "layers": [dataclasses.asdict(layer) for layer in layers]})
    else:
        show_layers(console(), layers)
        console().print(f"{entry.name}: {entry.summary}. Source: {entry.source}. License: {entry.license}.")
