"""Test accuracy on bursts, with and without groups, against the accuracy on images of other scenes.

python benchmarks/bursts.py DATA [--classes glacier mountain] [--draws 100] [--ungrouped 10]

Each draw takes 6 images of each class of DATA as scenes, and cuts 8 shots from each: shifted by up to a tenth, a little
lighter or darker. The stages of `train` hold out test images and train a network, with the column `group` of the table,
and in the first draws also without it. The network is evaluated on the test images, as `train` reports it, and on a
shot of each of 100 other images of each class.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.image_cache import read_image_array
from belvedere.data.splits import split_dataset
from belvedere.runtime.progress import Progress
from belvedere.training.data_loader import ArrayDataset, DataLoader
from belvedere.training.device import Runtime, choose_device
from belvedere.training.distributed import init_distributed
from belvedere.training.loop import predict_logits
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import Recipe
from belvedere.training.trainer import FitPlan, build_network, fit
from belvedere.training.training_data import load_training_data

SCENES, SHOTS, OTHERS = 6, 8, 100  # scenes of a class, shots of a scene, images of other scenes of a class
SHIFT = 0.1  # of the sides


def cut(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return one shot of a scene."""
    width, height = (round(side * (1 - SHIFT)) for side in image.size)
    left, top = (
        int(random.integers(0, side - part + 1)) for side, part in zip(image.size, (width, height), strict=True)
    )
    shot = image.crop((left, top, left + width, top + height))
    return ImageEnhance.Brightness(shot).enhance(float(random.uniform(0.92, 1.08)))


def draw(data: Path, classes: list[str], seed: int, folder: Path) -> tuple[Path, Path, Path]:
    """Write the shots; return a table with groups, one without, and one of the other scenes."""
    random = np.random.default_rng(seed)
    rows: list[tuple[str, ...]] = []
    others: list[tuple[str, ...]] = []
    for label in classes:
        files = sorted((data / label).iterdir())
        chosen = [files[index] for index in random.permutation(len(files))[: SCENES + OTHERS]]
        for number, file in enumerate(chosen):
            scene = Image.open(file).convert("RGB")
            for shot in range(SHOTS if number < SCENES else 1):
                name = f"{label}-{number}-{shot}.jpg"
                cut(scene, random).save(folder / name, quality=90)
                if number < SCENES:
                    rows.append((name, label, f"{label}-{number}"))
                else:
                    others.append((name, label))
    tables = {"grouped.csv": rows, "plain.csv": [row[:2] for row in rows], "others.csv": others}
    for name, lines in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("image", "label", "group")[: len(lines[0])], *lines])
    grouped, plain, other = (folder / name for name in tables)
    return grouped, plain, other


def measure(table: Path, others: Path, seed: int, recipe: Recipe, runtime: Runtime) -> tuple[float, float]:
    """Train; return the accuracy on the test images that were held out, and that on other scenes."""
    dataset = load_dataset(table)
    split = split_dataset(dataset, recipe.split_fractions, seed, runtime.progress)
    data = load_training_data(split, recipe, dataset.class_names, runtime)
    network = build_network(recipe, data, seed, runtime)
    fit(network, data, FitPlan(recipe, seed, runtime))

    def accuracy(contents: HashedSamples) -> float:
        found = read_image_array(contents, data.preprocess, runtime.progress)
        labels = np.array([dataset.class_names.index(sample.label) for sample in found.samples], np.int64)
        loader = DataLoader(ArrayDataset(found.images, labels), runtime.device)
        return float((predict_logits(network, loader, runtime).argmax(1) == labels).mean())

    return accuracy(split.hashed_test), accuracy(hash_samples(load_dataset(others).samples, runtime.progress))


def main() -> None:
    """Draw, train and print a line for each training, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", nargs="+", default=["glacier", "mountain"])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--ungrouped", type=int, default=10)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    recipe = choose_recipe(options.recipe, epochs=options.epochs)
    runtime = Runtime(choose_device("auto"), init_distributed("auto"), Progress())
    found: dict[str, list[tuple[float, float]]] = {"grouped": [], "plain": []}
    for seed in range(options.draws):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            grouped, plain, others = draw(options.data, options.classes, seed, folder)
            for table in (grouped, plain) if seed < options.ungrouped else (grouped,):
                found[table.stem].append(measure(table, others, seed, recipe, runtime))
                print(seed, table.stem, *(f"{value:.4f}" for value in found[table.stem][-1]), flush=True)
    for kind, pairs in found.items():
        values = np.array(pairs)
        difference = values[:, 0] - values[:, 1]
        error = difference.std(ddof=1) / len(difference) ** 0.5
        means = " ".join(f"{value:.4f}" for value in values.mean(0))
        print(f"mean {kind}: reported and other scenes {means}, difference {difference.mean():+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
