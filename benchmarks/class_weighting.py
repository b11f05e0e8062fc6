"""Recall of a small class with class weights and balanced sampling.

python benchmarks/class_weighting.py DATA TEST [--large glacier] [--small mountain] [--seeds 5] [--set quick]

Trains on 1,000 images of one class of DATA and 50 of another, with each of the settings below, and evaluates each model
on all images of the two classes in TEST, and on other images of DATA with the imbalance of the training images.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import belvedere
from belvedere.types.evaluation import Evaluation

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "balanced": {"class_weighting": "balanced"},
    "effective": {"class_weighting": "effective"},
    "sampling": {"sampling": "balanced"},
}


def link_images(sources: list[Path], folder: Path) -> None:
    """Fill a folder with links to images."""
    folder.mkdir(parents=True)
    for source in sources:
        (folder / source.name).symlink_to(source.resolve())


def describe(evaluation: Evaluation, small: str) -> list[float]:
    """Return recall of the small class, accuracy, macro F1 and calibration error."""
    recall = next(row.recall for row in evaluation.per_class if row.name == small)
    return [float(recall or 0), evaluation.accuracy, evaluation.macro_f1, evaluation.ece]


def main() -> None:
    """Train, evaluate and print a line for each run, then the means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--large", default="glacier")
    parser.add_argument("--small", default="mountain")
    parser.add_argument("--num-large", type=int, default=1000)
    parser.add_argument("--num-small", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    arguments = parser.parse_args()
    rows: dict[str, list[list[float]]] = {name: [] for name in arguments.settings}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as name:
            folder, random = Path(name), np.random.default_rng(seed)
            counts = {arguments.large: arguments.num_large, arguments.small: arguments.num_small}
            for label, number in counts.items():
                files = sorted((arguments.data / label).iterdir())
                chosen = [files[index] for index in random.permutation(len(files))]
                link_images(chosen[:number], folder / "train" / label)
                link_images(chosen[number : 2 * number], folder / "same" / label)
                link_images(sorted((arguments.test / label).iterdir()), folder / "test" / label)
            for setting in arguments.settings:
                run = belvedere.train(
                    folder / "train",
                    out=folder / setting,
                    recipe=arguments.recipe,
                    epochs=arguments.epochs,
                    seed=seed,
                    test_fraction=0.0,
                    validation_fraction=0.2,
                    **SETTINGS[setting],
                )
                model = run.load()
                found = [
                    figure
                    for split in ("test", "same")
                    for figure in describe(belvedere.evaluate(model, folder / split), arguments.small)
                ]
                rows[setting].append([*found, float(str(run.metrics["training_seconds"]))])
                print(setting, seed, *(f"{value:.4f}" for value in rows[setting][-1]), flush=True)
    for setting, found_rows in rows.items():
        values = np.array(found_rows)
        print(
            "mean", setting, *(f"{m:.4f}±{s:.4f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True))
        )


if __name__ == "__main__":
    main()
