"""What a network's embeddings can tell besides the class: none of these, and wrong labels.

python benchmarks/trust.py PHOTOS --outliers FOLDER --weights FILE [--backbone NAME] [--flipped 0.05]

None of these: how well test photographs and outliers are told apart (area under the ROC curve), and how many outliers
are accepted when 95% of the test photographs are, by the mean cosine to the ten nearest training embeddings and by the
largest probability. No outlier is looked at to choose anything.

Wrong labels: a share of the training labels is flipped at random, and the photographs are ranked by the probability
that out-of-fold probes give to their label: average precision of finding the flipped ones.

The part on wrong labels is printed again with the probabilities of a `quick` network that is trained from scratch on
the other folds (`--scratch`, some minutes).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

import belvedere
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import Contents, read_contents, select_split
from belvedere.images.listing import list_pictures
from belvedere.inference.embeddings import Embeddings, read_embeddings
from belvedere.runtime.csv_files import write_csv
from belvedere.runtime.progress import LineProgress
from belvedere.training.device import choose_hardware
from belvedere.training.embedders import NetworkEmbedder, described_name
from belvedere.training.linear_probe import FOLDS, draw_folds, fit_probe
from belvedere.training.networks import find_backbone
from belvedere.training.pretrained_weights import load_pretrained_weights
from belvedere.training.recipes import RECIPES
from belvedere.training.transfer import open_backbone
from belvedere.types.data import Sample

NEIGHBOURS = 10
KEPT = 0.95
PROGRESS = LineProgress()


def open_embedder(backbone: str, weights: Path) -> NetworkEmbedder:
    """The network that training would describe photographs with, under the same name in the cache."""
    recipe, hardware = RECIPES["probe"], choose_hardware("auto")
    entry, found = find_backbone(backbone), load_pretrained_weights("", str(weights), "", PROGRESS)
    network = open_backbone(entry, found, 2, recipe, PROGRESS)
    name = f"{described_name(recipe, found)}-{hardware.device.type}-{hardware.precision_name}"
    return NetworkEmbedder(network.to(hardware.device), hardware, entry.preprocess, name)


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    scaled: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return scaled


def nearness(values: NDArray[np.float32], train: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cosine to the nearest training embeddings."""
    cosines = unit(values) @ unit(train).T
    nearest: NDArray[np.float32] = np.partition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:].mean(1)
    return nearest


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(1, keepdims=True)
    return probabilities


def print_outliers(train: Embeddings, test: Embeddings, outliers: Embeddings, labels: NDArray[np.int64]) -> None:
    """Prints how well outliers are told apart."""
    probe = fit_probe(train.values, labels, train.hashes, labels.max() + 1, 0)
    scores = {
        "cosine to 10 nearest": [nearness(each.values, train.values) for each in (test, outliers)],
        "largest probability": [softmax(each.values @ probe.weight.T + probe.bias).max(1) for each in (test, outliers)],
    }
    for name, (inside, outside) in scores.items():
        truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
        area = roc_auc_score(truth, np.r_[inside, outside])
        accepted = (outside >= np.quantile(inside, 1 - KEPT)).mean()
        print(f"none of these, {name:22} AUROC {area:.4f}, {accepted:.1%} of {len(outside)} accepted at 95% kept")


def flip(labels: NDArray[np.int64], share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Gives a share of the photographs another class, each equally likely."""
    random = np.random.default_rng(seed)
    flipped = random.permutation(len(labels)) < share * len(labels)
    others = (labels + random.integers(1, labels.max() + 1, len(labels))) % (labels.max() + 1)
    return np.where(flipped, others, labels), flipped


def print_wrong_labels(
    name: str, held_out: NDArray[np.float32], given: NDArray[np.int64], flipped: NDArray[np.bool_]
) -> None:
    """Prints how precisely the flipped labels are ranked first."""
    doubt = 1 - held_out[np.arange(len(given)), given]
    found = average_precision_score(flipped, doubt)
    print(f"wrong labels, {name}: average precision {found:.4f} of {flipped.sum()} flipped")


def hold_out_scratch(train: Embeddings, given: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """Out-of-fold probabilities of `quick`, trained from scratch on the other folds."""
    folds = draw_folds(given, train.hashes, 0)
    if folds is None:
        raise SystemExit("A class has one photograph only.")
    held_out = np.empty((len(given), len(classes)), np.float32)
    for fold in range(FOLDS):
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                (sample.path.resolve(), classes[label], "test" if place == fold else "train")
                for sample, label, place in zip(train.samples, given, folds, strict=True)
            ]
            write_csv(Path(folder) / "fold.csv", ["image", "label", "split"], rows)
            run = belvedere.train(Path(folder) / "fold.csv", out=Path(folder) / "run", recipe="quick")
        held_out[folds == fold] = [answer.probabilities for answer in run.evaluation.predictions]
        print(f"fold {fold + 1} of {FOLDS}", flush=True)
    return held_out


def read_outliers(folder: Path) -> Contents:
    """All pictures of a folder."""
    return read_contents([Sample(path, str(path), "", "test") for path in list_pictures(folder)], PROGRESS)


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--outliers", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default=RECIPES["probe"].network)
    parser.add_argument("--flipped", type=float, default=0.05)
    parser.add_argument("--scratch", action="store_true")
    arguments = parser.parse_args()
    dataset: Dataset = load_dataset(arguments.photos)
    contents, embedder = read_contents(dataset.samples, PROGRESS), open_embedder(arguments.backbone, arguments.weights)
    train, test, outliers = (
        read_embeddings(part, embedder, PROGRESS)
        for part in (select_split(contents, "train"), select_split(contents, "test"), read_outliers(arguments.outliers))
    )
    labels = np.array([dataset.class_names.index(sample.label) for sample in train.samples], np.int64)
    print_outliers(train, test, outliers, labels)
    given, flipped = flip(labels, arguments.flipped)
    probe = fit_probe(train.values, given, train.hashes, labels.max() + 1, 0)
    if probe.held_out is not None:
        print_wrong_labels("out-of-fold probes", softmax(probe.held_out), given, flipped)
    if arguments.scratch:
        print_wrong_labels("quick from scratch", hold_out_scratch(train, given, dataset.class_names), given, flipped)


if __name__ == "__main__":
    main()
