"""How accuracy grows with the photographs of a class: from scratch beside a pretrained network.

python benchmarks/few_pictures.py PHOTOS --weights FILE [--backbone NAME] [--each 5,20,100] [--seeds 3] [--out FOLDER]

Draws so many photographs of every class from the training part, trains `quick` and `standard` from scratch and
`probe` on the same ones, and measures each on the whole test part. Prints a table and writes `few_pictures.json`
and the curve as `few_pictures.png`.
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
    """One recipe on so many photographs of each class."""

    each: int
    recipe: str
    accuracies: list[float]  # one a seed
    seconds: float  # median


def draw(dataset: Dataset, each: int, seed: int, file: Path) -> None:
    """Writes a table with so many training photographs of each class, and all test ones."""
    random = np.random.default_rng(seed)
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["image", "label", "split"])
        for name in dataset.class_names:
            members = [sample for sample in dataset.part("train") if sample.label == name]
            chosen = random.permutation(len(members))[:each]
            table.writerows([members[place].path.resolve(), name, "train"] for place in chosen)
        table.writerows([sample.path.resolve(), sample.label, "test"] for sample in dataset.part("test"))


def measure(table: Path, recipe: str, seed: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Trains once; returns the accuracy on the test photographs, and seconds."""
    given = {"network": arguments.backbone, "weights": arguments.weights} if RECIPES[recipe].pretrained else {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = belvedere.train(table, out=Path(folder) / "run", recipe=recipe, seed=seed, **given)
    return run.evaluation.accuracy, time.perf_counter() - start


def draw_curve(rows: list[Row], file: Path) -> None:
    """Draws accuracy against photographs a class, with the range of the seeds."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    places = sorted({row.each for row in rows})
    for recipe in dict.fromkeys(row.recipe for row in rows):
        values = np.array([row.accuracies for row in rows if row.recipe == recipe])  # (sizes, seeds)
        axes.plot(places, values.mean(1), marker="o", label=recipe)
        axes.fill_between(places, values.min(1), values.max(1), alpha=0.2)
    axes.set(xscale="log", xlabel="photographs of each class", ylabel="accuracy on the test photographs")
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    """Trains on every size with every seed, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default=RECIPES["probe"].network)
    parser.add_argument("--each", default="5,20,100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    dataset, rows = load_dataset(arguments.photos), list[Row]()
    for each in map(int, arguments.each.split(",")):
        for recipe in (*SCRATCH, "probe"):
            found = []
            for seed in range(arguments.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    table = Path(folder) / "few.csv"
                    draw(dataset, each, seed, table)
                    found.append(measure(table, recipe, seed, arguments))
            accuracies = [accuracy for accuracy, _ in found]
            seconds = statistics.median(taken for _, taken in found)
            rows.append(Row(each, recipe, accuracies, round(seconds, 1)))
            listed = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
            print(
                f"{each:5d} a class  {recipe:10}  {statistics.mean(accuracies):.4f}  ({listed})  {seconds:.0f} s",
                flush=True,
            )
    (arguments.out / "few_pictures.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    draw_curve(rows, arguments.out / "few_pictures.png")


if __name__ == "__main__":
    main()
