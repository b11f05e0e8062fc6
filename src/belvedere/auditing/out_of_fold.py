"""What networks that had not seen the photographs say of them: the ways to it, and which is taken.

Knows where such answers can be had; does not know what is made of them. Training, and so torch, is imported only where
a network is trained or a pretrained one asked.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.label_issues import Labels, find_label_issues
from belvedere.auditing.linear_probe import FOLDS, answer_others, hold_out
from belvedere.auditing.outliers import knn_similarity
from belvedere.data.dataset import UNDIVIDED, Dataset
from belvedere.data.hashing import Contents, fingerprint, select_split, share_in
from belvedere.errors import MissingDependencyError, UsageError
from belvedere.inference.embeddings import Embedder, model_embedder, read_embeddings, store_name
from belvedere.inference.model import Model, load
from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, softmax
from belvedere.runtime.progress import Progress
from belvedere.types.audit import AuditNetwork
from belvedere.types.model import Provenance

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

MOST_LEFT_OUT = 0.5  # of a class
MOST_LEARNT = 0.5  # of the photographs, from which on a model is no judge of them
REFERENCES = 5000  # pictures, at most, that the others' nearness to is measured
COMPARED_WITH = 2000  # the same, of those that a network which was trained for it has learnt from


@dataclass(frozen=True)
class Route:
    """Where answers of networks that had not seen the pictures come from."""

    embedder: Embedder | None = None  # describes pictures for probes; without, networks are trained
    source: str = ""  # what that is, in words
    model: Model | None = None  # it, where it has learnt from photographs of its own
    kept: Path | None = None  # the file for the first of the networks that are trained

    @property
    def words(self) -> str:
        """The route and why it is taken, in a sentence but for its end."""
        if self.embedder is None:
            return (
                f"{FOLDS} networks by the recipe 'quick', each trained on the other photographs; "
                "a --model or --network that has not seen the labels would be faster, and pretrained ones sharper"
            )
        return f"{FOLDS} linear probes on the {self.source}"

    def describe(self) -> AuditNetwork | None:
        """Say what a review finds the network by; None where none has been asked."""
        if self.embedder is not None:
            file = Path(self.model.name).absolute() if self.model is not None else None
            return AuditNetwork(
                model=str(file) if file is not None and file.is_file() else None,
                sha256=self.model.sha256 if self.model is not None else None,
                embeddings=store_name(self.embedder.name, self.embedder.preprocess),
                width=self.embedder.width,
            )
        if self.kept is None or not self.kept.is_file():
            return None
        return AuditNetwork(self.kept.name, hashlib.sha256(self.kept.read_bytes()).hexdigest(), None, None)


@dataclass(frozen=True)
class Unseen:
    """Answers for N pictures by networks that had not seen them."""

    rows: Rows  # (N,) places of the pictures: all that were given but those whose file has changed meanwhile
    probabilities: Floats  # (N, K), calibrated
    nearness: Floats  # (N,) mean cosine to the nearest pictures, of the same networks


def choose_route(
    model: Model | Path | str | None, backbone: str | None, weights: Path | None, progress: Progress
) -> Route:
    """Opens what shall describe the pictures, so that a wrong name is told before the work.

    Args:
        model: A model, or its file or folder.
        backbone: Or a pretrained network of timm's.
        weights: File of its weights.
        progress: Shows how far a download is.

    Raises:
        UsageError: A model and a pretrained network are given.
        MissingDependencyError: torch is not installed, which a pretrained network needs.
        BelvedereError: There is no such model, network or file of weights.
    """
    pretrained = backbone is not None or weights is not None
    if model is not None and pretrained:
        raise UsageError("Either --model finds wrong labels, or --network with its --weights. Leave one out.")
    if model is not None:
        opened = model if isinstance(model, Model) else load(model)
        return Route(model_embedder(opened), f"embedding of {Path(opened.name).name}", opened)
    if not pretrained:
        return Route()
    with _needing_torch():
        from belvedere.training.cross_validation import open_pretrained
    source = weights.name if weights is not None else backbone
    words = f"pretrained network {source}, which has seen none of the labels"
    return Route(open_pretrained(backbone, str(weights or ""), progress), words)


def out_of_fold_predictions(
    dataset: Dataset, contents: Contents, folds: Rows, route: Route, seed: int, progress: Progress
) -> Unseen:
    """Answers for every picture by a network that had not seen it.

    Args:
        dataset: Names the classes, K.
        contents: Pictures that can be read.
        folds: Of each, as `draw_folds` drew them; copies are in one, and every class is in two at least.
        route: What to ask.
        seed: Of the training.
        progress: Shows how far it is.

    Returns:
        Probabilities and nearness.

    Raises:
        MissingDependencyError: A network would have to be trained, and torch is not installed.
        DatasetError: Files were changed while networks were trained on them.
    """
    labels = np.array([dataset.class_names.index(sample.label) for sample in contents.samples], np.int64)
    if route.embedder is None:
        logits, nearness = _train(dataset, contents, labels, folds, seed, progress, route.kept)
        return Unseen(np.arange(len(labels)), _calibrate(logits, labels), nearness)
    found = read_embeddings(contents, route.embedder, progress)
    there = set(found.hashes)
    rows = np.flatnonzero([key in there for key in contents.hashes])
    labels = labels[rows]
    logits = _hold_out_twice(found.values, labels, folds[rows], len(dataset.class_names))
    some = np.linspace(0, len(rows) - 1, min(REFERENCES, len(rows))).astype(np.intp)
    return Unseen(rows, _calibrate(logits, labels), knn_similarity(found.values, found.values[some]))


def _hold_out_twice(embeddings: Floats, labels: Labels, folds: Rows, classes: int) -> Floats:
    """Logits of probes that learn from no label which the probes of a first round found wrong.

    A class that would lose half of its pictures so keeps them all.
    """
    logits, penalty = hold_out(embeddings, labels, folds, classes)
    trusted = _trust(logits, labels).astype(np.float32)
    return hold_out(embeddings, labels, folds, classes, trusted, [penalty])[0]


def _trust(logits: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Which labels a first round of answers did not find wrong, (N,)."""
    trusted = ~find_label_issues(_calibrate(logits, labels), labels).flagged
    for label in np.unique(labels):
        own = labels == label
        if trusted[own].mean() <= 1 - MOST_LEFT_OUT:
            trusted[own] = True
    return trusted


def _calibrate(logits: Floats, labels: Labels) -> Floats:
    return softmax(logits / np.float32(fit_temperature(logits, labels)))


def check_model(model: Model, contents: Contents, classes: tuple[str, ...]) -> str:
    """Refuses a model that has learnt the labels which it shall find errors in.

    Args:
        model: Whose embedding shall be used.
        contents: The pictures, those to test on too.
        classes: Their class names.

    Returns:
        What is known of its having seen them, in words.

    Raises:
        UsageError: It has learnt from most of them, as far as its card tells.
    """
    made, learnable = model.card.provenance, select_split(contents, "train", "val", UNDIVIDED)
    share = max(share_in(each.hashes, made.sketch) for each in (contents, learnable))
    if share > MOST_LEARNT or _is_of(made, learnable, set(model.class_names) == set(classes)):
        raise UsageError(
            f"{model.name} has learnt from these photographs, so it would find their wrong labels right. Give a model "
            "that has not seen them, --network for a pretrained network, or leave --model out."
        )
    if share:
        return f"which has learnt from about {share:.1%} of these photographs, and finds their labels right"
    known = "" if made.sketch else ", as far as its card tells"
    return f"which has not learnt from these photographs{known}"


def _is_of(made: Provenance, learnable: Contents, same_classes: bool) -> bool:
    """Whether a model of an older version, whose card has no sketch, was probably made of these photographs."""
    counts = [sum(made.photographs.get(part, 0) for part in ("train", "validation")), sum(made.photographs.values())]
    undivided = any(sample.part == UNDIVIDED for sample in learnable.samples)  # some were kept back to test on
    same_size = len(learnable.samples) in counts[: 1 + undivided]
    return fingerprint(learnable) == made.photographs_sha256 or (not made.sketch and same_classes and same_size)


def _train(
    dataset: Dataset,
    contents: Contents,
    labels: Labels,
    folds: Rows,
    seed: int,
    progress: Progress,
    kept: Path | None,
) -> tuple[Floats, Floats]:
    """Logits and nearness by networks, each of which learns a last layer again without what the first round doubted."""
    with _needing_torch():
        from belvedere.training.cross_validation import cross_val_predict
    found = cross_val_predict(dataset, contents, folds, seed, progress, kept)
    trusted = _trust(found.logits, labels)
    logits, nearness = np.empty_like(found.logits), np.empty(len(folds), np.float32)
    for number, fold in enumerate(found.folds):
        own, rows = folds == number, trusted[fold.rows]
        learnt, classes = labels[fold.rows[rows]], len(dataset.class_names)
        logits[own] = answer_others(fold.learnt[rows], learnt, fold.held, classes)
        some = np.linspace(0, len(fold.rows) - 1, min(COMPARED_WITH, len(fold.rows))).astype(np.intp)
        nearness[own] = knn_similarity(fold.held, fold.learnt[some])
    return logits, nearness


@contextmanager
def _needing_torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Training networks to find wrong labels by", error.name or "torch", "train"
        ) from error
