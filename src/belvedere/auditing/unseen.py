"""What networks that had not seen the photographs say of them: the ways to it, and which is taken.

Knows where such answers can be had; does not know what is made of them. Training, and so torch, is imported only where
a network is trained or a pretrained one asked.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.classes import measure_nearness
from belvedere.auditing.probes import FOLDS, draw_folds, hold_out, softmax
from belvedere.dataset import Dataset
from belvedere.embeddings import Embeddings, ModelEmbedder, read_embeddings
from belvedere.errors import MissingExtra, UsageError
from belvedere.model import Model
from belvedere.progress import Progress
from belvedere.splits import Contents, fingerprint
from belvedere.trust import fit_temperature

Floats = NDArray[np.float32]

REFERENCES = 5000  # pictures, at most, that the others' nearness to is measured


@dataclass(frozen=True)
class Route:
    """Where answers of networks that had not seen the pictures come from."""

    model: Model | None = None  # its embedding, with probes
    backbone: str | None = None  # a pretrained network's embedding, with probes
    weights: Path | None = None  # of it

    @property
    def pretrained(self) -> bool:
        """Whether a pretrained network is asked."""
        return self.backbone is not None or self.weights is not None


@dataclass(frozen=True)
class Unseen:
    """Answers for N pictures by networks that had not seen them."""

    probabilities: Floats  # (N, K), calibrated
    nearness: Floats  # (N,) mean cosine to the nearest pictures, of the same networks
    route: str  # where they come from and why, in a sentence


def answer_unseen(
    dataset: Dataset, contents: Contents, groups: Sequence[object], route: Route, seed: int, progress: Progress
) -> Unseen:
    """Answers for every picture by a network that had not seen it.

    Args:
        dataset: Names the classes, K.
        contents: N pictures that can be read; every class has two groups at least.
        groups: (N,), the same for copies, which stay on one side.
        route: What to ask.
        seed: Of the folds and the training.
        progress: Shows how far it is.

    Returns:
        Probabilities, nearness, and the way to them.

    Raises:
        UsageError: The model has learnt these very labels.
        MissingExtra: A network would have to be trained, and torch is not installed.
    """
    labels = np.array([dataset.class_names.index(sample.label) for sample in contents.samples], np.int64)
    folds = draw_folds(labels, groups, seed)
    if route.model is None and not route.pretrained:
        logits, nearness = _train(dataset, contents, folds, seed, progress)
        words = (
            f"{int(folds.max()) + 1} networks by the recipe 'quick', each trained on the other photographs; "
            "a --model or --backbone that has not seen the labels would be faster, and pretrained ones sharper"
        )
    else:
        found, words = _describe(contents, route, progress)
        logits = hold_out(found.values, labels, folds, len(dataset.class_names))
        some = np.linspace(0, len(labels) - 1, min(REFERENCES, len(labels))).astype(np.intp)
        nearness = measure_nearness(found.values, found.values[some])
    temperature = fit_temperature(logits, labels)
    return Unseen(softmax(logits / np.float32(temperature)), nearness, words)


def check_model(model: Model, contents: Contents, classes: Sequence[str]) -> None:
    """Refuses a model that has learnt the labels which it shall find errors in.

    Args:
        model: Whose embedding shall be used.
        contents: The pictures to learn from.
        classes: Their class names.

    Raises:
        UsageError: It has, as far as its provenance tells.
    """
    provenance = model.card.provenance
    same_labels = fingerprint(contents) == provenance.photographs_sha256
    learnt = sum(count for part, count in provenance.photographs.items() if part in ("train", "validation"))
    same_set = set(model.class_names) == set(classes) and learnt == len(contents.samples)
    if same_labels or same_set:
        raise UsageError(
            f"{model.name} has learnt from these photographs, so it would find their wrong labels right. Give a model "
            "that has not seen them, --backbone for a pretrained network, or leave --model out."
        )


def _describe(contents: Contents, route: Route, progress: Progress) -> tuple[Embeddings, str]:
    if route.model is None:
        weights = str(route.weights or "")
        with _needing_torch():
            from belvedere.training.crossfit import describe_pretrained
        found = describe_pretrained(contents, route.backbone, weights, progress)
        source = Path(weights).name if weights else route.backbone
        return found, f"{FOLDS} linear probes on the pretrained network {source}, which has seen none of the labels"
    made = route.model.card.provenance
    embedder = ModelEmbedder(route.model, f"model-{made.photographs_sha256[:16]}-{made.created.replace(':', '')}")
    words = f"{FOLDS} linear probes on the embedding of {route.model.name}, which has not learnt from these photographs"
    return read_embeddings(contents, embedder, progress), words


def _train(
    dataset: Dataset, contents: Contents, folds: NDArray[np.intp], seed: int, progress: Progress
) -> tuple[Floats, Floats]:
    with _needing_torch():
        from belvedere.training.crossfit import hold_out_quickly
    found = hold_out_quickly(dataset, contents, folds, seed, progress)
    nearness = np.empty(len(folds), np.float32)
    for fold, (held, seen) in enumerate(zip(found.embeddings, found.learnt_from, strict=True)):
        nearness[folds == fold] = measure_nearness(held, seen)
    return found.logits, nearness


@contextmanager
def _needing_torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra("Training networks to find wrong labels by", error.name or "torch", "train") from error
