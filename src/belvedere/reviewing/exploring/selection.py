"""Saves a selection as a table beside the explored data, so that `label` goes on with its images."""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from belvedere.data.corrections.class_names import check_new_class
from belvedere.errors import UsageError
from belvedere.inference.model import Model
from belvedere.reviewing.exploring.sources import ImageMap
from belvedere.runtime.files import beside
from belvedere.runtime.serialization import write_csv

HEADER = ("image", "label", "sha256")
MAX_CLASSES = 50  # that are part of the command
SEPARATOR = ","  # of the classes


def save_selection(images: ImageMap, rows: Sequence[int]) -> Path:
    """Write the selected rows as a table, named after its content, unless it is there, and return its path.

    Raises:
        UsageError: It cannot be written.
    """
    source = Path(images.title).resolve()
    table = [(str(images.samples[row].path.absolute()), images.samples[row].label, images.hashes[row]) for row in rows]
    digest = hashlib.sha256(repr(sorted(table)).encode()).hexdigest()
    path = beside(source, f".selection-{digest[:8]}.csv")
    if not path.exists():  # somebody may have changed it since
        write_csv(path, HEADER, table)
    return path


def label_command(images: ImageMap, table: Path, options: str) -> str:
    """Return the command that labels the images of a table, with the classes of the map."""
    names = sorted(set(images.columns["label"]))
    classes = f" --classes {shlex.quote(SEPARATOR.join(names))}" if _are_valid(names) else ""
    return f"belvedere label {shlex.quote(str(table))}{classes}{options}"


def _are_valid(names: Sequence[str]) -> bool:
    """Return whether the command accepts these classes."""
    if len(names) > MAX_CLASSES or any(SEPARATOR in name or name != name.strip() for name in names):
        return False
    try:
        for number, name in enumerate(names):
            check_new_class(name, names[:number])
    except UsageError:
        return False
    return True


def network_options(model: Model | Path | str | None, network: str | None, weights: Path | str | None) -> str:
    """Return the options of the command for the network of the embeddings, which are then in the cache."""
    given = {"model": model.name if isinstance(model, Model) else model, "network": network, "weights": weights}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)
