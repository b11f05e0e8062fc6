"""Finds the model for heatmaps and the embeddings for neighbors."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from belvedere.data.hashing import HashedSamples
from belvedere.errors import InvalidModelError
from belvedere.inference.embeddings import Embeddings, model_embedder, read_cached_embeddings, read_embeddings
from belvedere.inference.model import Model, as_model, load_model
from belvedere.inference.model_paths import BUNDLED, is_model_path
from belvedere.runtime.progress import Progress
from belvedere.types.audit import AUDIT

Embed = Callable[[HashedSamples, Progress], Embeddings]


@dataclass(frozen=True)
class ReviewModels:
    """Model and embeddings of a review."""

    model: Model | None = None  # for heatmaps
    embed: Embed | None = None  # for neighbors


def find_models(
    folder: Path, model: Model | Path | str | None, class_names: Sequence[str], progress: Progress
) -> ReviewModels:
    """Find the model of a review.

    Args:
        folder: Run or audit.
        model: Model to use. Default: that of the run or audit, or the bundled one if it has the same classes.
        class_names: Classes under review.
        progress: Reports a missing model.

    Returns:
        The model, if any. If the model of an audit is missing, neighbors come from its cached embeddings.

    Raises:
        InvalidModelError: `model`, or that of the run, cannot be read.
    """
    if model is not None or is_model_path(folder):
        return _from_model(as_model(folder if model is None else model))
    network = _read_network(folder)
    audit_model = _load_audit_model(folder, network, progress)
    if audit_model is not None:
        return _from_model(audit_model)
    bundled = load_model(BUNDLED)
    found = _from_model(bundled) if set(bundled.class_names) == set(class_names) else ReviewModels()
    name, dim = network.get("embeddings"), network.get("embedding_dim")
    if isinstance(name, str) and isinstance(dim, int):
        return ReviewModels(found.model, partial(read_cached_embeddings, cache_name=name, embedding_dim=dim))
    return found


def _from_model(model: Model) -> ReviewModels:
    return ReviewModels(model, lambda hashed, progress: read_embeddings(hashed, model_embedder(model), progress))


def _read_network(folder: Path) -> dict[str, Any]:
    """Return the entry of an audit about its network; empty if it used none."""
    try:
        network = json.loads((folder / AUDIT).read_text(encoding="utf-8"))["network"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return network if isinstance(network, dict) else {}


def _load_audit_model(folder: Path, network: dict[str, Any], progress: Progress) -> Model | None:
    if not isinstance(network.get("model"), str):
        return None
    file = folder / network["model"]
    try:
        model = load_model(file)
    except InvalidModelError:
        model = None
    if model is not None and model.sha256 == network.get("sha256"):
        return model
    progress.log(f"Warning: the model of the audit, {file}, is missing or was changed. Choose another `model`.")
    return None
