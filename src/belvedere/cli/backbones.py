"""The command `backbones`."""

import dataclasses

import belvedere
from belvedere.cli.app import AsJson, app, console, print_json
from belvedere.runtime.terminal import tell


@app.command()
def backbones(as_json: AsJson = False) -> None:
    """List pretrained networks to stand on, from small and quick to large."""
    from belvedere.cli.tables import show_backbones

    if as_json:
        print_json({"backbones": [dataclasses.asdict(each) for each in belvedere.list_models()]})
    else:
        show_backbones(console(), belvedere.list_models())
        tell(
            "M: million parameters; side in pixels; images a second on two cores. "
            "Take one with: belvedere train PHOTOS --network NAME"
        )
