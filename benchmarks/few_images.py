"""Accuracy against the number of training images per class: from scratch and with a pretrained network.

python benchmarks/few_images.py DATA --weights FILE [--network NAME] [--each 5,20,100] [--seeds 3] [--out FOLDER]

Draws a number of training images per class, trains `quick` and `standard` from scratch and `probe` on the same
images, and measures on the whole test split. Prints a table, and writes `few_images.json` and `few_images.png`.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

import belvedere
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.training.recipes import RECIPES

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

SCRATCH = ("quick", "standard")


@dataclass(frozen=True)
class Row:
    """Result of one recipe at one number of images per class."""

    each: int
    recipe: str
    accuracies: list[float]  # one a seed
    seconds: float  # median


def draw(dataset: Dataset, each: int, seed: int, file: Path) -> None:
    """Write a table with a number of training images per class, and all test images."""
    random = np.random.default_rng(seed)
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["image", "label", "split"])
        for name in dataset.class_names:
            members = [sample for sample in dataset.split("train") if sample.label == name]
            chosen = random.permutation(len(members))[:each]
            table.writerows([members[index].path.resolve(), name, "train"] for index in chosen)
        table.writerows([sample.path.resolve(), sample.label, "test"] for sample in dataset.split("test"))


def measure(table: Path, recipe: str, seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Train once; return the test accuracy and the seconds."""
    given = {"network": options.network, "weights": options.weights} if RECIPES[recipe].pretrained else {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = belvedere.train(table, out=Path(folder) / "run", recipe=recipe, seed=seed, **given)
    return run.evaluation.accuracy, time.perf_counter() - start


def draw_curve(rows: list[Row], file: Path) -> None:
    """Plot accuracy against images per class, with the range of the seeds."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    counts = sorted({row.each for row in rows})
    for recipe in dict.fromkeys(row.recipe for row in rows):
        values = np.array([row.accuracies for row in rows if row.recipe == recipe])  # (sizes, seeds)
        axes.plot(counts, values.mean(1), marker="o", label=recipe)
        axes.fill_between(counts, values.min(1), values.max(1), alpha=0.2)
    axes.set(xscale="log", xlabel="images of each class", ylabel="accuracy on the test images")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train at every size with every seed, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--network", default=RECIPES["probe"].network)
    parser.add_argument("--each", default="5,20,100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    dataset, rows = load_dataset(options.data), list[Row]()
    for each in map(int, options.each.split(",")):
        for recipe in (*SCRATCH, "probe"):
            found = []
            for seed in range(options.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    table = Path(folder) / "few.csv"
                    draw(dataset, each, seed, table)
                    found.append(measure(table, recipe, seed, options))
            accuracies = [accuracy for accuracy, _ in found]
            seconds = statistics.median(taken for _, taken in found)
            rows.append(Row(each, recipe, accuracies, round(seconds, 1)))
            listed = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
            print(
                f"{each:5d} a class  {recipe:10}  {statistics.mean(accuracies):.4f}  ({listed})  {seconds:.0f} s",
                flush=True,
            )
    (options.out / "few_images.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    draw_curve(rows, options.out / "few_images.png")


if __name__ == "__main__":
    main()
