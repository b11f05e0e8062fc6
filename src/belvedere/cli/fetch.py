"""The command `fetch`."""

from pathlib import Path
from typing import Annotated

import typer

import belvedere
from belvedere.cli.app import AsJson, Overwrite, command, print_json
from belvedere.runtime.terminal import print_line


@command("belvedere fetch intel-scenes", "belvedere fetch https://example.com/animals.zip --out animals")
def fetch(
    source: Annotated[
        str,
        typer.Argument(help="intel-scenes, an https:// URL, hf://datasets/OWNER/NAME, kaggle://OWNER/NAME, or a file."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the images. Default: the name of the dataset.", show_default=False),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="File of a known dataset that you have downloaded.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep the downloaded files in the cache.")
    ] = False,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", help="Largest size of the download, and of its files unpacked.")
    ] = 20_000_000_000,
    as_json: AsJson = False,
) -> None:
    """Download a dataset into a folder that the other commands read."""
    from belvedere.cli.progress import CommandProgress

    fetched = belvedere.fetch(
        source,
        out,
        archive=archive,
        overwrite=overwrite,
        keep_archive=keep_archive,
        max_bytes=max_bytes,
        progress=CommandProgress("fetch"),
    )
    if as_json:
        print_json(fetched.to_dict())
        return
    print_line(f"{fetched.title}: {sum(fetched.num_images.values()):,} images in {fetched.folder}")
    for name, number in sorted(fetched.num_images.items()):
        print_line(f"  {name}: {number:,}")
    if (compared := fetched.comparison) is not None:
        print_line(f"The same as in the manifest: {compared.num_same:,} of {compared.num_listed:,} images")
        if compared.unlisted:
            print_line(f"Not in the manifest, which does not list them: {len(compared.unlisted):,} images")
    print_line(f"Source: {fetched.source}")
    print_line(f"License: {fetched.license}" + (f" ({fetched.page})" if fetched.page else ""))
