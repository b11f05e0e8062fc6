"""The command `cache`."""

import dataclasses
from typing import Annotated

import typer

from belvedere.cli.app import AsJson, command, console, print_json
from belvedere.runtime.terminal import print_error


@command("belvedere cache", "belvedere cache --clear")
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False, as_json: AsJson = False
) -> None:
    """List or delete what is cached on disk.

    These are decoded images, embeddings and downloads.
    Pretrained weights are in Hugging Face's cache, which `hf cache` lists.
    """
    from belvedere.cli.tables import show_stores
    from belvedere.data.array_cache import clear_cache, list_caches
    from belvedere.runtime.environment import cache_folder

    freed = clear_cache() if clear else 0
    stores = list_caches()
    if as_json:
        rows = [dataclasses.asdict(store) | {"folder": str(store.folder)} for store in stores]
        print_json({"folder": str(cache_folder()), "caches": rows, "freed_bytes": freed})
    elif clear:
        print_error(f"Freed {freed / 1e6:,.0f} MB in {cache_folder()}.")
    else:
        show_stores(console(), stores)
        print_error(f"The cache is in {cache_folder()}. Empty it with: belvedere cache --clear")
