"""The command `networks`."""

import dataclasses

import belvedere
from belvedere.cli.app import AsJson, command, console, print_json
from belvedere.runtime.terminal import print_error


@command()
def networks(as_json: AsJson = False) -> None:
    """List networks: Belvedere's own, and recommended pretrained ones of timm, from small to large."""
    from belvedere.cli.tables import show_networks

    listed = belvedere.list_models()
    if as_json:
        print_json({"networks": [dataclasses.asdict(each) for each in listed]})
    else:
        show_networks(console(), listed)
        print_error(
            "M: million parameters; size: image size, pixels; images/s: on two cores. "
            "Use one with: belvedere train DATA --network NAME"
        )
