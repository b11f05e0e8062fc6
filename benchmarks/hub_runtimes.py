"""Probabilities of the hub format in transformers.js, ONNX Runtime and Optimum, compared with Belvedere's.

python benchmarks/hub_runtimes.py MODEL DATA [--per-folder N] [--node FOLDER] [--python PYTHON]

MODEL is exported with `--format hub`. FOLDER is one in which `npm install @huggingface/transformers` was run, PYTHON
is an interpreter with optimum-onnx and transformers. All read the same image files, by themselves: the first N of each
folder in DATA. Nothing is downloaded.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from belvedere import export
from belvedere.images.listing import list_images
from belvedere.inference.model import Model, load_model
from belvedere.inference.uncertainty.temperature_scaling import softmax

Probabilities = Mapping[str, Mapping[str, float]]  # image -> class -> probability
NAME = "user/model"
JAVASCRIPT = """
import fs from "node:fs";
import { pipeline, env } from "@huggingface/transformers";
const [models, name, list] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = models;
const classify = await pipeline("image-classification", name);
const found = {};
for (const file of JSON.parse(fs.readFileSync(list)))
    found[file] = Object.fromEntries((await classify(file, { top_k: null })).map((each) => [each.label, each.score]));
console.log(JSON.stringify({ name: `transformers.js ${env.version}`, found }));
"""
OPTIMUM = """
import json, sys
import transformers
from optimum.onnxruntime import ORTModelForImageClassification
folder, files = sys.argv[1] + "/" + sys.argv[2], json.load(open(sys.argv[3]))
model = ORTModelForImageClassification.from_pretrained(folder, subfolder="onnx")
processor = transformers.AutoImageProcessor.from_pretrained(folder)
classify = transformers.pipeline("image-classification", model=model, image_processor=processor)
found = {file: {each["label"]: each["score"] for each in classify(file, top_k=1000)} for file in files}
print(json.dumps({"name": f"Optimum, transformers {transformers.__version__}", "found": found}))
"""


def choose_images(data: Path, per_folder: int) -> list[str]:
    """Return the first images of each folder."""
    folders = sorted(path for path in data.iterdir() if path.is_dir()) or [data]
    return [str(path) for folder in folders for path in islice(list_images(folder), per_folder)]


def run_onnx(folder: Path, files: list[str]) -> Probabilities:
    """Predict with ONNX Runtime and Pillow."""
    session = onnxruntime.InferenceSession(folder / "onnx/model.onnx")
    names = json.loads((folder / "config.json").read_text())["id2label"].values()
    found = {}
    for file in files:
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
        [logits] = session.run(["logits"], {"pixel_values": pixels})
        found[file] = dict(zip(names, softmax(logits)[0].tolist(), strict=True))
    return found


def run_others(options: argparse.Namespace, models: Path, listed: Path) -> Iterator[tuple[str, Probabilities]]:
    """Predict with the other libraries."""
    commands = []
    if options.node:
        script = options.node.resolve() / "hub_runtimes.mjs"  # beside node_modules
        script.write_text(JAVASCRIPT)
        commands.append(["node", str(script)])
    if options.python:
        commands.append([options.python, "-c", OPTIMUM])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    for command in commands:
        arguments = [*command, str(models), NAME, str(listed)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
        result = json.loads(done.stdout.splitlines()[-1])
        yield result["name"], result["found"]


def compare(model: Model, files: list[str], found: Probabilities) -> str:
    """Return agreement and differences, as the cells of a table."""
    rows = [[found[file][name] for name in model.class_names] for file in files]
    predictions = model.predict(files, draft=False)
    expected = np.array([[each.probabilities[name] for name in model.class_names] for each in predictions])
    change = np.abs(np.array(rows) - expected).max(1)
    same = int((np.array(rows).argmax(1) == expected.argmax(1)).sum())
    return f"{same} of {len(files)} | {change.max():.1e} | {change.mean():.1e}"


def main() -> None:
    """Export, predict and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-folder", type=int, default=50)
    parser.add_argument("--node", type=Path)
    parser.add_argument("--python")
    options = parser.parse_args()
    model, files = load_model(options.model), choose_images(options.data, options.per_folder)
    with tempfile.TemporaryDirectory() as name:
        models, listed = Path(name) / "models", Path(name) / "files.json"
        (models / NAME).parent.mkdir(parents=True)
        export(model, models / NAME, "hub")
        listed.write_text(json.dumps(files))
        print("| library | same class | largest difference | mean difference |\n|---|---|---|---|")
        found = run_onnx(models / NAME, files)
        print(f"| ONNX Runtime {onnxruntime.__version__} | {compare(model, files, found)} |")
        for library, found in run_others(options, models, listed):
            print(f"| {library} | {compare(model, files, found)} |")


if __name__ == "__main__":
    main()
