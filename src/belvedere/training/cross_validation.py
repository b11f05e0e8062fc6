"""Networks that each learn from a part of the photographs and answer for the rest, so that all are answered for unseen.

Knows folds and one recipe; does not know what the answers are for.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import Contents
from belvedere.data.image_cache import read_pixels
from belvedere.data.splits import DataSplit
from belvedere.errors import DatasetError
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.files import write_bytes
from belvedere.runtime.progress import Progress
from belvedere.training.device import choose_hardware
from belvedere.training.distributed import join_ranks
from belvedere.training.embedders import NetworkEmbedder, described_name
from belvedere.training.fit_uncertainty import FittedUncertainty
from belvedere.training.log import LoggedProgress
from belvedere.training.networks import find_backbone
from belvedere.training.pretrained_weights import load_pretrained_weights
from belvedere.training.recipes import RECIPES
from belvedere.training.trainer import Job, evenly_spaced, learn
from belvedere.training.transfer import open_backbone
from belvedere.training.writing import write_trained
from belvedere.types.data import Sample
from belvedere.types.model import Trust

RECIPE = "quick"
LEARNT_KEPT = 20_000  # pictures learnt from, of each fold, that are described
TOGETHER = 64
CHANGED = "Photographs were changed or removed while they were looked at. Start again."


@dataclass(frozen=True)
class Fold:
    """What one network sees in pictures."""

    held: NDArray[np.float32]  # (n, D) embeddings of its fold's pictures, in their order, of which it has seen none
    learnt: NDArray[np.float32]  # (m, D) of pictures that it has learnt from
    rows: NDArray[np.intp]  # (m,) which these are


@dataclass(frozen=True)
class Unseen:
    """What networks say of N pictures that they have not seen."""

    logits: NDArray[np.float32]  # (N, K)
    folds: tuple[Fold, ...]


def cross_val_predict(
    dataset: Dataset,
    contents: Contents,
    folds: NDArray[np.intp],
    seed: int,
    progress: Progress,
    kept: Path | None = None,
) -> Unseen:
    """Trains a quick network for each fold on the pictures of the others.

    Args:
        dataset: Names the classes.
        contents: N pictures that can be read, with their hashes and labels.
        folds: (N,), of each picture; every class is in two at least.
        seed: Of the trainings.
        progress: Shows how far they are.
        kept: The file to write the first network to, as a model.

    Returns:
        What each network says of the pictures of its fold, and sees in them and in those it learnt from.

    Raises:
        DatasetError: A file was changed meanwhile.
        KeyboardInterrupt: A training was ended: its network would know too little.
        TrainingError: There is too little to learn from.
    """
    hardware, ranks = choose_hardware("auto"), join_ranks("auto")
    recipe = replace(RECIPES[RECIPE], flip_tta=True)
    logits = np.empty((len(folds), len(dataset.class_names)), np.float32)
    described = []
    count = int(folds.max()) + 1
    for fold in range(count):
        held, others = _choose(contents, folds == fold), _choose(contents, folds != fold)
        progress.say(f"Training network {fold + 1} of {count}, for the photographs that it does not see")
        with tempfile.TemporaryDirectory(prefix="belvedere-") as folder:
            log = LoggedProgress(Path(folder) / "train.log", progress)
            division = DataSplit(others, held, (), Contents((), (), ()), (), "")
            job = Job(Path(folder), recipe, dataset, division, seed + fold, hardware, ranks, log, None)
            learnt = learn(job)
            if learnt.fit.interrupted:
                raise KeyboardInterrupt
            if kept is not None and fold == 0 and ranks.leads:
                write_trained(job, learnt, FittedUncertainty(Trust(), None))
                write_bytes(kept, (job.folder / MODEL_NAME).read_bytes())
        if len(learnt.held_out.labels) < len(held.samples):
            raise DatasetError(CHANGED)
        logits[folds == fold] = learnt.held_out.logits
        embedder = NetworkEmbedder(learnt.network.eval().to(hardware.device), hardware, learnt.preprocess, "")
        rows = _choose_some(others.samples, np.flatnonzero(folds != fold))
        described.append(Fold(_embed(embedder, held), _embed(embedder, _choose(contents, rows)), rows))
    return Unseen(logits, tuple(described))


def open_pretrained(backbone: str | None, weights: str, progress: Progress) -> NetworkEmbedder:
    """Opens a pretrained network to describe pictures by, of which it has seen no label.

    Args:
        backbone: One of timm's; without, the one of the recipe `probe`.
        weights: File of its weights; without, from the hub.
        progress: Shows how far a download is.

    Raises:
        UnknownNameError: There is no such network.
        WeightsError: The weights can't be had, or are another network's.
    """
    recipe, hardware = RECIPES["probe"], choose_hardware("auto")
    entry = find_backbone(backbone or recipe.network)
    recipe = replace(recipe, network=entry.name)
    found = load_pretrained_weights(entry.repository, weights, "", progress)
    network = open_backbone(entry, found, 2, recipe, progress).to(hardware.device)
    name = f"{described_name(recipe, found)}-{hardware.device.type}-{hardware.precision_name}"
    return NetworkEmbedder(network, hardware, entry.preprocess, name)


def _choose(contents: Contents, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Contents:
    places = np.arange(len(contents.samples))[rows].tolist()
    samples, hashes = contents.samples, contents.hashes
    return Contents(tuple(samples[place] for place in places), tuple(hashes[place] for place in places), ())


def _choose_some(samples: Sequence[Sample], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Some of the rows, spread over all; of each class one at least, however rare."""
    first = {sample.label: place for place, sample in reversed(list(enumerate(samples)))}
    chosen: NDArray[np.intp] = np.union1d(evenly_spaced(len(rows), min(LEARNT_KEPT, len(rows))), list(first.values()))
    return rows[chosen]


def _embed(embedder: NetworkEmbedder, contents: Contents) -> NDArray[np.float32]:
    images = read_pixels(contents, embedder.preprocess, Progress()).images
    if len(images) < len(contents.samples):
        raise DatasetError(CHANGED)
    starts = range(0, len(images), TOGETHER)
    return np.concatenate([embedder.embed(images[np.arange(s, min(s + TOGETHER, len(images)))]) for s in starts])
