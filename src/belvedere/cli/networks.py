"""The command `networks`."""

import dataclasses
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, command, console, print_json
from belvedere.runtime.terminal import print_error


@command("belvedere networks", "belvedere networks convnext_tiny.in12k_ft_in1k")
def networks(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A network to describe: one of the list, or any pretrained timm model.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List networks, Belvedere's own and pretrained ones of timm."""
    from belvedere.cli.tables import show_network, show_networks

    if name is not None:
        from belvedere.training.networks import describe_network

        spec, info = describe_network(name)
        if as_json:
            print_json(dataclasses.asdict(info) | {"source": spec.source})
        else:
            show_network(console(), info, spec.source)
        return
    listed = belvedere.list_models()
    if as_json:
        print_json({"networks": [dataclasses.asdict(each) for each in listed]})
    else:
        show_networks(console(), listed)
        print_error(
            "M: million parameters; size: image size, pixels; img/s: images per second on one core; top-1: accuracy on "
            "ImageNet. Use one with: belvedere train DATA --network NAME"
        )
