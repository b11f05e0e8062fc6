"""Prediction from files: Belvedere, the article's program, and upper limits.

Run as `python benchmarks/predict.py DATA --models A.onnx B.onnx [--peer article_keras.py --peer-python PYTHON]`.
PYTHON has tensorflow-cpu and opencv-python-headless. The peer's file has a function `network` that builds the
article's network (its weights do not matter here). Without a peer, Belvedere is measured alone. Programs take turns,
each in a process of its own. Rates exclude process start; the cold single image includes it. The two limits are
measured on both cores: reading only, and inference only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = ("belvedere", "onnxruntime", "simplejpeg", "pillow", "numpy")
PEER = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import csv, importlib.util, cv2, keras, numpy as np
task, file, out, *photos = sys.argv[1:]
if task == "cold":
    model = keras.models.load_model(file)
    pixels = cv2.resize(cv2.imread(photos[0]), (150, 150))
    print(model.predict(pixels[None], verbose=0)[0].argmax())
    sys.exit()
spec = importlib.util.spec_from_file_location("peer", file)
peer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peer)
model = peer.network()
if task == "save":
    model.save(out)
    sys.exit()
model.predict(np.zeros((32, 150, 150, 3), np.uint8), verbose=0)  # traced, as a program that goes on would be
start, worked = time.perf_counter(), time.process_time()
names = sorted(os.listdir(photos[0]))
images = np.array([cv2.resize(cv2.imread(os.path.join(photos[0], name)), (150, 150)) for name in names])
answers = model.predict(images, verbose=0)
with open(out, "w", newline="") as table:
    csv.writer(table).writerows([name, int(row.argmax()), *row] for name, row in zip(names, answers))
seconds, worked = time.perf_counter() - start, time.process_time() - worked
print(json.dumps({"images": len(names), "seconds": seconds, "worked": worked}))
"""
OURS = """

import json, sys, time
from pathlib import Path
from belvedere.inference.model import load_model
from belvedere.inference.batch import predict_files
model = load_model(sys.argv[1])
start, worked = time.perf_counter(), time.process_time()
done = predict_files(model, [Path(sys.argv[2])], "csv", out=Path(sys.argv[3]), overwrite=True)
seconds, worked = time.perf_counter() - start, time.process_time() - worked
print(json.dumps({"images": done.num_images, "seconds": seconds, "worked": worked}))
"""
LIMITS = """

import json, sys, time
from pathlib import Path
import numpy as np
from belvedere.images.decode import read_input
from belvedere.inference.model import load_model
from belvedere.inference.model_graph import BATCH_SIZE
from belvedere.runtime.parallel import batched, parallel_map
model = load_model(sys.argv[1])
files = sorted(Path(sys.argv[2]).iterdir())
pixels = np.stack([read_input(file, model.card.preprocess).pixels for file in files[:BATCH_SIZE]])
figures = {}
for name, work in (
    ("reading", lambda some: [read_input(file, model.card.preprocess, draft=True) for file in some]),
    ("computing", lambda some: model._run(["probabilities"], pixels[: len(some)])),
):
    start, worked = time.perf_counter(), time.process_time()
    count = sum(1 for _ in parallel_map(work, batched(files, BATCH_SIZE), 16))
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    figures[name] = {"images": len(files), "seconds": seconds, "worked": worked}
print(json.dumps(figures))
"""


def run(python: str, code: str, *arguments: object) -> str:
    """Run a program in a process; return the last line it prints."""
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return (done.stdout.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Rate:
    """Images per second of wall-clock and of CPU time; the latter is less affected by other programs."""

    clock: float
    work: float

    @classmethod
    def of(cls, rates: dict[str, float]) -> "Rate":
        """Parse the output of a program."""
        return cls(rates["images"] / rates["seconds"], rates["images"] / rates["worked"])


def seconds_of(python: str, *arguments: object, code: str = "") -> float:
    """Return the duration of a process."""
    command = [python, *(["-c", code] if code else []), *map(str, arguments)]
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def link_images(images_folder: Path, count: int, folder: Path) -> Path:
    """Make a flat folder of links to images from a whole folder."""
    found = sorted(path for path in images_folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    folder.mkdir()
    for number in range(min(count, len(found))):
        path = found[number * len(found) // min(count, len(found))]
        (folder / f"{number:05}{path.suffix}").symlink_to(path.resolve())
    return folder


def show(title: str, rates: Sequence[Rate]) -> Rate:
    """Print median and range of runs; return the medians."""
    clock, work = [each.clock for each in rates], [each.work for each in rates]
    middle = Rate(statistics.median(clock), statistics.median(work))
    spread = f"{min(clock):,.0f} to {max(clock):,.0f}"
    print(f"| {title} | {middle.clock:,.0f} | {spread} | {middle.work:,.0f} |", flush=True)
    return middle


def show_ratio(title: str, ours: Rate, clock: float, work: float) -> None:
    """Print the ratio to other rates."""
    print(f"|   {title} | {ours.clock / clock:.2f} | | {ours.work / work:.2f} |", flush=True)


@dataclass(frozen=True)
class Peer:
    """The article's program and its Python."""

    file: Path
    python: str

    def predict(self, folder: Path, out: Path) -> Rate:
        """Predict a folder."""
        return Rate.of(json.loads(run(self.python, PEER, "folder", self.file, out, folder)))

    def start_cold(self, image: Path, temporary: Path, rounds: int) -> list[float]:
        """Predict one image in new processes; return the seconds of each."""
        saved = temporary / "article.keras"
        run(self.python, PEER, "save", self.file, saved)
        return [seconds_of(self.python, "cold", saved, "-", image, code=PEER) for _ in range(rounds)]


def compare_cold(models: Sequence[Path], peer: Peer | None, folder: Path, rounds: int) -> None:
    """Print the time for one image in a new process."""
    image = min(folder.iterdir())
    print("\n| one image, cold | s, median | least to most |\n|---|---|---|")
    theirs = peer.start_cold(image, folder.parent, rounds) if peer else []
    if theirs:
        print(f"| the article's (Keras) | {statistics.median(theirs):.2f} | {min(theirs):.2f} to {max(theirs):.2f} |")
    for model in models:
        command = ["-m", "belvedere", "predict", model, image]
        ours = [seconds_of(sys.executable, *command) for _ in range(rounds)]
        print(f"| belvedere, {model.name} | {statistics.median(ours):.2f} | {min(ours):.2f} to {max(ours):.2f} |")
        if theirs:
            print(f"|   quicker by | {statistics.median(theirs) / statistics.median(ours):.1f} | |", flush=True)


def compare_rates(models: Sequence[Path], peer: Peer | None, folder: Path, rounds: int) -> None:
    """Print the rates of a folder and their limits."""
    out = folder.parent / "predictions.csv"
    theirs: list[Rate] = []
    ours: dict[Path, list[Rate]] = {model: [] for model in models}
    limits: dict[Path, dict[str, list[Rate]]] = {model: {"reading": [], "computing": []} for model in models}
    for _ in range(rounds):
        if peer:
            theirs.append(peer.predict(folder, out))
        for model in models:
            ours[model].append(Rate.of(json.loads(run(sys.executable, OURS, model, folder, out))))
            for name, rates in json.loads(run(sys.executable, LIMITS, model, folder)).items():
                limits[model][name].append(Rate.of(rates))
    count = sum(1 for _ in folder.iterdir())
    print(f"| {count:,} images to CSV | images/s, median | least to most | images a processor second |")
    print("|---|---|---|---|")
    article = show("the article's (OpenCV, Keras)", theirs) if theirs else None
    for model in models:
        rates = show(f"belvedere, {model.name}", ours[model])
        reading = show("  reading alone", limits[model]["reading"])
        computing = show("  computing alone", limits[model]["computing"])
        if article:
            show_ratio("times the article's", rates, article.clock, article.work)
        slower = min(reading.clock, computing.clock), min(reading.work, computing.work)
        show_ratio("of the slower limit", rates, *slower)
        both = (1 / (1 / reading.clock + 1 / computing.clock), 1 / (1 / reading.work + 1 / computing.work))
        show_ratio("of both on the same cores, one after the other", rates, *both)


def main() -> None:
    """Print rates, limits and cold starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}\n")
    peer = Peer(options.peer, options.peer_python) if options.peer else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = link_images(options.data, options.count, Path(temporary) / "images")
        compare_rates(options.models, peer, folder, options.rounds)
        compare_cold(options.models, peer, folder, options.rounds + 2)


if __name__ == "__main__":
    main()
