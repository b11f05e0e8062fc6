"""Changes to a recipe, compared on photographs kept back from the training ones: accuracy, log loss and time a seed.

python benchmarks/variants.py PHOTOS [--recipe quick] [--set batch_size=64 --set crop_ratio=1.5] [--seeds 3]
    [--sides 112,128]

Of the training part 3,000 photographs are kept back to measure on, and the rest is learnt from; the test photographs
are not looked at. Every seed measures the weights of its last epoch at each side, from one view and with the mirror
image.
"""

import argparse
import statistics
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import Contents, read_contents, select_split
from belvedere.data.image_cache import Pixels, read_pixels
from belvedere.data.splits import stratified_group_split
from belvedere.runtime.malloc import keep_freed_memory
from belvedere.runtime.progress import LineProgress, Progress
from belvedere.training.data_loader import DataLoader, Part
from belvedere.training.device import Hardware, choose_hardware
from belvedere.training.distributed import Distributed
from belvedere.training.loop import Plan, fit, validate
from belvedere.training.networks import Network
from belvedere.training.recipe_config import change_recipe, choose_recipe
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import count_steps, repeats_per_epoch
from belvedere.training.trainer import start_network
from belvedere.types.model import Preprocess

KEPT_BACK = 3000


def divide(photos: Path) -> tuple[Contents, Contents, tuple[str, ...]]:
    """Returns what to learn from, what to measure on, and the class names."""
    dataset = load_dataset(photos)
    contents = select_split(read_contents(dataset.samples, Progress()), "train")
    rest, measured = stratified_group_split(contents, KEPT_BACK / len(contents.samples), seed=7)
    return rest, measured, dataset.class_names


def read(contents: Contents, side: int, class_names: Sequence[str]) -> Part:
    """Opens the pixels of photographs at a side."""
    pixels: Pixels = read_pixels(contents, Preprocess(side, side), LineProgress())
    labels = np.array([class_names.index(sample.label) for sample in pixels.samples], np.int64)
    return Part(pixels.images, labels)


def train(recipe: Recipe, train_part: Part, watched: Part, seed: int, hardware: Hardware) -> tuple[Network, float]:
    """Trains once; returns the network of the last step and the seconds of the epochs, without validation."""
    network = start_network(recipe, len(set(train_part.labels)), seed, train_part.images)
    feed = DataLoader(train_part, hardware, repeats_per_epoch(len(train_part.labels), recipe))
    plan = Plan(recipe, count_steps(len(feed), recipe), seed, hardware, Distributed())
    start = time.perf_counter()
    with keep_freed_memory():
        done = fit(network, plan, feed, DataLoader(watched, hardware), progress=LineProgress(), keep=lambda _: None)
    print(f"  {time.perf_counter() - start:.1f} s with validation", flush=True)
    return network, sum(row.seconds for row in done.history)


def measure(network: Network, part: Part, hardware: Hardware) -> NDArray[np.float64]:
    """Returns accuracy and log loss from one view, and the same with the mirror image: (4,)."""
    figures: list[float] = []
    for both in (False, True):
        network.flip_tta = both
        found = validate(network, DataLoader(part, hardware), hardware, Distributed())
        figures += [found.accuracy, found.loss]
    return np.array(figures)


def parse_changes(settings: Sequence[str]) -> dict[str, object]:
    """Reads `key=value` with values as TOML writes them."""
    return {name: value for setting in settings for name, value in tomllib.loads(setting).items()}


def main() -> None:
    """Trains seed by seed and prints a row a side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="key=value, as in a config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sides", default="112,128")
    options = parser.parse_args()
    recipe = change_recipe(choose_recipe(options.recipe), parse_changes(options.changes), "--set")
    hardware = choose_hardware("auto")
    learnt, measured, class_names = divide(options.photos)
    train_part = read(learnt, recipe.cached_image_size, class_names)
    parts = {int(side): read(measured, int(side), class_names) for side in options.sides.split(",")}
    watched = next(iter(parts.values()))
    found: dict[int, list[NDArray[np.float64]]] = {side: [] for side in parts}
    seconds = []
    for seed in range(options.seeds):
        network, took = train(recipe, train_part, watched, seed, hardware)
        seconds.append(took)
        for side, part in parts.items():
            found[side].append(measure(network, part, hardware))
    print(f"{options.recipe} {' '.join(options.changes)}: {options.seeds} seeds, {statistics.mean(seconds):.1f} s each")
    for side, rows in found.items():
        accuracy, loss, accuracy_both, loss_both = np.mean(rows, axis=0)
        each = " ".join(f"{row[0]:.4f}" for row in rows)
        print(
            f"| {side} px | one view {accuracy:.4f}, log loss {loss:.3f} | both ways {accuracy_both:.4f}, "
            f"{loss_both:.3f} | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
