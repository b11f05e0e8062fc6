"""Precision and recall of weak slices: of images that were darkened, blurred or come from another source.

python benchmarks/weak_slices.py MODEL DATA --other TABLE [--images 1200] [--draws 20] [--out results.csv]

For each draw, a test set is drawn from DATA, and a tenth of it is harmed: darkened, blurred, or replaced by images of
TABLE with the same classes. Each image is predicted once in each state, and all are written as JPEGs of one quality, so
that only the harm tells them apart. Counted are the draws in which a slice is reported, and its precision and recall
for the harmed images. Without harm, every reported slice is counted as a false one.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.data.sampling import evenly_spaced
from belvedere.evaluation.weak_slices.attributes import AttributeReader, ImageAttributes
from belvedere.evaluation.weak_slices.find import find_weak_slices
from belvedere.runtime.serialization import write_csv
from belvedere.types.data import Sample
from belvedere.types.prediction import Prediction

HARMED_FRACTION = 0.1
JPEG_QUALITY = 90
HARMS: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "darkened": lambda image: image.point(lambda level: 0.08 * level),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
}
CLASSES = {"mountains": "mountain", "sea": "sea", "trees": "forest"}  # of the other source


@dataclass
class Observed:
    """Predictions and attributes of the images in one state."""

    predictions: list[Prediction] = field(default_factory=list)
    attributes: dict[str, ImageAttributes] = field(default_factory=dict)


def observe(model: belvedere.Model, samples: list[Sample], harm: str, folder: Path) -> Observed:
    """Predict images in one state; all are in one folder, so that it tells nothing."""
    paths = []
    for number, sample in enumerate(samples):
        image = HARMS[harm](Image.fromarray(belvedere.read_image(sample.path)))
        paths.append(folder / f"{harm}-{sample.path.parent.name}-{number}.jpg")
        image.save(paths[-1], quality=JPEG_QUALITY)
    reader, found = AttributeReader(), Observed()
    for path, sample, prediction in zip(paths, samples, model.predict_sources(paths, observer=reader), strict=True):
        found.predictions.append(replace(prediction, label=sample.label))
        found.attributes[prediction.image] = reader.by_path[path]
    return found


def draw(clean: Observed, harmed: Observed, number: int, seed: int) -> tuple[list[Prediction], set[str]]:
    """Return a test set, and the names of its harmed images."""
    random = np.random.default_rng(seed)
    num_harmed = min(round(HARMED_FRACTION * number), len(harmed.predictions))
    chosen = random.permutation(len(clean.predictions))[: number - num_harmed]
    replaced = random.permutation(len(harmed.predictions))[:num_harmed]
    bad = [harmed.predictions[i] for i in replaced]
    return [clean.predictions[i] for i in chosen] + bad, {each.image for each in bad}


def measure(clean: Observed, harmed: Observed, number: int, seed: int) -> dict[str, object]:
    """Return what is reported of one test set: the slice that holds most of the harmed images."""
    predictions, bad = draw(clean, harmed, number, seed)
    slices = find_weak_slices(predictions, clean.attributes | harmed.attributes, seed)
    best = max(slices, key=lambda each: len(bad & set(each.images)), default=None)
    hits = 0 if best is None else len(bad & set(best.images))
    wrong = [each.predicted_label != each.label for each in predictions if each.image in bad]
    return {
        "seed": seed,
        "slices": len(slices),
        "precision": 0.0 if best is None else hits / best.num_images,
        "recall": hits / max(1, len(bad)),
        "accuracy of harmed": 1 - float(np.mean(wrong)) if wrong else 0.0,
        "description": "; ".join(f"{each.description} {each.accuracy:.0%} n={each.num_images}" for each in slices),
    }


def main() -> None:
    """Measure all harms and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--other")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = belvedere.load_model(arguments.model)
    every = list(load_dataset(arguments.data).samples)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean = observe(model, every, "none", folder)
        some = [every[i] for i in evenly_spaced(len(every), min(len(every), 3 * arguments.images // 10))]
        states = {harm: observe(model, some, harm, folder) for harm in ("darkened", "blurred")}
        if arguments.other:
            others = load_dataset(arguments.other).samples
            samples = [replace(each, label=CLASSES[each.label]) for each in others if each.label in CLASSES]
            states["another source"] = observe(model, samples, "none", folder)
    for harm, harmed in {"none": clean, **states}.items():
        for seed in range(arguments.draws):
            found = measure(clean, Observed() if harm == "none" else harmed, arguments.images, seed)
            rows.append({"harm": harm, **found})
            print(*rows[-1].values(), sep="\t", flush=True)
    if arguments.out:
        write_csv(arguments.out, list(rows[0]), [tuple(row.values()) for row in rows])
    for harm in ("none", *states):
        own = [row for row in rows if row["harm"] == harm]
        reported = sum(bool(row["slices"]) for row in own)
        means = [
            float(np.mean([float(str(row[key])) for row in own]))
            for key in ("precision", "recall", "accuracy of harmed")
        ]
        print(f"{harm}: reported in {reported} of {len(own)}; precision {means[0]:.3f}, recall {means[1]:.3f}")


if __name__ == "__main__":
    main()
