"""Accuracy and time of starting from a trained model with a new class, compared with training from scratch.

python benchmarks/start_from.py DATA TEST OTHERS [--each 250] [--new 100] [--epochs 10] [--more-epochs 3]

Trains on some images of the classes in DATA, then starts from this run with 100 images of another class, those in the
folder OTHERS, and trains on the same images from scratch.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import belvedere
from belvedere.training.recipes import RECIPES

RATES = ("learning_rate", "muon_learning_rate")


def link_images(sources: list[Path], folder: Path) -> None:
    """Fill a folder with links to images."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        (folder / f"{source.parent.name}-{source.name}").symlink_to(source.resolve())


def draw(folder: Path, number: int, seed: int) -> list[Path]:
    """Return some images of a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [files[index] for index in np.random.default_rng(seed).permutation(len(files))[:number]]


def main() -> None:
    """Train three times, and print the metrics of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("--each", type=int, default=250)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--each-test", type=int, default=250)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--more-epochs", type=int, default=3)
    parser.add_argument("--sampling", default="balanced")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the recipe's rates")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, seed = Path(name), arguments.seed
        classes = sorted(each.name for each in arguments.data.iterdir() if each.is_dir())
        for label in classes:
            link_images(draw(arguments.data / label, arguments.each, seed), folder / "old" / label)
            link_images(draw(arguments.data / label, arguments.each, seed), folder / "new" / label)
            link_images(draw(arguments.test / label, arguments.each_test, seed), folder / "test" / label)
        others = draw(arguments.others, arguments.new + arguments.each_test, seed)
        link_images(others[: arguments.new], folder / "new" / "others")
        link_images(others[arguments.new :], folder / "test-others" / "others")
        common: dict[str, Any] = {"test_fraction": 0.0, "validation_fraction": 0.15, "seed": seed}
        runs = {}
        start = {
            "start_from": folder / "six classes",
            "epochs": arguments.more_epochs,
            "sampling": arguments.sampling,
        }
        start |= {key: arguments.rate * getattr(RECIPES["quick"], key) for key in RATES}
        settings: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("six classes", "old", {"recipe": "quick", "epochs": arguments.epochs}),
            ("from the trained model", "new", start),
            ("from scratch", "new", {"recipe": "quick", "epochs": arguments.epochs, "sampling": "balanced"}),
        )
        for title, data, keys in settings:
            started, cpu = time.perf_counter(), time.process_time()
            runs[title] = belvedere.train(folder / data, out=folder / title, **keys, **common)
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
            model = runs[title].load()
            old = belvedere.evaluate(model, folder / "test")
            recall = float("nan")
            if "others" in model.class_names:
                recall = belvedere.evaluate(model, folder / "test-others").accuracy
            print(
                f"{title}: accuracy on the {len(classes)} classes {old.accuracy:.4f}, recall of the new class "
                f"{recall:.4f}, training {runs[title].metrics['training_seconds']:.1f} s, in all {seconds:.1f} s, "
                f"CPU {cpu_seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
