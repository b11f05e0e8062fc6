"""The command `show`."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, command, console, print_json
from belvedere.errors import UsageError


@command("belvedere show run", "belvedere show resnet18.a1_in1k --classes 10")
def show(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model.onnx, a run folder, hf://user/name, or the name of a network. Default: the bundled model."
        ),
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes for the name of a network.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Show how a model was trained, and its layers.

    Layers have output shapes and numbers of parameters.
    """
    from belvedere.cli.tables import show_card, show_layers
    from belvedere.inference.model_paths import closest_path, explain_missing, is_model_path
    from belvedere.runtime.hub import is_hub_address

    if model is None or is_hub_address(model) or Path(model).exists():
        card = (belvedere.load_model() if model is None else belvedere.load_model(model)).card
        if as_json:
            print_json(dataclasses.asdict(card))
        else:
            show_layers(console(), card.layers)
            show_card(console(), card)
        return
    is_partial = Path(f"{model}.partial").is_dir()
    looks_like_path = any(each in model for each in ("/", os.sep, "."))
    if is_partial or looks_like_path or is_model_path(closest_path(Path(model)) or Path()):
        raise UsageError(f"{explain_missing(Path(model))} Give a model.onnx, a run folder or the name of a network.")
    described = belvedere.describe_architecture(model, classes)
    network = described.spec
    if as_json:
        print_json(described.to_dict())
    else:
        show_layers(console(), described.layers)
        console().print(f"{network.name}: {network.summary}. Source: {network.source}. License: {network.license}.")
