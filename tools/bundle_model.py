"""Makes the model that comes with Belvedere.

python tools/bundle_model.py intel [--run RUN]

Trains the recipe `best`, with a network that fits into 4 MB, on the Intel scenes, or takes a RUN of it that is there,
stores the weights in 16 bits, compares the answers on every test photograph with the original's, and writes
src/belvedere/inference/assets/scenes.onnx. The test accuracy is printed for both.
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

MOST_BYTES = 4_000_000
RECIPE = replace(RECIPES["best"], network="compact-large")
LEAST_AGREEMENT = 0.995  # of the test photographs, on their class


def describe(model: Model, measured: Evaluation, figures: str, size_bytes: int) -> str:
    """Writes the model's card for people to read."""
    made, side = model.card.provenance, model.card.preprocess.height
    learnt, chosen = made.photographs["train"], made.photographs["validation"]
    took = f"{made.epochs} epochs in {made.seconds_train / 60:.0f} minutes on {made.device}, {made.precision}"
    rows = "\n".join(
        f"| {row.name} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} | {row.images} |"
        for row in measured.per_class
    )
    pairs = ", ".join(
        f"{pair.label} taken for {pair.predicted_label} {pair.images}" for pair in measured.confused_pairs[:4]
    )
    return f"""# scenes.onnx

The model that answers where no other is named: {", ".join(model.class_names)}.

- **Trained on** {learnt:,} photographs of the Intel scenes' training part, {chosen:,} more to choose the epoch by;
  nothing else, and no pretrained weights. SHA-256 over their contents and labels:
  `{made.photographs_sha256}`.
- **Made by** `python tools/bundle_model.py intel`: recipe `{made.recipe}` (network `{made.network}`), seed {made.seed},
  {took}; torch {made.versions["torch"]}. Weights are stored in 16 bits.
- **Measured** on {measured.images:,} of the official test photographs, which nothing was chosen by: {figures}.
- **Size** {size_bytes / 1e6:.2f} MB; input {side} x {side} RGB.

| class | precision | recall | F1 | photographs |
|---|---|---|---|---|
{rows}

**Know before use.** It knows six kinds of outdoor scenes and calls everything else one of them. Most mistakes: {pairs};
a careful person agrees with the data set's labels on 92 to 93% only. The photographs are of 150 x 150 pixels, from the
web, of unclear licences; none is in this file. License of the file: Apache-2.0.
"""


def main() -> None:
    """Trains if need be, halves, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--run", type=Path, default=Path("run-best"))
    options = parser.parse_args()
    progress = LineProgress()
    if not options.run.exists():
        belvedere.train(options.photos, out=options.run, recipe=RECIPE, resume=True, progress=progress)
    made_by = tomllib.loads((options.run / "config.toml").read_text(encoding="utf-8"))["recipe"]
    if change_recipe(RECIPE, made_by, "config.toml") != RECIPE:
        sys.exit(f"{options.run} was not made by today's recipe for it: delete it, or name another with --run")
    original = belvedere.load(options.run)
    halved = to_float16_weights(onnx.load(options.run / MODEL_NAME))
    onnx.checker.check_model(halved, full_check=True)
    content = halved.SerializeToString()
    if len(content) > MOST_BYTES:
        sys.exit(f"{len(content):,} bytes, over {MOST_BYTES:,}")
    photos = belvedere.load_dataset(options.photos)
    before = evaluate(original, photos, progress)
    after = evaluate(Model.from_bytes(content, original.card), photos, progress)
    pairs = list(zip(before.predictions, after.predictions, strict=True))
    agreement = sum(one.predicted_label == other.predicted_label for one, other in pairs) / len(pairs)
    changes = [abs(a - b) for one, other in pairs for a, b in zip(one.probabilities, other.probabilities, strict=True)]
    figures = (
        f"accuracy {after.accuracy:.4f} ({round(after.accuracy * after.images):,} of {after.images:,}), "
        f"macro F1 {after.macro_f1:.4f}, log loss {after.log_loss:.4f}, calibration error {after.ece:.4f}"
    )
    print(f"original {before.accuracy:.4f}, halved {after.accuracy:.4f} of {before.images}")
    print(f"same class {agreement:.4f}, largest change of a probability {max(changes):.4f}, {len(content):,} bytes")
    if agreement < LEAST_AGREEMENT:
        sys.exit(f"They agree on {agreement:.4f} only, under {LEAST_AGREEMENT}")
    BUNDLED.parent.mkdir(exist_ok=True)
    write_bytes(BUNDLED, content)
    write_text(BUNDLED.with_suffix(".md"), describe(original, after, figures, len(content)))
    print(f"written: {BUNDLED}")


if __name__ == "__main__":
    main()
