"""The command `push`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, command, print_json
from belvedere.runtime.terminal import print_error, print_line


@command("belvedere push hub anna/birds --dry-run", "belvedere push hub anna/birds --private")
def push(
    folder: Annotated[Path, typer.Argument(help="Folder that export wrote with --format hub.")],
    repository: Annotated[str, typer.Argument(help="Name on the Hugging Face Hub: user/name.")],
    private: Annotated[bool, typer.Option("--private", help="Only the owner may see the repository.")] = False,
    message: Annotated[str, typer.Option("--message", help="Message of the commit.")] = "Upload a model of Belvedere",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and upload nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload an exported model to the Hugging Face Hub.

    Uploads FOLDER as REPOSITORY, with the token of HF_TOKEN or of hf auth login.
    """
    from belvedere.cli.progress import CommandProgress

    progress = CommandProgress("push")
    result = belvedere.push(folder, repository, private=private, message=message, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(asdict(result))
        return
    for name, size in result.files:
        print_line(f"{size:>12,}  {name}")
    if result.url is None:
        print_error("Nothing was uploaded. Leave out --dry-run to upload these files.")
    else:
        print_line(result.url)
