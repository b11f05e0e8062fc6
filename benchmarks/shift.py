"""Accuracy of models on images that differ from the training images.

python benchmarks/shift.py MODEL... --data TEST [--other FOLDER] [--images N] [--drawn 50] [--write FOLDER]

TEST is a folder of class folders. Its images are evaluated as they are and with the corruptions of corruptions.py, each
at three strengths. They are made in memory, from a seed, and the same for an image however many are evaluated. FOLDER
holds images of another source: class folders, or labels.csv beside images/. Names that the models do not have are
translated (mountains, trees), images with several labels are left out. Drawn images are the scenes of `belvedere demo`.

Prints Markdown tables: accuracy of the most probable class, not of "none of these". "Shift" is the mean of the columns
corrupted, other source and drawn.
"""

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import belvedere
from belvedere.demo.scenes.drawing import CLASS_NAMES
from belvedere.demo.scenes.scenes import draw_scene
from belvedere.runtime.output_folder import atomic_folder
from belvedere.types.data import Sample
from corruptions import CORRUPTIONS, STRENGTHS, Pixels

TRANSLATED = {"mountains": "mountain", "trees": "forest"}


@dataclass(frozen=True)
class Labeled:
    """Images in memory with their names and labels."""

    names: list[str]
    images: list[Pixels]
    labels: list[str]

    @classmethod
    def read(cls, samples: Sequence[Sample], folder: Path) -> "Labeled":
        """Decode samples; names are relative to the folder."""
        names = [sample.path.relative_to(folder).as_posix() for sample in samples]
        images = [belvedere.read_image(sample.path) for sample in samples]
        return cls(names, images, [TRANSLATED.get(sample.label, sample.label) for sample in samples])

    def corrupt(self, kind: str, strength: int, seed: int) -> "Labeled":
        """Return corrupted images. An image has the same random numbers at all strengths."""
        corruption = CORRUPTIONS[kind]
        images = [
            corruption.apply(image, corruption.amounts[strength - 1], generator(seed, kind, name))
            for name, image in zip(self.names, self.images, strict=True)
        ]
        return Labeled(self.names, images, self.labels)

    def write(self, folder: Path) -> None:
        """Write PNG files into class folders."""
        for name, image, label in zip(self.names, self.images, self.labels, strict=True):
            file = folder / label / f"{Path(name).stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def generator(seed: int, kind: str, name: str) -> np.random.Generator:
    """Return the random generator of a corruption of an image."""
    return np.random.default_rng((seed, zlib.crc32(kind.encode()), zlib.crc32(name.encode())))


def read_test(folder: Path, class_names: Sequence[str], number: int | None, seed: int) -> Labeled:
    """Read the images of class folders, or a random subset of them."""
    samples = [each for each in belvedere.load_dataset(folder).samples if each.label in class_names]
    samples.sort(key=lambda sample: sample.path)
    chosen = np.random.default_rng(seed).permutation(len(samples))[:number]
    return Labeled.read([samples[index] for index in sorted(chosen)], folder)


def read_other(folder: Path, class_names: Sequence[str]) -> Labeled:
    """Read the images of another source that have one label, and one of these classes."""
    table = folder / "labels.csv"
    dataset = (
        belvedere.load_dataset(table, root=folder / "images") if table.exists() else belvedere.load_dataset(folder)
    )
    known = [each for each in dataset.samples if TRANSLATED.get(each.label, each.label) in class_names]
    return Labeled.read([each for each in known if not each.extra_labels], folder)


def draw(class_names: Sequence[str], per_class: int, seed: int) -> Labeled:
    """Draw scenes of the classes that the demo has too."""
    scenes = [
        draw_scene(name, seed * 1_000_003 + number)
        for name in CLASS_NAMES
        if name in class_names
        for number in range(per_class)
    ]
    return Labeled([""] * len(scenes), [scene.pixels for scene in scenes], [scene.label for scene in scenes])


def corrupted(clean: Labeled, seed: int, folder: Path | None) -> Iterator[tuple[str, Labeled]]:
    """Yield kinds with the images of each strength, written to a folder if one is given."""
    for kind in CORRUPTIONS:
        for strength in STRENGTHS:
            images = clean.corrupt(kind, strength, seed)
            if folder:
                images.write(folder / f"{kind} {strength}".replace(" ", "-"))
            yield kind, images


def measure(models: Sequence[belvedere.Model], data: Labeled, title: str) -> list[float]:
    """Return the accuracy of each model."""
    accuracies = []
    for model in models:
        predicted = [each.predicted_label for each in model.predict_iter(data.images)]
        accuracies.append(float(np.mean([a == b for a, b in zip(predicted, data.labels, strict=True)])))
    print(f"{title}: {' '.join(f'{accuracy:.4f}' for accuracy in accuracies)}", file=sys.stderr, flush=True)
    return accuracies


def print_summary(names: Sequence[str], columns: dict[str, list[float]]) -> None:
    """Print a row per model; the mean of all columns but the first comes last."""
    print(f"| model | {' | '.join(columns)} | shift |")
    print("|---" * (len(columns) + 2) + "|")
    for name, values in zip(names, zip(*columns.values(), strict=True), strict=True):
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in (*values, np.mean(values[1:])))} |")


def print_corruptions(names: Sequence[str], found: dict[str, list[list[float]]]) -> None:
    """Print a row per corruption: for each model the mean, and the accuracy at strength 1, 2 and 3."""
    print(f"\n| corruption | {' | '.join(f'{name}: mean | strength 1, 2, 3' for name in names)} |")
    print("|---" * (2 * len(names) + 1) + "|")
    for kind, strengths in found.items():
        cells = [
            f"{np.mean(values):.3f} | {' '.join(f'{value:.3f}' for value in values)}"
            for values in zip(*strengths, strict=True)
        ]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def evaluate(models: Sequence[belvedere.Model], options: argparse.Namespace, folder: Path | None) -> None:
    """Evaluate and print."""
    class_names = [name for name in models[0].class_names if all(name in model.class_names for model in models)]
    clean = read_test(options.data, class_names, options.images, options.seed)
    clean_name = f"clean ({len(clean.labels):,})"
    columns = {clean_name: measure(models, clean, clean_name)}
    others = {"other source": read_other(options.other, class_names)} if options.other else {}
    if options.drawn:
        others["drawn"] = draw(class_names, options.drawn, options.seed)
    for name, images in others.items():
        title = f"{name} ({len(images.labels):,})"
        columns[title] = measure(models, images, title)
    found: dict[str, list[list[float]]] = {kind: [] for kind in CORRUPTIONS}
    for kind, images in corrupted(clean, options.seed, folder):
        found[kind].append(measure(models, images, kind))
    columns["corrupted"] = [float(mean) for mean in np.mean(list(found.values()), (0, 1))]
    names = [f"{path.parent.name}/{path.name}" if path.is_file() else path.name for path in options.models]
    print_summary(names, columns)
    print_corruptions(names, found)


def main() -> None:
    """Read the options and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model files or runs")
    parser.add_argument("--data", type=Path, required=True, help="class folders of test images")
    parser.add_argument("--other", type=Path, help="images of another source")
    parser.add_argument("--images", type=int, help="number of test images; default: all")
    parser.add_argument("--drawn", type=int, default=50, help="drawn images per class; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="new folder for the corrupted images, as PNG")
    options = parser.parse_args()
    models = [belvedere.load_model(path) for path in options.models]
    for model in models:
        print(f"{model.name.rsplit('/', 1)[-1]}: SHA-256 {model.sha256[:12]}")
    print(f"Belvedere {belvedere.__version__}, seed {options.seed}\n", flush=True)
    if options.write:
        with atomic_folder(options.write, overwrite=False) as folder:
            evaluate(models, options, folder)
    else:
        evaluate(models, options, None)


if __name__ == "__main__":
    main()
