"""What computes the embeddings of a page."""

from pathlib import Path

from belvedere.auditing.out_of_fold import choose_method
from belvedere.inference.embeddings import Embedder, model_embedder
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import BUNDLED
from belvedere.runtime.progress import Progress


def open_embedder(
    model: Model | Path | str | None,
    network: str | None,
    weights: Path | str | None,
    progress: Progress,
    default: Path | str = BUNDLED,
) -> Embedder:
    """Return the embedder of a model or of a pretrained timm network; without one, that of a default model.

    Raises:
        UsageError: Both a model and a timm network are given.
        MissingDependencyError: A timm network is given, and torch is not installed.
        BelvedereError: The model, the network or its weights cannot be loaded.
    """
    chosen = choose_method(model, network, Path(weights) if weights else None, progress).embedder
    return model_embedder(load_model(default)) if chosen is None else chosen
