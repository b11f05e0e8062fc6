"""Out-of-fold predictions: each image is predicted by a network that was not trained on it.

Training, and so torch, is imported only where a network is trained or a timm network is used.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.label_issues import Labels, find_label_issues
from belvedere.auditing.linear_probe import cross_val_logits, predict_others
from belvedere.auditing.outliers import knn_similarity
from belvedere.data.dataset import Dataset
from belvedere.data.hashing import HashedSamples, estimate_overlap, fingerprint
from belvedere.data.sampling import evenly_spaced
from belvedere.data.splits import NUM_FOLDS
from belvedere.errors import UsageError
from belvedere.inference.embeddings import Embedder, embedding_cache_name, model_embedder, read_embeddings
from belvedere.inference.model import Model, load_model
from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, softmax
from belvedere.runtime.progress import Progress
from belvedere.types.audit import AuditNetwork
from belvedere.types.data import Sample
from belvedere.types.model import Provenance

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]

MAX_EXCLUDED_FRACTION = 0.5  # of a class in the second round; more than this, and none is excluded
MAX_OVERLAP = 0.5  # of the images with the training data of a model
NUM_REFERENCES = 5000  # images for nearest neighbors, at most
NUM_FOLD_REFERENCES = 2000  # of the training images of one fold's network


@dataclass(frozen=True)
class LabelIssueMethod:
    """Source of out-of-fold predictions."""

    embedder: Embedder | None = None  # for linear probes; None to train networks
    source: str = ""  # description of the embedder
    model: Model | None = None  # the embedder's model, if it has training data of its own
    network_path: Path | None = None  # file for the first of the trained networks

    @property
    def description(self) -> str:
        """The method as a noun phrase."""
        if self.embedder is None:
            return (
                f"{NUM_FOLDS} networks of the recipe 'quick', each trained on the other folds; a model that was not "
                "trained on these images would be faster, a pretrained network more accurate"
            )
        return f"{NUM_FOLDS} linear probes on the {self.source}"

    def network(self) -> AuditNetwork | None:
        """Return the reference to the network for a later review; None without one."""
        if self.embedder is not None:
            file = Path(self.model.name).absolute() if self.model is not None else None
            return AuditNetwork(
                model=str(file) if file is not None and file.is_file() else None,
                sha256=self.model.sha256 if self.model is not None else None,
                embeddings=embedding_cache_name(self.embedder.name, self.embedder.preprocess),
                embedding_dim=self.embedder.embedding_dim,
            )
        if self.network_path is None or not self.network_path.is_file():
            return None
        sha256 = hashlib.sha256(self.network_path.read_bytes()).hexdigest()
        return AuditNetwork(self.network_path.name, sha256, None, None)


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Predictions of N images."""

    rows: Rows  # (N,) positions of the images; those whose files changed are missing
    probabilities: Floats  # (N, K), calibrated
    similarity: Floats  # (N,) mean cosine to the nearest neighbors, in the same networks


def choose_method(
    model: Model | Path | str | None,
    network: str | None,
    weights: Path | None,
    progress: Progress,
    samples: Sequence[Sample] = (),
) -> LabelIssueMethod:
    """Load the embedder: a model, or a timm network with its weights, which `samples` may set the image size of.

    Raises:
        UsageError: Both a model and a timm network are given.
        MissingDependencyError: A timm network is given, and torch is not installed.
        BelvedereError: The model, the network or the weights cannot be loaded.
    """
    if model is not None and (network is not None or weights is not None):
        raise UsageError("Got both `model` and `network` or `weights`, which give different embeddings. Choose one.")
    if model is not None:
        opened = model if isinstance(model, Model) else load_model(model)
        return LabelIssueMethod(model_embedder(opened), f"embeddings of {Path(opened.name).name}", opened)
    if network is None and weights is None:
        return LabelIssueMethod()
    from belvedere.training.cross_validation import open_pretrained

    source = weights.name if weights is not None else network
    embedder = open_pretrained(network, str(weights or ""), progress, samples)
    return LabelIssueMethod(embedder, f"embeddings of the pretrained network {source}")


def out_of_fold_predictions(
    dataset: Dataset, contents: HashedSamples, folds: Rows, method: LabelIssueMethod, seed: int, progress: Progress
) -> OutOfFoldPredictions:
    """Predict each readable image of a dataset with K classes by a network that was not trained on it.

    Duplicates share a fold, and each class is in at least two. The seed is for the training runs.

    Raises:
        MissingDependencyError: A network has to be trained, and torch is not installed.
        DatasetError: Files changed while networks were trained on them.
    """
    labels = np.array([dataset.class_names.index(sample.label) for sample in contents.samples], np.int64)
    if method.embedder is None:
        logits, similarity = _train(dataset, contents, labels, folds, seed, progress, method.network_path)
        return OutOfFoldPredictions(np.arange(len(labels)), _calibrate(logits, labels), similarity)
    embeddings = read_embeddings(contents, method.embedder, progress)
    available = set(embeddings.hashes)
    rows = np.flatnonzero([key in available for key in contents.hashes])
    labels = labels[rows]
    logits = _two_pass_probes(embeddings.values, labels, folds[rows], len(dataset.class_names))
    references = embeddings.values[_spread(len(rows), NUM_REFERENCES)]
    return OutOfFoldPredictions(rows, _calibrate(logits, labels), knn_similarity(embeddings.values, references))


def check_model(model: Model, contents: HashedSamples, class_names: tuple[str, ...]) -> str:
    """Return the known overlap of the images, test split included, with a model's training data as text.

    Raises:
        UsageError: It was trained on most of the images, as far as its metadata tell.
    """
    origin, trainable = model.card.provenance, contents.in_splits("train", "val", None)
    overlap = max(estimate_overlap(each.hashes, origin.data_minhash) for each in (contents, trainable))
    if overlap > MAX_OVERLAP or _is_probably_of(origin, trainable, set(model.class_names) == set(class_names)):
        raise UsageError(
            f"{model.name} was trained on these images, so it cannot judge their labels. Choose a `model` that was "
            "not trained on them, a pretrained `network`, or neither."
        )
    if overlap:
        return f"which was trained on about {overlap:.1%} of these images, so it misses errors in their labels"
    return f"which was not trained on these images{'' if origin.data_minhash else ', as far as its metadata tell'}"


def _is_probably_of(origin: Provenance, trainable: HashedSamples, same_classes: bool) -> bool:
    """Return whether a model without a MinHash of its training data was probably trained on these images."""
    counts = origin.num_images
    sizes = [sum(counts.get(split, 0) for split in ("train", "validation")), sum(counts.values())]
    has_no_splits = any(sample.split is None for sample in trainable.samples)  # some were held out as test images
    same_size = len(trainable.samples) in sizes[: 1 + has_no_splits]
    return fingerprint(trainable) == origin.data_sha256 or (not origin.data_minhash and same_classes and same_size)


def _two_pass_probes(embeddings: Floats, labels: Labels, folds: Rows, num_classes: int) -> Floats:
    """Return logits of probes that are trained without the labels that a first pass flagged."""
    logits, penalty = cross_val_logits(embeddings, labels, folds, num_classes)
    trusted = _trusted_labels(logits, labels).astype(np.float32)
    return cross_val_logits(embeddings, labels, folds, num_classes, trusted, [penalty])[0]


def _trusted_labels(logits: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Return which labels are not flagged, (N,); all of a class that would lose half of its images."""
    trusted = ~find_label_issues(_calibrate(logits, labels), labels).flagged
    for label in np.unique(labels):
        own = labels == label
        if trusted[own].mean() <= 1 - MAX_EXCLUDED_FRACTION:
            trusted[own] = True
    return trusted


def _calibrate(logits: Floats, labels: Labels) -> Floats:
    return softmax(logits / np.float32(fit_temperature(logits, labels)))


def _spread(size: int, limit: int) -> Rows:
    """Return up to `limit` evenly spaced positions below `size`."""
    return evenly_spaced(size, min(limit, size))


def _train(
    dataset: Dataset,
    contents: HashedSamples,
    labels: Labels,
    folds: Rows,
    seed: int,
    progress: Progress,
    network_path: Path | None,
) -> tuple[Floats, Floats]:
    """Train a network a fold, and then its last layer again without flagged labels; return logits and similarity."""
    from belvedere.training.cross_validation import cross_val_predict

    progress.log(
        f"{NUM_FOLDS} networks are trained, each on the other folds, to find label issues. A `model` that was not "
        "trained on these images is faster, a pretrained `network` more accurate."
    )
    found = cross_val_predict(dataset, contents, folds, seed, progress, network_path)
    trusted = _trusted_labels(found.logits, labels)
    logits, similarity = np.empty_like(found.logits), np.empty(len(folds), np.float32)
    for number, fold in enumerate(found.folds):
        own, rows = folds == number, trusted[fold.rows]
        train_labels, num_classes = labels[fold.rows[rows]], len(dataset.class_names)
        logits[own] = predict_others(fold.train_embeddings[rows], train_labels, fold.held_out_embeddings, num_classes)
        similarity[own] = knn_similarity(
            fold.held_out_embeddings, fold.train_embeddings[_spread(len(fold.rows), NUM_FOLD_REFERENCES)]
        )
    return logits, similarity
