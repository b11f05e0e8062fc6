"""Labels needed by `belvedere label`, beside random images, margin sampling and cleanlab's ActiveLab.

python benchmarks/label.py DATA --weights FILE [--network tf_efficientnet_lite0] [--seeds 6] [--first-seed 0]
[--out FOLDER]

DATA is a folder with six class folders, of which 1,000 images each are drawn: 700 for pools, and 300 to test on. A pool
of a seed has 188 images of four classes and 12 of two (unbalanced), or 130 of each (balanced). A simulated person knows
all labels, and answers six questions at a time. All methods use the probe of the page. ActiveLab is measured if
cleanlab is installed: `pip install cleanlab`. Nothing is chosen by the test images; the settings were chosen on the
seeds 100 to 105.

Prints tables, and writes label.json and label.png: balanced accuracy on the test images, the number of rare images
found, how often the 95% interval of the estimated accuracy holds the true one, and the error of the forecast.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import hash_samples
from belvedere.inference.embeddings import read_embeddings
from belvedere.reviewing.labeling.estimate import MORE_LABELS, estimate_accuracy, forecast, predict_out_of_fold
from belvedere.reviewing.labeling.order import UNLABELED, QuestionOrder, find_random_sample
from belvedere.reviewing.labeling.probe import Features, Labels, Probe, Rows, fit_probe, make_features
from belvedere.runtime.progress import LineProgress
from belvedere.training.cross_validation import open_pretrained

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

NUM_POOL, NUM_TEST = 700, 300  # of a class
FREQUENT, RARE, EVEN = 188, 12, 130  # images of a class in a pool
NUM_RARE_CLASSES = 2
BATCH, TOTAL = 6, 240  # questions between two fits, and in all
FIRST = 24  # random images before the first choice of margin sampling and ActiveLab
CHECKED = tuple(range(30, TOTAL + 1, 30))
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Embedded images with their labels."""

    embeddings: Floats  # (N, D)
    labels: Labels  # (N,)
    is_test: NDArray[np.bool_]  # (N,)


@dataclass(frozen=True)
class Pool:
    """A pool and the test images, along the principal directions of the pool."""

    features: Features
    labels: Labels
    rare: tuple[int, ...]  # classes
    test: Features
    test_labels: Labels
    random_order: Rows


@dataclass(frozen=True)
class Point:
    """State after a number of labels."""

    num_labels: int
    balanced_accuracy: float  # on the test images
    num_rare: int  # labeled images of rare classes
    accuracy: float  # on the test images, weighted as the classes of the pool
    estimate: tuple[float, float, float] | None  # of it: value and interval
    gain: float | None  # that is forecast for `MORE_LABELS` more


Choose = Callable[[Pool, Labels, Probe | None], Sequence[int]]


def read_images(data: Path, network: str, weights: str) -> Images:
    """Embed the images that the pools and the test images are drawn from."""
    dataset = load_dataset(data)
    random = np.random.default_rng(0)
    chosen = []
    for name in dataset.class_names:
        members = [sample for sample in dataset.samples if sample.label == name]
        chosen += [members[row] for row in random.permutation(len(members))[: NUM_POOL + NUM_TEST]]
    found = read_embeddings(
        hash_samples(chosen, LineProgress()), open_pretrained(network, weights, LineProgress()), LineProgress()
    )
    position = {id(sample): index % (NUM_POOL + NUM_TEST) for index, sample in enumerate(chosen)}
    labels = np.array([dataset.class_names.index(sample.label) for sample in found.samples])
    return Images(found.values, labels, np.array([position[id(sample)] >= NUM_POOL for sample in found.samples]))


def draw_pool(images: Images, seed: int, *, balanced: bool) -> Pool:
    """Draw a pool, in a random order."""
    random = np.random.default_rng(seed)
    classes = np.unique(images.labels)
    rare = () if balanced else tuple(int(each) for each in random.permutation(classes)[:NUM_RARE_CLASSES])
    rows = []
    for each in classes:
        members = np.flatnonzero((images.labels == each) & ~images.is_test)
        number = EVEN if balanced else RARE if each in rare else FREQUENT
        rows.append(random.permutation(members)[:number])
    pool = random.permutation(np.concatenate(rows))
    features, rotate = make_features(images.embeddings[pool])
    test = np.flatnonzero(images.is_test)
    return Pool(
        features,
        images.labels[pool],
        rare,
        Features(rotate(images.embeddings[test]), features.variances),
        images.labels[test],
        random.permutation(len(pool)),
    )


def choose_random(pool: Pool, labels: Labels, _: Probe | None) -> Sequence[int]:
    """Choose the next images of a random order."""
    return [row for row in pool.random_order.tolist() if labels[row] == UNLABELED][:BATCH]


def choose_by_margin(pool: Pool, labels: Labels, probe: Probe | None) -> Sequence[int]:
    """Choose the images with the smallest margin between the two most probable classes."""
    if probe is None or (labels >= 0).sum() < FIRST:
        return choose_random(pool, labels, probe)
    top = np.sort(probe.probabilities(pool.features.values), axis=1)
    margins = np.where(labels == UNLABELED, top[:, -1] - top[:, -2], np.inf)
    return [int(row) for row in np.argsort(margins)[:BATCH]]


def choose_by_activelab(pool: Pool, labels: Labels, probe: Probe | None) -> Sequence[int]:
    """Choose the images with the lowest score of cleanlab's ActiveLab."""
    from cleanlab.multiannotator import get_active_learning_scores

    num_classes = len(np.unique(pool.labels))
    out_of_fold = predict_out_of_fold(pool.features, labels, num_classes)
    if (
        probe is None
        or out_of_fold is None
        or len(np.unique(out_of_fold.labels)) < num_classes
        or len(out_of_fold.rows) < FIRST
    ):
        return choose_random(pool, labels, probe)
    powers = np.exp(out_of_fold.logits - out_of_fold.logits.max(1, keepdims=True))
    rows = np.flatnonzero(labels == UNLABELED)
    _, scores = get_active_learning_scores(
        out_of_fold.labels[:, None].astype(float),
        powers / powers.sum(1, keepdims=True),
        probe.probabilities(pool.features.values[rows]),
    )
    return [int(row) for row in rows[np.argsort(scores)[:BATCH]]]


def choose_as_page(pool: Pool) -> Choose:
    """Return the order of the page."""
    order = QuestionOrder(pool.features, pool.random_order)

    def choose(pool: Pool, labels: Labels, probe: Probe | None) -> Sequence[int]:
        probabilities = None if probe is None else probe.probabilities(pool.features.values)
        return [each.row for each in order.choose(labels, labels == UNLABELED, probabilities, BATCH)]

    return choose


def simulate(pool: Pool, choose: Choose, *, estimates: bool) -> list[Point]:
    """Answer the questions of a method."""
    labels = np.full(len(pool.labels), UNLABELED, np.int64)
    probe, points = None, []
    while (labels >= 0).sum() < TOTAL:
        rows = list(choose(pool, labels, probe))
        labels[rows] = pool.labels[rows]
        labeled = np.flatnonzero(labels >= 0)
        probe = fit_probe(pool.features, labeled, labels[labeled], len(np.unique(pool.labels)))
        if len(labeled) in CHECKED:
            points.append(measure(pool, labels, probe, estimates=estimates))
    return points


def measure(pool: Pool, labels: Labels, probe: Probe, *, estimates: bool) -> Point:
    """Measure a probe on the test images, and estimate the same as the page does."""
    is_correct = probe.logits(pool.test.values).argmax(1) == pool.test_labels
    num_classes = len(np.unique(pool.labels))
    recalls = np.array([is_correct[pool.test_labels == each].mean() for each in range(num_classes)])
    weights = np.bincount(pool.labels, minlength=num_classes) / len(pool.labels)
    found, expected = None, None
    out_of_fold = predict_out_of_fold(pool.features, labels, num_classes) if estimates else None
    if out_of_fold is not None:
        found = estimate_accuracy(pool.features, out_of_fold, find_random_sample(labels, pool.random_order), probe)
    if found is not None:
        expected = forecast(pool.features, labels, found, num_classes, 0)
    return Point(
        int((labels >= 0).sum()),
        float(recalls.mean()),
        int(np.isin(pool.labels[labels >= 0], pool.rare).sum()),
        float(recalls @ weights),
        None if found is None else (found.value, found.low, found.high),
        None if expected is None else expected.gain,
    )


def list_methods(pool: Pool) -> dict[str, Choose]:
    """Return the methods that can be measured here."""
    methods = {"random": choose_random, "margin": choose_by_margin}
    if importlib.util.find_spec("cleanlab"):
        methods["ActiveLab"] = choose_by_activelab
    return {**methods, "belvedere": choose_as_page(pool)}


def print_estimates(runs: Sequence[Sequence[Point]], title: str) -> None:
    """Print how good the estimates of the page were."""
    points = [each for run in runs for each in run if each.estimate is not None]
    inside = [each.estimate[1] <= each.accuracy <= each.estimate[2] for each in points if each.estimate]
    errors = [abs(each.estimate[0] - each.accuracy) for each in points if each.estimate]
    widths = [each.estimate[2] - each.estimate[1] for each in points if each.estimate]
    print(
        f"{title}: {len(points)} estimates, {np.mean(inside):.1%} of the intervals hold the accuracy; mean error ",
        end="",
    )
    print(f"{100 * np.mean(errors):.1f} points, mean width {100 * np.mean(widths):.1f} points")
    pairs = []
    for run in runs:
        by_number = {each.num_labels: each for each in run}
        for each in run:
            later = by_number.get(each.num_labels + MORE_LABELS // 30 * 30 + 30 * (MORE_LABELS % 30 > 15))
            if each.gain is not None and later is not None:
                factor = (later.num_labels - each.num_labels) / MORE_LABELS
                pairs.append((each.gain * factor, later.accuracy - each.accuracy))
    gains = 100 * np.array(pairs)
    error = np.abs(gains[:, 0] - gains[:, 1])
    print(
        f"{title}: {len(pairs)} forecasts, mean {gains[:, 0].mean():+.2f} points, true {gains[:, 1].mean():+.2f}; "
        f"mean error {error.mean():.2f} points, 90% below {np.quantile(error, 0.9):.2f}"
    )


def draw_curves(results: dict[str, dict[str, list[list[Point]]]], file: Path) -> None:
    """Plot balanced accuracy, and the rare images found, by the number of labels."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for method in results["unbalanced"]:
        for panel, kind in zip(axes, ("unbalanced", "balanced"), strict=False):
            values = np.array([[each.balanced_accuracy for each in run] for run in results[kind][method]])
            panel.plot(CHECKED, values.mean(0), label=method, linewidth=2.5 if method == "belvedere" else 1.3)
            panel.set(title=f"{kind} pool", xlabel="labels", ylabel="balanced accuracy on test images")
        found = np.array([[each.num_rare for each in run] for run in results["unbalanced"][method]])
        axes[2].plot(CHECKED, found.mean(0), label=method, linewidth=2.5 if method == "belvedere" else 1.3)
    axes[2].axhline(NUM_RARE_CLASSES * RARE, color="gray", linewidth=0.8)
    axes[2].set(title="unbalanced pool", xlabel="labels", ylabel="rare images found, of 24")
    for panel in axes:
        panel.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(file, dpi=110)


def main() -> None:
    """Simulate every method on every pool, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="")
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    images = read_images(options.data, options.network, options.weights)
    results: dict[str, dict[str, list[list[Point]]]] = {"unbalanced": {}, "balanced": {}}
    for kind, runs in results.items():
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            pool = draw_pool(images, seed, balanced=kind == "balanced")
            for method, choose in list_methods(pool).items():
                runs.setdefault(method, []).append(simulate(pool, choose, estimates=method == "belvedere"))
        print(f"\n| {kind} pool, labels | " + " | ".join(map(str, CHECKED)) + " |")
        print("|---" * (len(CHECKED) + 1) + "|")
        for method, each in runs.items():
            accuracy = np.mean([[point.balanced_accuracy for point in run] for run in each], axis=0)
            print(f"| {method} | " + " | ".join(f"{value:.3f}" for value in accuracy) + " |")
            if kind == "unbalanced":
                found = np.mean([[point.num_rare for point in run] for run in each], axis=0)
                print(f"| {method}, rare images found | " + " | ".join(f"{value:.1f}" for value in found) + " |")
        print_estimates(runs["belvedere"], kind)
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        kind: {name: [[asdict(point) for point in run] for run in each] for name, each in runs.items()}
        for kind, runs in results.items()
    }
    (options.out / "label.json").write_text(json.dumps(content))
    draw_curves(results, options.out / "label.png")


if __name__ == "__main__":
    main()
