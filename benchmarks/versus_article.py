"""Belvedere's recipes compared with the article's Keras program, in turn, on one machine.

python benchmarks/versus_article.py DATA --peer article_keras.py --peer-python PYTHON
    [--recipes quick:5,standard:3] [--weights FILE] [--level 0.87] [--peer-epochs 30] [--until-level]

DATA has train/ and test/. The number after a recipe is its number of seeds; `quick+FILE.toml` changes a recipe by a
file, as `--config` does. Each of our runs starts cold: a new process, an empty cache. Its time ends when model.onnx is
written; it reaches the level if the test accuracy of that model does. The article's program measures itself on the test
images after every epoch, and its time ends at the first epoch that reaches the level. `--until-level` stops it there,
otherwise after `--peer-epochs`. Prediction is from test files to probabilities with a loaded model, the better of two.
Peak memory is the peak resident set size of the training.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PRETRAINED = ("probe", "finetune")
OUR_PREDICTION = """

import sys, time, belvedere
model = belvedere.load_model(sys.argv[1])
for _ in range(2):
    start = time.perf_counter()
    answers = model.predict(sys.argv[2])
    print(len(answers) / (time.perf_counter() - start))
"""
PEER_PREDICTION = """
import importlib.util, os, sys, tempfile, time
spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
peer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peer)
model = peer.network()
for _ in range(2):
    start = time.perf_counter()
    images, _ = peer.read(sys.argv[2])
    model.predict(images, verbose=0)
    print(len(images) / (time.perf_counter() - start))
with tempfile.TemporaryDirectory() as place:
    model.save(os.path.join(place, "model.keras"))
    print(os.path.getsize(os.path.join(place, "model.keras")))
"""


@dataclass
class Measured:
    """Results of one program."""

    name: str
    level_seconds: float | None = None  # from a cold start; None: never reached
    model_seconds: float = 0.0  # until the model is written; of theirs, of one epoch
    seconds: float = 0.0  # of the whole training
    accuracies: list[float] = field(default_factory=list)  # on the test images; the last is final
    peak_bytes: int = 0
    model_bytes: int = 0
    images_per_second: float = 0.0


def follow(
    command: list[str], environment: dict[str, str], watch: Callable[[str, float], bool]
) -> tuple[float, int, list[str]]:
    """Runs a command and passes on its lines with the seconds since its start.

    Args:
        command: What to run; its two streams are read as one.
        environment: Its environment.
        watch: Called with every line; ends the command by returning True.

    Returns:
        Seconds, peak memory in bytes, and the lines.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if watch(line, time.perf_counter() - start):
            process.terminate()
            break
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    if status not in (0, 15):
        sys.exit("".join(lines[-20:]) + f"\n{command[0]} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, lines


def measure_ours(data: Path, recipe: str, seed: int, level: float, weights: Path | None) -> Measured:
    """Train by one recipe, cold, and predict; `recipe` may be "NAME+FILE", with a file that changes it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        written: list[float] = []

        def watch(line: str, seconds: float) -> bool:
            if line.startswith("Evaluating the model"):  # the model file is written
                written.append(seconds)
            return False

        name, _, config = recipe.partition("+")
        command = [sys.executable, "-m", "belvedere", "train", str(data), "--recipe", name, "--seed", str(seed)]
        if config:
            command += ["--config", config]
        if weights is not None and name in PRETRAINED:
            command += ["--weights", str(weights)]
        environment = os.environ | {"BELVEDERE_CACHE": str(Path(folder) / "cache")}
        seconds, peak, _ = follow([*command, "--out", str(run)], environment, watch)
        accuracy = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["accuracy"]
        command = [sys.executable, "-c", OUR_PREDICTION, str(run), str(data / "test")]
        speeds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return Measured(
            f"Belvedere, {recipe}, seed {seed}",
            written[0] if accuracy >= level else None,
            written[0],
            seconds,
            [accuracy],
            peak,
            (run / "model.onnx").stat().st_size,
            max(map(float, speeds)),
        )


def measure_theirs(data: Path, peer: Path, python: str, options: argparse.Namespace) -> Measured:
    """Run the article's program, and predict with its network."""
    found = Measured("the article's (Keras)")

    ends: list[float] = []

    def watch(line: str, seconds: float) -> bool:
        if '"test_accuracy"' not in line:
            return False
        ends.append(seconds)
        found.accuracies.append(json.loads(line)["test_accuracy"])
        print(f"  epoch {len(found.accuracies)}, {seconds:.0f} s: {found.accuracies[-1]:.4f}", file=sys.stderr)
        if found.level_seconds is None and found.accuracies[-1] >= options.level:
            found.level_seconds = seconds
            return bool(options.until_level)
        return False

    command = [python, str(peer), str(data / "train"), str(data / "test"), str(options.peer_epochs)]
    found.seconds, found.peak_bytes, _ = follow(command, dict(os.environ), watch)
    found.model_seconds = float(np.median(np.diff([0.0, *ends])))
    command = [python, "-c", PEER_PREDICTION, str(peer), str(data / "test")]
    *speeds, size = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found.model_bytes, found.images_per_second = int(size), max(map(float, speeds))
    return found


def versions(python: str, packages: list[str]) -> str:
    """Return the versions of packages in an environment."""
    code = f"from importlib.metadata import version as v; print({{p: v(p) for p in {packages!r}}})"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().strip("{}").replace("'", "")


def print_rows(ours: list[Measured], theirs: Measured, level: float) -> None:
    """Print a Markdown table: a row per program, and the ratios of ours."""
    print(f"| program | s to {level:.0%}, cold | s in all | test accuracy | peak GB | model MB | predicted images/s |")
    print("|---|---|---|---|---|---|---|")
    for row in (theirs, *ours):
        reached = f"{row.level_seconds:.1f}" if row.level_seconds else "not reached"
        print(
            f"| {row.name} | {reached} | {row.seconds:.1f} | {row.accuracies[-1]:.4f} | {row.peak_bytes / 1e9:.2f} "
            f"| {row.model_bytes / 1e6:.2f} | {row.images_per_second:.0f} |"
        )
        if row is not theirs:
            # Where the article's program never got there, it took at least as long as it ran.
            bound, their_seconds = ("", theirs.level_seconds) if theirs.level_seconds else ("over ", theirs.seconds)
            faster = f"{bound}{their_seconds / row.level_seconds:.1f}x faster" if row.level_seconds else ""
            print(
                f"| | {faster} | {theirs.seconds / row.seconds:.1f}x faster "
                f"| {row.accuracies[-1] - theirs.accuracies[-1]:+.4f} | {row.peak_bytes / theirs.peak_bytes:.2f} "
                f"| {row.model_bytes / theirs.model_bytes:.2f} "
                f"| {row.images_per_second / theirs.images_per_second:.1f}x |"
            )


def main() -> None:
    """Run all in turn and print a Markdown page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the article's program")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with tensorflow and opencv")
    parser.add_argument("--recipes", default="quick:5,standard:3")
    parser.add_argument("--weights", type=Path, help="weights of the network of probe and finetune")
    parser.add_argument("--level", type=float, default=0.87, help="test accuracy to reach")
    parser.add_argument("--peer-epochs", type=int, default=30)
    parser.add_argument("--until-level", action="store_true", help="end the article's program when it is there")
    options = parser.parse_args()
    ours: list[Measured] = []
    recipes = {name: int(seeds or 1) for name, _, seeds in (part.partition(":") for part in options.recipes.split(","))}
    for recipe, seeds in recipes.items():
        for seed in range(seeds):
            ours.append(measure_ours(options.data, recipe, seed, options.level, options.weights))
            print(f"{ours[-1].name}: {ours[-1].seconds:.1f} s, {ours[-1].accuracies[-1]:.4f}", file=sys.stderr)
    theirs = measure_theirs(options.data, options.peer, options.peer_python, options)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}")
    print(f"\nours: {versions(sys.executable, ['belvedere', 'torch', 'numpy', 'simplejpeg', 'onnxruntime'])}")
    print(f"theirs: {versions(options.peer_python, ['tensorflow_cpu', 'keras', 'opencv-python-headless', 'numpy'])}\n")
    print_rows(ours, theirs, options.level)
    for recipe in recipes:
        accuracies = [row.accuracies[-1] for row in ours if f" {recipe}," in row.name]
        epochs = np.mean([row.model_seconds for row in ours if f" {recipe}," in row.name]) / theirs.model_seconds
        print(f"\n{recipe}: mean test accuracy of {len(accuracies)} seeds {np.mean(accuracies):.4f}, the model written")
        print(f"after {epochs:.2f} epochs' time of the article's program ({theirs.model_seconds:.1f} s, median)")


if __name__ == "__main__":
    main()
