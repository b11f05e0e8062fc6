"""Out-of-distribution and label-issue detection from a network's embeddings.

python benchmarks/uncertainty.py DATA --ood FOLDER --weights FILE [--network NAME] [--flipped 0.05]

Out of distribution: AUROC of test images against OOD images, and the fraction of OOD images accepted at 95% TPR, by
mean cosine similarity to the ten nearest training embeddings and by maximum softmax probability. No OOD image selects
anything.

Label issues: a fraction of the training labels is flipped, and images are ranked by the out-of-fold probability of
their label (linear probes): average precision. `--scratch` repeats this with `quick` networks trained from scratch
(minutes).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

import belvedere
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.splits import NUM_FOLDS, stratified_group_folds
from belvedere.images.listing import list_images
from belvedere.inference.embeddings import Embeddings, read_embeddings
from belvedere.runtime.progress import LineProgress
from belvedere.runtime.serialization import write_csv
from belvedere.training.device import choose_device
from belvedere.training.embedders import NetworkEmbedder, embedding_key
from belvedere.training.linear_probe import fit_probe
from belvedere.training.networks import find_backbone
from belvedere.training.pretrained_weights import load_pretrained_weights
from belvedere.training.recipes import RECIPES
from belvedere.training.transfer import open_backbone
from belvedere.types.data import Sample

NUM_NEIGHBORS = 10
ACCEPTED = 0.95
PROGRESS = LineProgress()


def open_embedder(backbone: str, weights: Path) -> NetworkEmbedder:
    """Open the network that training would use, under the same cache key."""
    recipe, device = RECIPES["probe"], choose_device("auto")
    entry, found = find_backbone(backbone), load_pretrained_weights("", str(weights), "", PROGRESS)
    network = open_backbone(entry, found, 2, recipe, PROGRESS)
    name = f"{embedding_key(recipe, found)}-{device.key}"
    return NetworkEmbedder(network.to(device.torch_device), device, entry.preprocess, name)


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalize rows to length 1."""
    scaled: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return scaled


def nearness(values: NDArray[np.float32], train: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean cosine similarity to the nearest training embeddings."""
    cosines = unit(values) @ unit(train).T
    nearest: NDArray[np.float32] = np.partition(cosines, -NUM_NEIGHBORS, axis=1)[:, -NUM_NEIGHBORS:].mean(1)
    return nearest


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def print_outliers(train: Embeddings, test: Embeddings, outliers: Embeddings, labels: NDArray[np.int64]) -> None:
    """Print the OOD metrics."""
    probe = fit_probe(train.values, labels, train.hashes, labels.max() + 1, 0)
    scores = {
        "cosine to 10 nearest": [nearness(each.values, train.values) for each in (test, outliers)],
        "largest probability": [softmax(each.values @ probe.weight.T + probe.bias).max(1) for each in (test, outliers)],
    }
    for name, (inside, outside) in scores.items():
        truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
        area = roc_auc_score(truth, np.r_[inside, outside])
        accepted = (outside >= np.quantile(inside, 1 - ACCEPTED)).mean()
        print(f"none of these, {name:22} AUROC {area:.4f}, {accepted:.1%} of {len(outside)} accepted at 95% kept")


def flip(labels: NDArray[np.int64], fraction: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give a fraction of the images another class, each equally likely."""
    random = np.random.default_rng(seed)
    flipped = random.permutation(len(labels)) < fraction * len(labels)
    others = (labels + random.integers(1, labels.max() + 1, len(labels))) % (labels.max() + 1)
    return np.where(flipped, others, labels), flipped


def print_wrong_labels(
    name: str, held_out: NDArray[np.float32], given: NDArray[np.int64], flipped: NDArray[np.bool_]
) -> None:
    """Print the average precision of the flipped labels."""
    issue_scores = 1 - held_out[np.arange(len(given)), given]
    found = average_precision_score(flipped, issue_scores)
    print(f"wrong labels, {name}: average precision {found:.4f} of {flipped.sum()} flipped")


def hold_out_scratch(train: Embeddings, given: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """Return out-of-fold probabilities of `quick` trained from scratch."""
    folds = stratified_group_folds(given, train.hashes, 0, rotate=False)
    held_out = np.empty((len(given), len(classes)), np.float32)
    for fold in range(NUM_FOLDS):
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                (sample.path.resolve(), classes[label], "test" if sample_fold == fold else "train")
                for sample, label, sample_fold in zip(train.samples, given, folds, strict=True)
            ]
            write_csv(Path(folder) / "fold.csv", ["image", "label", "split"], rows)
            run = belvedere.train(Path(folder) / "fold.csv", out=Path(folder) / "run", recipe="quick")
        held_out[folds == fold] = [prediction.probability_values for prediction in run.evaluation.predictions]
        print(f"fold {fold + 1} of {NUM_FOLDS}", flush=True)
    return held_out


def read_outliers(folder: Path) -> HashedSamples:
    """List all images of a folder."""
    return hash_samples([Sample(path, str(path), "", "test") for path in list_images(folder)], PROGRESS)


def main() -> None:
    """Print all metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--ood", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default=RECIPES["probe"].network)
    parser.add_argument("--flipped", type=float, default=0.05)
    parser.add_argument("--scratch", action="store_true")
    options = parser.parse_args()
    dataset: Dataset = load_dataset(options.data)
    contents, embedder = hash_samples(dataset.samples, PROGRESS), open_embedder(options.network, options.weights)
    train, test, outliers = (
        read_embeddings(samples, embedder, PROGRESS)
        for samples in (contents.in_splits("train"), contents.in_splits("test"), read_outliers(options.ood))
    )
    labels = np.array([dataset.class_names.index(sample.label) for sample in train.samples], np.int64)
    print_outliers(train, test, outliers, labels)
    given, flipped = flip(labels, options.flipped)
    probe = fit_probe(train.values, given, train.hashes, labels.max() + 1, 0)
    if probe.held_out is not None:
        print_wrong_labels("out-of-fold probes", softmax(probe.held_out), given, flipped)
    if options.scratch:
        print_wrong_labels("quick from scratch", hold_out_scratch(train, given, dataset.class_names), given, flipped)


if __name__ == "__main__":
    main()
