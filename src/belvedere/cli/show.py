"""The command `show`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, command, console, print_json
from belvedere.errors import UsageError


@command()
def show(
    model: Annotated[
        str | None,
        typer.Argument(help="A model.onnx, a run folder, or the name of a network. Default: the bundled model."),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes for the name of a network.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Show MODEL's layers with output shapes and parameters, and how it was trained."""
    from belvedere.cli.tables import show_card, show_layers
    from belvedere.inference.model_paths import closest_path, explain_missing, is_model_path

    if model is None or Path(model).exists():
        card = (belvedere.load_model() if model is None else belvedere.load_model(model)).card
        if as_json:
            print_json(dataclasses.asdict(card))
        else:
            show_layers(console(), card.layers)
            show_card(console(), card)
        return
    is_partial = Path(f"{model}.partial").is_dir()
    if is_partial or "/" in model or "." in model or is_model_path(closest_path(Path(model)) or Path()):
        raise UsageError(f"{explain_missing(Path(model))} Give a model.onnx, a run folder or the name of a network.")
    network, layers = belvedere.describe_architecture(model, classes)
    if as_json:
        print_json({"network": network.name, "layers": [dataclasses.asdict(layer) for layer in layers]})
    else:
        show_layers(console(), layers)
        console().print(f"{network.name}: {network.summary}. Source: {network.source}. License: {network.license}.")
