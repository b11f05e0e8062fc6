"""Makes the model that comes with Belvedere: python tools/bundle_model.py intel [--run RUN]

Trains the recipe `best` on the Intel scenes (about an hour on two cores), or takes a RUN of it that is there, stores the
weights in 16 bits, compares the answers on every test photograph with the original's, and writes
src/belvedere/assets/scenes.onnx. The test accuracy is printed for both.
"""

import argparse
import sys
from pathlib import Path

import onnx

import belvedere
from belvedere.evaluate import evaluate
from belvedere.model import BUNDLED, MODEL_NAME, Model
from belvedere.progress import LineProgress
from belvedere.storage import write_bytes
from belvedere.training.export import store_half

MOST_BYTES = 4_000_000
LEAST_AGREEMENT = 0.995  # of the test photographs, on their class


def main() -> None:
    """Trains if need be, halves, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--run", type=Path, default=Path("run-best"))
    options = parser.parse_args()
    progress = LineProgress()
    if not options.run.exists():
        belvedere.train(options.photos, out=options.run, recipe="best", resume=True, progress=progress)
    original = belvedere.load(options.run)
    halved = store_half(onnx.load(options.run / MODEL_NAME))
    onnx.checker.check_model(halved, full_check=True)
    content = halved.SerializeToString()
    if len(content) > MOST_BYTES:
        sys.exit(f"{len(content):,} bytes, over {MOST_BYTES:,}")
    photos = belvedere.read_folder(options.photos)
    before = evaluate(original, photos, progress)
    after = evaluate(Model.from_bytes(content, original.card), photos, progress)
    pairs = list(zip(before.predictions, after.predictions, strict=True))
    agreement = sum(one.prediction == other.prediction for one, other in pairs) / len(pairs)
    changes = [
        abs(a - b)
        for one, other in pairs
        for a, b in zip(one.probabilities, other.probabilities, strict=True)
    ]
    print(f"original {before.accuracy:.4f}, halved {after.accuracy:.4f} of {before.images}")
    print(f"same class {agreement:.4f}, largest change of a probability {max(changes):.4f}, {len(content):,} bytes")
    if agreement < LEAST_AGREEMENT:
        sys.exit(f"They agree on {agreement:.4f} only, under {LEAST_AGREEMENT}")
    BUNDLED.parent.mkdir(exist_ok=True)
    write_bytes(BUNDLED, content)
    print(f"written: {BUNDLED}")


if __name__ == "__main__":
    main()
