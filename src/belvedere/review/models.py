"""By what photographs are shown: a model that says where it sees a class, and what a network takes to be alike.

Knows what runs and audits leave of the networks that they had; does not know how the page shows it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from belvedere.data.hashing import Contents
from belvedere.errors import InvalidModelError
from belvedere.inference.embeddings import Embeddings, model_embedder, read_embeddings, read_kept
from belvedere.inference.model import Model, load
from belvedere.inference.model_paths import BUNDLED, is_model_path
from belvedere.review.sources import AUDIT
from belvedere.runtime.progress import Progress

Describe = Callable[[Contents, Progress], Embeddings]


@dataclass(frozen=True)
class Sight:
    """What there is to show photographs by."""

    model: Model | None = None  # for heat-maps
    describe: Describe | None = None  # for neighbors


def find_sight(folder: Path, named: Path | str | None, class_names: Sequence[str], progress: Progress) -> Sight:
    """Find a network for heat-maps and neighbors.

    Args:
        folder: Of the run or audit.
        named: The model that is asked for; without, the run's or the audit's, or else the bundled one where it knows
            the same classes.
        class_names: The classes that are reviewed.
        progress: Is told where the audit's model has gone.

    Returns:
        What there is: of an audit whose network is not there, what the cache holds of it.

    Raises:
        InvalidModelError: The model that is asked for, or the run's, can't be read.
    """
    if named is not None or is_model_path(folder):
        return _see_by(load(folder if named is None else named))
    network = _read_network(folder)
    model = _open_audits(folder, network, progress)
    if model is not None:
        return _see_by(model)
    bundled = load(BUNDLED)
    sight = _see_by(bundled) if set(bundled.class_names) == set(class_names) else Sight()
    store, width = network.get("embeddings"), network.get("width")
    if isinstance(store, str) and isinstance(width, int):
        return Sight(sight.model, partial(read_kept, store=store, width=width))
    return sight


def _see_by(model: Model) -> Sight:
    def describe(contents: Contents, progress: Progress) -> Embeddings:
        return read_embeddings(contents, model_embedder(model), progress)

    return Sight(model, describe)


def _read_network(folder: Path) -> dict[str, Any]:
    """What an audit says of its network; nothing where it had none."""
    try:
        network = json.loads((folder / AUDIT).read_text(encoding="utf-8"))["network"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return network if isinstance(network, dict) else {}


def _open_audits(folder: Path, network: dict[str, Any], progress: Progress) -> Model | None:
    if not isinstance(network.get("model"), str):
        return None
    file = folder / network["model"]
    try:
        model = load(file)
    except InvalidModelError:
        model = None
    if model is not None and model.sha256 == network.get("sha256"):
        return model
    progress.say(f"Note: the model that the audit used, {file}, is gone or was changed. Name one with --model.")
    return None
