"""Label issues planted in a dataset: detection compared with cleanlab, and the effect of correction.

python benchmarks/label_errors.py DATA [--weights FILE] [--network NAME] [--quick] [--seeds 3] [--swapped
glacier,mountain] [--list FILE]

Corrupts training labels in two ways: 5% get a random other class; 10% of two classes are swapped. Out-of-fold
predictions rank all labels, and the average precision is printed for our score and cleanlab's two scores on the same
probabilities. `--weights` uses linear probes on a pretrained network, `--quick` networks trained from scratch on four
fifths each (minutes per setting). Identical files stay in one fold; the audit also groups near duplicates, which is
omitted here. `--list` writes a CSV of the corrupted labels: setting, seed, image, true label, given label.

Finally, flagged labels are replaced by their suggestion, and the same classifier is trained on true, corrupted and
corrected labels: test accuracy, which selects nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import cleanlab.filter
import cleanlab.rank
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import belvedere
from belvedere.auditing.label_issues import LabelIssues, find_label_issues
from belvedere.auditing.out_of_fold import LabelIssueMethod, choose_method, out_of_fold_predictions
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.splits import stratified_group_folds
from belvedere.inference.embeddings import read_embeddings
from belvedere.runtime.progress import LineProgress
from belvedere.runtime.serialization import write_csv
from belvedere.training.linear_probe import fit_probe

FLIPPED, SWAPPED = 0.05, 0.10
PROGRESS = LineProgress()
Labels = NDArray[np.int64]
Names = tuple[str, ...]
Corrupted = tuple[Labels, NDArray[np.bool_]]


def flip(labels: Labels, classes: int, seed: int) -> Corrupted:
    """Give 5% of the images another class, each equally likely."""
    random = np.random.default_rng((seed, 1))  # not the seed of anything else
    corrupted = random.permutation(len(labels)) < FLIPPED * len(labels)
    others = (labels + random.integers(1, classes, len(labels))) % classes
    return np.where(corrupted, others, labels), corrupted


def swap(labels: Labels, first: int, second: int, seed: int) -> Corrupted:
    """Swap 10% of the labels of two classes."""
    random = np.random.default_rng((seed, 2))
    given, corrupted = labels.copy(), np.zeros(len(labels), bool)
    for own, other in ((first, second), (second, first)):
        members = np.flatnonzero(labels == own)
        chosen = random.permutation(members)[: round(SWAPPED * len(members))]
        given[chosen], corrupted[chosen] = other, True
    return given, corrupted


def relabel(contents: HashedSamples, given: Labels, names: tuple[str, ...]) -> HashedSamples:
    """Return the samples with other labels."""
    samples = tuple(replace(s, label=names[label]) for s, label in zip(contents.samples, given, strict=True))
    return HashedSamples(samples, contents.hashes, ())


def write_list(
    file: Path, contents: HashedSamples, corruptions: Mapping[tuple[str, int], Corrupted], names: Names
) -> None:
    """Write the corrupted images with true and given label."""
    rows = [
        [name, seed, sample.name, sample.label, names[label]]
        for (name, seed), (given, corrupted) in corruptions.items()
        for sample, label, wrong in zip(contents.samples, given, corrupted, strict=True)
        if wrong
    ]
    write_csv(file, ["corruption", "seed", "image", "label", "given"], rows)


def compare(name: str, probabilities: NDArray[np.float32], given: Labels, corrupted: NDArray[np.bool_]) -> LabelIssues:
    """Print the detection metrics; return our label issues."""
    found_issues, wide = find_label_issues(probabilities, given), probabilities.astype(np.float64)
    precisions = {"ours": average_precision_score(corrupted, found_issues.scores)}
    for method in ("self_confidence", "normalized_margin"):
        quality = cleanlab.rank.get_label_quality_scores(given, wide, method=method)
        precisions[f"cleanlab {method}"] = average_precision_score(corrupted, -quality)
    print(f"{name}: average precision " + ", ".join(f"{key} {value:.4f}" for key, value in precisions.items()))
    for who, flagged in (("ours", found_issues.flagged), ("cleanlab", cleanlab.filter.find_label_issues(given, wide))):
        right = (flagged & corrupted).sum()
        precision, recall = right / flagged.sum(), right / corrupted.sum()
        print(f"  flagged by {who}: {flagged.sum()}, precision {precision:.3f}, recall {recall:.3f}")
    return found_issues


def learn_probe(
    train: NDArray[np.float32], keys: tuple[str, ...], test: NDArray[np.float32]
) -> Callable[[Labels], Labels]:
    """Return a function from labels to test predictions: a linear probe."""

    def predict(labels: Labels) -> Labels:
        probe = fit_probe(train, labels, keys, int(labels.max()) + 1, 0)
        predictions: Labels = (test @ probe.weight.T + probe.bias).argmax(1).astype(np.int64)
        return predictions

    return predict


def learn_quick(contents: HashedSamples, dataset: Dataset) -> Callable[[Labels], Labels]:
    """Return a function from labels to test predictions: the recipe quick."""

    def predict(labels: Labels) -> Labels:
        names = dataset.class_names
        with tempfile.TemporaryDirectory() as folder:
            rows = [(s.path.resolve(), names[k], "train") for s, k in zip(contents.samples, labels, strict=True)]
            rows += [(s.path.resolve(), s.label, "test") for s in dataset.split("test")]
            write_csv(Path(folder) / "data.csv", ["image", "label", "split"], rows)
            run = belvedere.train(
                Path(folder) / "data.csv", out=Path(folder) / "run", recipe="quick", progress=PROGRESS
            )
        return np.array([names.index(str(each.predicted_label)) for each in run.evaluation.predictions], np.int64)

    return predict


def print_regained(
    learn: Callable[[Labels], Labels], true: Labels, given: Labels, found_issues: LabelIssues, test: Labels
) -> tuple[float, float]:
    """Print the accuracy recovered by the suggestions; return the lost and the recovered accuracy."""
    corrected = np.where(found_issues.flagged, found_issues.suggestions, given)
    accuracies = [float((learn(labels) == test).mean()) for labels in (true, given, corrected)]
    lost, back = accuracies[0] - accuracies[1], accuracies[2] - accuracies[1]
    recovered = f", {back / lost:.0%} of what was lost" if lost > 0 else ""
    print(
        f"  labels right {(true == given).mean():.4f}; corrected {(true == corrected).mean():.4f}; test accuracy true "
        f"{accuracies[0]:.4f}, corrupted {accuracies[1]:.4f}, corrected {accuracies[2]:.4f}: {back * 100:+.2f} points"
        f"{recovered}",
        flush=True,
    )
    return lost, back


def main() -> None:
    """Print all metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--network")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--swapped", default="glacier,mountain")
    parser.add_argument("--list", type=Path, help="CSV file for the corrupted images")
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    contents = hash_samples(dataset.samples, PROGRESS)
    train, tested, names = contents.in_splits("train"), contents.in_splits("test"), dataset.class_names
    true, test = (np.array([names.index(s.label) for s in split.samples], np.int64) for split in (train, tested))
    pair = [names.index(name) for name in options.swapped.split(",")]
    ways: list[tuple[str, LabelIssueMethod, Callable[[Labels], Labels]]] = []
    route = choose_method(None, options.network, options.weights, PROGRESS)
    if route.embedder is not None:
        seen = [read_embeddings(split, route.embedder, PROGRESS).values for split in (train, tested)]
        ways.append(("probes", route, learn_probe(seen[0], train.hashes, seen[1])))
    if options.quick:
        ways.append(("quick", LabelIssueMethod(), learn_quick(train, dataset)))
    corruptions: dict[tuple[str, int], Corrupted] = {}
    for seed in range(options.seeds):
        corruptions["5% flipped", seed] = flip(true, len(names), seed)
        corruptions["10% swapped", seed] = swap(true, pair[0], pair[1], seed)
    if options.list:
        write_list(options.list, train, corruptions, names)
    for way, route, learn in ways:
        changes: dict[str, list[tuple[float, float]]] = {}
        for (name, seed), (given, corrupted) in corruptions.items():
            start, folds = time.perf_counter(), stratified_group_folds(given, train.hashes, seed)
            found = out_of_fold_predictions(dataset, relabel(train, given, names), folds, route, seed, PROGRESS)
            title = f"{way}, {name}, seed {seed}, {corrupted.sum()} corrupted, {time.perf_counter() - start:.0f} s"
            found_issues = compare(title, found.probabilities, given, corrupted)
            changes.setdefault(name, []).append(print_regained(learn, true, given, found_issues, test))
        for name, pairs in changes.items():  # a few images each: only their sum exceeds chance
            lost, back = np.sum(pairs, 0)
            recovered = f"{back / lost:.0%} of what was lost" if lost > 0 else "nothing was lost"
            print(
                f"{way}, {name}, {len(pairs)} seeds together: {back / len(pairs) * 100:+.3f} points each, {recovered}"
            )


if __name__ == "__main__":
    main()
