"""Variants of a recipe, compared on held-out training images: accuracy, log loss and time per seed.

python benchmarks/variants.py DATA [--recipe quick] [--set batch_size=64 --set epochs=5] [--seeds 3]
    [--image-sizes 112,128]

3,000 training images are held out for measuring, and the others are trained on; test images are not used. The weights
of the last epoch are measured at each image size, with and without flip TTA.
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
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.image_cache import ImageArray, read_image_array
from belvedere.data.splits import stratified_group_split
from belvedere.runtime.memory import keep_freed_memory
from belvedere.runtime.progress import LineProgress, Progress
from belvedere.training.data_loader import ArrayDataset, DataLoader
from belvedere.training.device import Runtime, choose_device
from belvedere.training.loop import LoopConfig, run_loop, validate
from belvedere.training.networks import Network
from belvedere.training.recipe_config import change_recipe, choose_recipe
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import plan_batches, repeats_per_epoch
from belvedere.training.trainer import initialize_network
from belvedere.types.model import Preprocess

NUM_HELD_OUT = 3000


def divide(data: Path) -> tuple[HashedSamples, HashedSamples, tuple[str, ...]]:
    """Return the training and measuring samples, and the class names."""
    dataset = load_dataset(data)
    contents = hash_samples(dataset.samples, Progress()).in_splits("train")
    rest, measured = stratified_group_split(contents, NUM_HELD_OUT / len(contents.samples), seed=7)
    return rest, measured, dataset.class_names


def read(contents: HashedSamples, size: int, class_names: Sequence[str]) -> ArrayDataset:
    """Open the decoded images at a size."""
    pixels: ImageArray = read_image_array(contents, Preprocess(size, size), LineProgress())
    labels = np.array([class_names.index(sample.label) for sample in pixels.samples], np.int64)
    return ArrayDataset(pixels.images, labels)


def train(
    recipe: Recipe, train_data: ArrayDataset, watched: ArrayDataset, seed: int, runtime: Runtime
) -> tuple[Network, float]:
    """Train once; return the network of the last step and the seconds of the epochs, without validation."""
    network = initialize_network(recipe, len(set(train_data.labels)), seed, train_data.images)
    loader = DataLoader(train_data, runtime.device, repeats_per_epoch(len(train_data.labels), recipe))
    config = LoopConfig(recipe, plan_batches(len(loader), recipe), seed, runtime)
    start = time.perf_counter()
    with keep_freed_memory():
        done = run_loop(network, config, loader, DataLoader(watched, runtime.device))
    print(f"  {time.perf_counter() - start:.1f} s with validation", flush=True)
    return network, sum(row.seconds for row in done.history)


def measure(network: Network, samples: ArrayDataset, runtime: Runtime) -> NDArray[np.float64]:
    """Return accuracy and log loss without and with flip TTA: (4,)."""
    values: list[float] = []
    for both in (False, True):
        network.flip_tta = both
        found = validate(network, DataLoader(samples, runtime.device), runtime)
        values += [found.accuracy, found.loss]
    return np.array(values)


def parse_changes(settings: Sequence[str]) -> dict[str, object]:
    """Parse `key=value` with TOML values."""
    return {name: value for setting in settings for name, value in tomllib.loads(setting).items()}


def main() -> None:
    """Train seed by seed and print a row per image size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="key=value, as in a config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-sizes", default="112,128")
    options = parser.parse_args()
    recipe = change_recipe(choose_recipe(options.recipe), parse_changes(options.changes), "--set")
    runtime = Runtime(choose_device("auto"), progress=LineProgress())
    train_samples, measured, class_names = divide(options.data)
    train_data = read(train_samples, recipe.cached_image_size, class_names)
    held_out = {int(size): read(measured, int(size), class_names) for size in options.image_sizes.split(",")}
    watched = next(iter(held_out.values()))
    found: dict[int, list[NDArray[np.float64]]] = {size: [] for size in held_out}
    seconds = []
    for seed in range(options.seeds):
        network, took = train(recipe, train_data, watched, seed, runtime)
        seconds.append(took)
        for size, samples in held_out.items():
            found[size].append(measure(network, samples, runtime))
    print(f"{options.recipe} {' '.join(options.changes)}: {options.seeds} seeds, {statistics.mean(seconds):.1f} s each")
    for size, rows in found.items():
        accuracy, loss, accuracy_both, loss_both = np.mean(rows, axis=0)
        each = " ".join(f"{row[0]:.4f}" for row in rows)
        print(
            f"| {size} px | one view {accuracy:.4f}, log loss {loss:.3f} | flip TTA {accuracy_both:.4f}, "
            f"{loss_both:.3f} | {each} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
