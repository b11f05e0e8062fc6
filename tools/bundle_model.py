"""Make the bundled model.

python tools/bundle_model.py DATA --weights VIT_TINY.safetensors [--teacher RUN] [--run RUN]

Fine-tunes a ViT-Tiny on the Intel scenes, trains a small network on its predictions for crops, quantizes it to int8,
compares the predictions on every test image with the original's, and writes
src/belvedere/inference/assets/scenes.onnx with its card. Existing runs are used.
"""

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

import belvedere
from belvedere.data.dataset import Dataset
from belvedere.data.sampling import evenly_spaced
from belvedere.evaluation.evaluate import evaluate
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import read_inputs
from belvedere.inference.model import Model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_paths import BUNDLED, MODEL_NAME
from belvedere.inference.onnx_transforms import load_graph, to_float16_weights, to_int8
from belvedere.runtime.files import write_bytes, write_text
from belvedere.runtime.progress import LineProgress
from belvedere.training.recipe_config import change_recipe
from belvedere.training.recipes import RECIPES
from belvedere.types.evaluation import Evaluation

MAX_BYTES = 4_000_000
TEACHER = replace(
    RECIPES["finetune"],
    epochs=4,
    image_size=128,
    image_size_schedule=((0.0, 112.0), (0.6, 128.0)),
    cached_image_size=150,
)
RECIPE = replace(
    RECIPES["standard"],
    network="compact-large",
    image_size=128,
    image_size_schedule=((0.0, 64.0), (0.8, 96.0)),
    epochs=46,
    flip_tta=False,
    crop_ratio=(0.6, 1.67),
    color_jitter=0.3,
    grayscale_prob=0.1,
    degradation_prob=0.2,
    cutout_prob=0.2,
    mixup_prob=0.15,
    cutmix_prob=0.15,
    teacher_image_size=128,
    distillation_alpha=0.9,
    distillation_embedding_weight=1.0,
)
NUM_CALIBRATION_IMAGES = 128  # for the ranges of the activations
MIN_AGREEMENT = 0.99  # fraction of the test images with the same predicted class


def train_missing(options: argparse.Namespace, progress: LineProgress) -> None:
    """Train the teacher and the network, unless their runs exist."""
    if not options.teacher.exists():
        teacher = replace(TEACHER, weights=options.weights)
        belvedere.train(options.data, out=options.teacher, recipe=teacher, resume=True, progress=progress)
    if not options.run.exists():
        recipe = replace(RECIPE, teacher=str(options.teacher))
        belvedere.train(options.data, out=options.run, recipe=recipe, resume=True, progress=progress)
    made_by = tomllib.loads((options.run / "config.toml").read_text(encoding="utf-8"))["recipe"] | {"teacher": ""}
    if change_recipe(RECIPE, made_by, "config.toml") != RECIPE:
        sys.exit(f"{options.run} was not made by today's recipe for it: delete it, or choose another --run.")


def quantize(run: Path, original: Model, dataset: Dataset) -> bytes:
    """Return the model of a run in int8, its other large tensors in float16, with the card of the run."""
    samples = dataset.split("train")
    chosen = [samples[row].path for row in evenly_spaced(len(samples), NUM_CALIBRATION_IMAGES)]
    read = read_inputs(chosen, original.card.preprocess)
    images: NDArray[np.uint8] = np.stack([each.pixels for each in read if isinstance(each, DecodedImage)])
    graph = to_float16_weights(to_int8(load_graph((run / MODEL_NAME).read_bytes()), images))
    onnx.helper.set_model_props(graph, card_to_metadata(original.card))
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString()
    return content


def describe(model: Model, measured: Evaluation, figures: str, size_bytes: int) -> str:
    """Write the model card."""
    made, size = model.card.provenance, model.card.preprocess.height
    duration = f"{made.epochs} epochs in {made.training_seconds / 60:.0f} minutes on {made.device}, {made.precision}"
    rows = "\n".join(
        f"| {row.name} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} | {row.support} |"
        for row in measured.per_class
    )
    pairs = ", ".join(
        f"{each.label} predicted as {each.predicted_label} {each.count}" for each in measured.confusions[:4]
    )
    return f"""# scenes.onnx

The default model, with the classes {", ".join(model.class_names)}.

- **Trained on** {made.num_images["train"]:,} training images of the Intel scenes, from fresh weights; the targets are
  mostly the predictions of a ViT-Tiny (ImageNet-21k to 1k, Apache-2.0) that was fine-tuned on the same images.
  {made.num_images["validation"]:,} more were held out for validation. SHA-256 over contents and labels:
  `{made.data_sha256}`.
- **Made by** `python tools/bundle_model.py intel --weights vit_tiny_patch16_224.safetensors`: network
  `{made.network}`, seed {made.seed}, {duration}; torch {made.versions["torch"]}. Weights and activations are int8.
- **Measured** on {measured.num_images:,} official test images, which were used for nothing else: {figures}.
- **Size** {size_bytes / 1e6:.2f} MB; input {size} x {size} RGB.

| class | precision | recall | F1 | images |
|---|---|---|---|---|
{rows}

**Limitations.** The model has six classes of outdoor scenes, and predicts "none of these" for most other images, not
for all. Most mistakes: {pairs}; a careful person agrees with the labels of the dataset on 92 to 93% only. The images
have 150 x 150 pixels, and are from the web, with unclear licenses; none is in this file. License of the file:
Apache-2.0.
"""


def main() -> None:
    """Train if needed, convert, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="", help="of timm's vit_tiny_patch16_224; default: from the hub")
    parser.add_argument("--teacher", type=Path, default=Path("run-teacher"))
    parser.add_argument("--run", type=Path, default=Path("run-bundled"))
    options = parser.parse_args()
    progress = LineProgress()
    train_missing(options, progress)
    original, dataset = belvedere.load_model(options.run), belvedere.load_dataset(options.data)
    content = quantize(options.run, original, dataset)
    if len(content) > MAX_BYTES:
        sys.exit(f"{len(content):,} bytes, over {MAX_BYTES:,}")
    before = evaluate(original, dataset, progress=progress)
    after = evaluate(Model.from_bytes(content, original.card), dataset, progress=progress)
    pairs = list(zip(before.predictions, after.predictions, strict=True))
    agreement = sum(one.predicted_label == other.predicted_label for one, other in pairs) / len(pairs)
    changes = [
        abs(value - other.probabilities[name]) for one, other in pairs for name, value in one.probabilities.items()
    ]
    figures = (
        f"accuracy {after.accuracy:.4f} ({round(after.accuracy * after.num_images):,} of {after.num_images:,}), "
        f"macro F1 {after.macro_f1:.4f}, log loss {after.log_loss:.4f}, calibration error {after.ece:.4f}"
    )
    print(f"float32 {before.accuracy:.4f}, int8 {after.accuracy:.4f} of {before.num_images}")
    print(f"same class {agreement:.4f}, largest change of a probability {max(changes):.4f}, {len(content):,} bytes")
    if agreement < MIN_AGREEMENT:
        sys.exit(f"They agree on {agreement:.4f} only, under {MIN_AGREEMENT}")
    write_bytes(BUNDLED, content)
    write_text(BUNDLED.with_suffix(".md"), describe(original, after, figures, len(content)))
    print(f"written: {BUNDLED}")


if __name__ == "__main__":
    main()
