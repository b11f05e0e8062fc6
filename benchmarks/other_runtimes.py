"""Probabilities of the nchw format in other runtimes, compared with ONNX Runtime's.

python benchmarks/other_runtimes.py MODEL [DATA] [--random SIZE] --python PYTHON...

MODEL is exported with `--format nchw`. Each PYTHON is an interpreter with onnxruntime, openvino or opencv (headless);
each of them predicts the same pixels. Prints the largest difference of a probability from Belvedere's. `--random`
uses images of noise of that size instead of DATA.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from belvedere import export
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import read_inputs
from belvedere.images.listing import iter_images
from belvedere.inference.model import load_model

ELSEWHERE = """
import importlib, json, sys
import numpy as np
file, images = sys.argv[1], np.load(sys.argv[2])  # (N, 3, H, W), float32

def with_onnxruntime(library):
    session = library.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images})[0]

def with_openvino(library):
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the processor has it
    compiled = library.Core().compile_model(file, "CPU", exact)
    return compiled(images)[compiled.output("probabilities")]

def with_cv2(library):
    network = library.dnn.readNetFromONNX(file)
    rows = []
    for image in images:
        network.setInput(image[None])
        rows.append(network.forward("probabilities")[0])
    return np.stack(rows)

for name, run in {"onnxruntime": with_onnxruntime, "openvino": with_openvino, "cv2": with_cv2}.items():
    try:
        library = importlib.import_module(name)
    except ImportError:
        continue
    try:
        found = {"probabilities": np.asarray(run(library)).tolist()}
    except Exception as error:
        found = {"error": " ".join(str(error).split())[-160:]}
    print(json.dumps({"runtime": f"{name} {library.__version__}", **found}))
"""


def draw_noise(folder: Path, size: int) -> Path:
    """Write images of smooth noise."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(30):
        small = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


def main() -> None:
    """Export, predict and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--random", type=int, metavar="SIZE")
    parser.add_argument("--python", nargs="+", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = draw_noise(folder / "noise", options.random) if options.random else options.data
        plain = folder / "nchw.onnx"
        done = export(options.model, plain, "nchw", calibration_data=source)
        model = load_model(options.model)
        read = list(read_inputs(list(iter_images([source]))[:100], model.card.preprocess))
        pixels = np.stack([outcome.pixels for outcome in read if isinstance(outcome, DecodedImage)])
        expected = model.forward(pixels).probabilities
        np.save(folder / "images.npy", pixels.transpose(0, 3, 1, 2).astype(np.float32))
        print(f"{options.model}: {len(pixels)} images, {done.size_bytes / 1e6:.1f} MB")
        for python in options.python:
            command = [python, "-c", ELSEWHERE, str(plain), str(folder / "images.npy")]
            for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
                result = json.loads(line)
                difference = result.get("error")
                if difference is None:
                    difference = f"{np.abs(np.array(result['probabilities']) - expected).max():.1e}"
                print(f"| {result['runtime']} | {difference} |")


if __name__ == "__main__":
    main()
