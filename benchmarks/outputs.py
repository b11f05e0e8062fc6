"""Tags, area fractions and the cost of all outputs of a model.

python benchmarks/outputs.py MODEL DATA [--tags TABLE] [--natural FOLDER]

TABLE has the columns image and label (`sea|mountain`). Tags are measured as they are, and fitted to 40, 100 and four
fifths of the table, each on the remaining images (ten draws). FOLDER is the LAMDA natural scenes (labels.csv,
images/): average precision of mountains, sea and trees. Area fractions are measured on synthetic images with known
areas. The time of all outputs and their postprocessing is compared with that of logits, probabilities and embedding,
in turn, on decoded images.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.demo.scenes.drawing import CLASS_NAMES
from belvedere.demo.scenes.scenes import draw_fjord, draw_scene
from belvedere.evaluation.metrics import average_precision, tag_metrics
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import read_inputs
from belvedere.images.listing import list_images
from belvedere.images.resize import resize_image
from belvedere.inference.model import Model, load_model
from belvedere.inference.tags import TAG_THRESHOLD, fit_tags_multilabel, tag_confidences
from belvedere.types.model import TagModel

DRAWS = 10
NATURAL = {"mountain": "mountains", "sea": "sea", "forest": "trees"}
DRAWN = 12  # of each class, and fjords


def read(model: Model, paths: list[Path]) -> tuple[NDArray[np.uint8], list[int]]:
    """Decode readable images; return them with their paths."""
    outcomes = enumerate(read_inputs(paths, model.card.preprocess))
    found = [(index, each.pixels) for index, each in outcomes if isinstance(each, DecodedImage)]
    return np.stack([pixels for _, pixels in found]), [k for k, _ in found]


def activation_maps(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute class activation maps."""
    return np.concatenate(
        [model.forward_activation_maps(images[start : start + 64]) for start in range(0, len(images), 64)]
    )


def measure(rule: TagModel, maps: NDArray[np.float32], present: NDArray[np.bool_]) -> tuple[float, float]:
    """Compute micro F1 and mean average precision."""
    sure = tag_confidences(rule, maps)
    none = np.zeros(present.shape)
    found = tag_metrics(sure >= TAG_THRESHOLD, sure, none, present, np.full(present.shape, np.nan))
    return found.micro_f1 or 0.0, found.mean_average_precision or 0.0


def print_tags(model: Model, rule: TagModel, table: Path) -> None:
    """Print tag metrics on a table with several labels."""
    samples = load_dataset(table).samples
    images, indices = read(model, [sample.path for sample in samples])
    maps = activation_maps(model, images)
    present = np.array(
        [[name in (samples[k].label, *samples[k].extra_labels) for name in model.class_names] for k in indices]
    )
    print("tags, before calibration: micro F1 {:.3f}, mAP {:.3f}".format(*measure(rule, maps, present)))
    for count in (40, 100, len(indices) * 4 // 5):
        values = []
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(indices))
            fitted = fit_tags_multilabel(rule, maps[order[:count]], present[order[:count]])
            values.append(measure(fitted, maps[order[count:]], present[order[count:]]))
        f1, precision = np.mean(values, 0)
        print(f"tags, fitted to {count} of {len(indices)}, on the others: micro F1 {f1:.3f}, mAP {precision:.3f}")


def print_natural(model: Model, rule: TagModel, folder: Path) -> None:
    """Print average precision on images of another source."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        labels = {row["image"]: set(row["labels"].split("|")) for row in csv.DictReader(file)}
    paths = [path for path in list_images(folder / "images") if path.name in labels]
    images, indices = read(model, paths)
    sure = tag_confidences(rule, activation_maps(model, images))
    found = {}
    for ours, theirs in NATURAL.items():
        truth = np.array([theirs in labels[paths[k].name] for k in indices])
        found[theirs] = average_precision(sure[:, model.class_names.index(ours)], truth) or 0.0
    listed = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    print(f"natural scenes, average precision: {listed}; mean {np.mean(list(found.values())):.3f}")


def print_area_fractions(model: Model) -> None:
    """Print area fractions of synthetic images, of the whole image and of the labeled area."""
    scenes = [draw_scene(name, 7000 + k) for name in CLASS_NAMES for k in range(DRAWN)]
    scenes += [draw_fjord(7000 + k) for k in range(DRAWN)]
    pixels = np.stack([resize_image(scene.pixels, model.card.preprocess) for scene in scenes])
    predictions = model.to_predictions(model.forward_all(pixels), [""] * len(scenes), [()] * len(scenes))
    errors = []
    for scene, prediction in zip(scenes, predictions, strict=True):
        fractions = {tag.name: tag.area_fraction for tag in prediction.tags}
        whole = sum(scene.area_fractions.values())
        for name in model.class_names:
            area = scene.area_fractions.get(name, 0.0)
            errors.append((abs(fractions.get(name, 0.0) - area), abs(fractions.get(name, 0.0) - area / whole)))
    right = np.mean(
        [prediction.predicted_label == scene.label for scene, prediction in zip(scenes, predictions, strict=True)]
    )
    of_all, of_classes = np.mean(errors, 0)
    print(
        f"synthetic images: accuracy {right:.3f}, error of the area fractions {of_all:.3f} (of the labeled area "
        f"{of_classes:.3f})"
    )


def print_cost(model: Model, data: Path) -> None:
    """Print the time of all outputs and postprocessing against class probabilities alone."""
    images, indices = read(model, list(list_images(data))[:512])
    names: list[str] = [""] * len(indices)
    warnings: list[tuple[str, ...]] = [()] * len(indices)
    plain, whole = [], []
    for _ in range(7):
        started = time.perf_counter()
        model.forward(images)
        middle = time.perf_counter()
        model.to_predictions(model.forward_all(images), names, warnings)
        plain.append(middle - started)
        whole.append(time.perf_counter() - middle)
    print(f"cost: {np.median(whole) / np.median(plain) - 1:+.1%} over the class alone ({len(indices)} images)")


def main() -> None:
    """Print all metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tags", type=Path)
    parser.add_argument("--natural", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    rule = model.card.uncertainty.tag_model
    if rule is None:
        raise SystemExit("This model has no tags.")
    if options.tags:
        print_tags(model, rule, options.tags)
    if options.natural:
        print_natural(model, rule, options.natural)
    print_area_fractions(model)
    print_cost(model, options.data)


if __name__ == "__main__":
    main()
