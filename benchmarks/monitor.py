"""False alarms, power and expected accuracy of `belvedere monitor`.

python benchmarks/monitor.py MODEL DATA [--other FOLDER] [--out benchmarks/results/monitor.md]

MODEL is a model or run, DATA a folder of class folders with images that it was not trained on. For each seed, DATA is
divided: one half takes the place of the test images of the run, the other half is new, unchanged or corrupted. --other
is a folder of class folders of another source, whose names are classes of the model.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

import belvedere
from belvedere.data.sampling import evenly_spaced
from belvedere.evaluation.monitoring.compare_samples import run_tests
from belvedere.evaluation.monitoring.estimates import expect_accuracy
from belvedere.evaluation.monitoring.samples import Sampled
from belvedere.images.resize import resize_image
from belvedere.inference.model_graph import BATCH_SIZE

SEEDS = 200  # of false alarms
POWER_SEEDS = 20
NEW_SIZES = (50, 150)
CORRUPTIONS: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "brightness 0.7": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brightness 0.4": lambda image: ImageEnhance.Brightness(image).enhance(0.4),
    "blur 1 pixel": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blur 3 pixels": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "contrast 0.4": lambda image: ImageEnhance.Contrast(image).enhance(0.4),
    "gray": lambda image: image.convert("L").convert("RGB"),
}


@dataclass(frozen=True)
class Labeled:
    """Predictions and labels of images."""

    sampled: Sampled
    is_correct: NDArray[np.bool_]

    def take(self, index: NDArray[np.intp]) -> "Labeled":
        """Return a part of the images."""
        whole = self.sampled
        assert whole.none_of_these_score is not None
        assert whole.embeddings is not None
        part = Sampled(
            whole.class_names, whole.probabilities[index], whole.none_of_these_score[index], whole.embeddings[index]
        )
        return Labeled(part, self.is_correct[index])


def predict(
    model: belvedere.Model, files: list[Path], labels: list[str], change: Callable[[Image.Image], Image.Image]
) -> Labeled:
    """Predict files after a change."""
    probabilities, scores, embeddings = [], [], []
    for start in range(0, len(files), BATCH_SIZE):
        images = [change(Image.fromarray(belvedere.read_image(path))) for path in files[start : start + BATCH_SIZE]]
        pixels = np.stack([resize_image(np.asarray(each), model.card.preprocess) for each in images])
        outputs = model.forward_all(pixels)
        predictions = model.to_predictions(outputs, ["image"] * len(images), [()] * len(images))
        probabilities += [each.probability_values for each in predictions]
        scores += [each.none_of_these_score for each in predictions]
        embeddings.append(outputs.embedding)
    sampled = Sampled(
        model.class_names, np.array(probabilities), np.array(scores, np.float64), np.concatenate(embeddings)
    )
    index = np.array([model.class_names.index(label) for label in labels])
    return Labeled(sampled, sampled.probabilities.argmax(1) == index)


def list_files(folder: Path, names: tuple[str, ...], max_images: int) -> tuple[list[Path], list[str]]:
    """Return the images of class folders, and their labels."""
    dataset = belvedere.load_dataset(folder)
    samples = [each for each in dataset.samples if each.label in names and not each.extra_labels]
    samples = [samples[k] for k in evenly_spaced(len(samples), min(max_images, len(samples)))]
    return [each.path for each in samples], [each.label for each in samples]


def detection(reference: Labeled, new: Labeled, number: int, seeds: int) -> list[float]:
    """Return how often anything, and each test, is reported; the halves hold different images."""
    found: list[list[bool]] = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(reference.is_correct))
        half, rest = order[: len(order) // 2], order[len(order) // 2 :]
        if len(new.is_correct) == len(reference.is_correct):
            chosen = rest[:number]  # the same images as of the reference, changed
        else:
            chosen = np.random.default_rng(seed).permutation(len(new.is_correct))[:number]
        tests = run_tests(reference.take(half).sampled, new.take(chosen).sampled, 0.95, seed)
        found.append([any(each.is_changed for each in tests), *(each.is_changed for each in tests)])
    return [float(each) for each in np.mean(found, 0)]


def accuracy_row(name: str, reference: Labeled, new: Labeled) -> str:
    """Return a row with the true and the expected accuracy."""
    rows = []
    for seed in range(POWER_SEEDS):
        order = np.random.default_rng(seed).permutation(len(reference.is_correct))
        half, rest = reference.take(order[: len(order) // 2]), order[len(order) // 2 :]
        part = new.take(rest) if len(new.is_correct) == len(reference.is_correct) else new
        expected = expect_accuracy(half.is_correct, half.sampled.confidence, part.sampled.confidence)
        true = float(part.is_correct.mean())
        rows.append((true, part.sampled.confidence.mean(), expected.value, expected.difference_of_confidences))
    values = np.array(rows)
    errors = 100 * (values[:, 2:] - values[:, :1])
    largest = errors[np.abs(errors).argmax(0), [0, 1]]
    true, confidence, atc, difference = values.mean(0)
    return (
        f"| {name} | {true:.1%} | {confidence:.1%} | {atc:.1%} | {errors[:, 0].mean():+.1f} ({largest[0]:+.1f}) | "
        f"{difference:.1%} | {errors[:, 1].mean():+.1f} ({largest[1]:+.1f}) |"
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--max-images", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/monitor.md"))
    arguments = parser.parse_args()
    model = belvedere.load_model(arguments.model)
    files, labels = list_files(arguments.data, model.class_names, arguments.max_images)
    reference = predict(model, files, labels, lambda image: image)
    sources = {"unchanged": reference}
    sources |= {name: predict(model, files, labels, change) for name, change in CORRUPTIONS.items()}
    if arguments.other:
        sources["another source"] = predict(
            model, *list_files(arguments.other, model.class_names, arguments.max_images), lambda image: image
        )
    lines = [
        "# Monitoring\n",
        f"`python benchmarks/monitor.py MODEL DATA`, model {model.sha256[:12]}, {len(files):,} images that it was not "
        "trained on. A random half is the reference, new images are from the other half.\n",
        "## How often a change is reported\n",
        f"Over {SEEDS} seeds for unchanged images (nominally at most 5%), {POWER_SEEDS} for the others.\n",
        "| new images | number | any | predicted classes | confidence | none of these | its score | embeddings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, new in sources.items():
        for number in NEW_SIZES:
            rates = detection(reference, new, number, SEEDS if name == "unchanged" else POWER_SEEDS)
            lines.append(f"| {name} | {number} | {' | '.join(f'{rate:.1%}' for rate in rates)} |")
    lines += [
        "\n## How wrong the expected accuracy is\n",
        f"Mean over {POWER_SEEDS} seeds, in percentage points: a random half is the reference, the other is new. In "
        "brackets: the largest error.\n",
        "| new images | true accuracy | mean confidence | expected (ATC) | error | difference of confidences | error |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [accuracy_row(name, reference, new) for name, new in sources.items()]
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
