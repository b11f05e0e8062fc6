"""Make the bundled model.

python tools/bundle_model.py DATA [--run RUN]

Trains the recipe `best`, with a network that fits into 4 MB, on the Intel scenes, or loads an existing RUN, stores
the weights as float16, compares the predictions on every test image with the original's, and writes
src/belvedere/inference/assets/scenes.onnx. Prints the test accuracy of both.
"""

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import onnx

import belvedere
from belvedere.evaluation.evaluate import evaluate
from belvedere.inference.model import Model
from belvedere.inference.model_paths import BUNDLED, MODEL_NAME
from belvedere.inference.onnx_transforms import to_float16_weights
from belvedere.runtime.files import write_bytes, write_text
from belvedere.runtime.progress import LineProgress
from belvedere.training.recipe_config import change_recipe
from belvedere.training.recipes import RECIPES
from belvedere.types.evaluation import Evaluation

MAX_BYTES = 4_000_000
RECIPE = replace(RECIPES["best"], network="compact-large")
MIN_AGREEMENT = 0.995  # fraction of the test images with the same predicted class


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

- **Trained on** {made.num_images["train"]:,} training images of the Intel scenes;
  {made.num_images["validation"]:,} more were held out for validation. No pretrained weights.
  SHA-256 over contents and labels: `{made.data_sha256}`.
- **Made by** `python tools/bundle_model.py intel`: recipe `{made.recipe}` (network `{made.network}`), seed {made.seed},
  {duration}; torch {made.versions["torch"]}. Weights are stored in float16.
- **Measured** on {measured.num_images:,} official test images, which were used for nothing else: {figures}.
- **Size** {size_bytes / 1e6:.2f} MB; input {size} x {size} RGB.

| class | precision | recall | F1 | images |
|---|---|---|---|---|
{rows}

**Limitations.** The model has six classes of outdoor scenes. Most mistakes: {pairs}; a careful person agrees with the
labels of the dataset on 92 to 93% only. The images have 150 x 150 pixels, and are from the web, with unclear licenses;
none is in this file. License of the file: Apache-2.0.
"""


def main() -> None:
    """Train if needed, convert, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, default=Path("run-best"))
    options = parser.parse_args()
    progress = LineProgress()
    if not options.run.exists():
        belvedere.train(options.data, out=options.run, recipe=RECIPE, resume=True, progress=progress)
    made_by = tomllib.loads((options.run / "config.toml").read_text(encoding="utf-8"))["recipe"]
    if change_recipe(RECIPE, made_by, "config.toml") != RECIPE:
        sys.exit(f"{options.run} was not made by today's recipe for it: delete it, or choose another --run.")
    original = belvedere.load_model(options.run)
    smaller = to_float16_weights(onnx.load(options.run / MODEL_NAME))
    onnx.checker.check_model(smaller, full_check=True)
    content = smaller.SerializeToString()
    if len(content) > MAX_BYTES:
        sys.exit(f"{len(content):,} bytes, over {MAX_BYTES:,}")
    dataset = belvedere.load_dataset(options.data)
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
    print(f"original {before.accuracy:.4f}, float16 {after.accuracy:.4f} of {before.num_images}")
    print(f"same class {agreement:.4f}, largest change of a probability {max(changes):.4f}, {len(content):,} bytes")
    if agreement < MIN_AGREEMENT:
        sys.exit(f"They agree on {agreement:.4f} only, under {MIN_AGREEMENT}")
    BUNDLED.parent.mkdir(exist_ok=True)
    write_bytes(BUNDLED, content)
    write_text(BUNDLED.with_suffix(".md"), describe(original, after, figures, len(content)))
    print(f"written: {BUNDLED}")


if __name__ == "__main__":
    main()
