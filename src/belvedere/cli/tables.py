"""Layers, cards, stores and backbones as tables for a terminal.

Knows how much of each fits; does not know where they come from.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from belvedere.inference.writers.text import plain_table, plain_text
from belvedere.types.data import StoreFigures
from belvedere.types.model import CuratedBackbone, Layer, ModelCard

if TYPE_CHECKING:  # rich is loaded by those who print a table
    from rich.console import Console


def show_layers(console: "Console", layers: Sequence[Layer]) -> None:
    """Prints a network's layer table, and its parameters below."""
    table = plain_table()
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        table.add_row(plain_text(layer.name), plain_text(layer.kind), shape, f"{layer.parameters:,}")
    console.print(table)
    total = sum(layer.parameters for layer in layers)
    fixed = total - sum(layer.trainable for layer in layers)
    console.print(f"{total:,} parameters, {fixed:,} of which do not train")


def show_stores(console: "Console", stores: Sequence[StoreFigures]) -> None:
    """Prints what the cache holds."""
    table = plain_table()
    table.add_column("kind")
    table.add_column("made by", overflow="fold")
    for title in ("images", "MB", "last used"):
        table.add_column(title, justify="right", no_wrap=True)
    for store in stores:
        used = datetime.fromtimestamp(store.used).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(
            store.kind,
            plain_text(store.rule),
            f"{store.images:,}" if store.images else "-",
            f"{store.size_bytes / 1e6:,.0f}",
            used,
        )
    console.print(table)


def show_backbones(console: "Console", backbones: Sequence[CuratedBackbone]) -> None:
    """Prints the list of pretrained networks."""
    table = plain_table()
    table.add_column("backbone", no_wrap=True)
    for title in ("M", "side", "images/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("license", no_wrap=True)
    for each in backbones:
        figures = (f"{each.parameters_millions:.1f}", f"{each.side}", f"{each.images_per_second}")
        table.add_row(f"{each.name}\n  {each.suits}", *figures, each.license)
    console.print(table)


def show_card(console: "Console", card: ModelCard) -> None:
    """Prints what a model file says about itself, apart from its layers."""
    made, size = card.provenance, card.preprocess
    lines = {
        "classes": ", ".join(card.class_names),
        "input": f"{size.height} x {size.width} RGB, fitted by {size.resize!r}",
        "trained": f"{made.created}, by recipe {made.recipe!r}, seed {made.seed}",
        "with": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "on": ", ".join(f"{count:,} {part}" for part, count in made.photographs.items()) + " photographs",
        "epochs": f"{made.epochs} in {made.seconds_train:.0f} s, of which number {made.best_epoch} was kept"
        + (" (ended early)" if made.interrupted else ""),
        "device": f"{made.device}, {made.precision}",
    }
    if "weights" in made.base:
        lines["stands on"] = (
            f"{made.network}, weights {made.base['weights']}, license {made.base.get('license', 'unknown')}"
        )
    if "teacher" in made.base:
        lines["taught by"] = made.base["teacher"]
    for title, text in lines.items():
        console.print(plain_text(f"{title:<9} {text}"))


def show_findings(console: "Console", findings: Iterable[tuple[str, int, str]]) -> None:
    """Prints what checks found: the title of each, how many photographs or classes, and the surest of them."""
    table = plain_table()
    table.add_column("check", no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("the surest", overflow="fold")
    for title, count, surest in findings:
        style = "" if count else "dim"
        table.add_row(plain_text(title, style), plain_text(f"{count:,}", style), plain_text(surest, style))
    console.print(table)
