"""Belvedere's article recipe beside the article's own Keras program: the same work, in turn, on one machine.

python benchmarks/versus_article.py PHOTOS --peer article_keras.py --peer-python PYTHON [--epochs 3] [--rounds 2]

PHOTOS has train/ and test/. Both programs train the same network with the same batch on every training photograph and
measure it on every test photograph after each epoch, as the article does: for this, Belvedere is given a folder whose
validation and test parts are PHOTOS/test, so that nothing is kept back. An epoch's time is the time between the lines
that the two programs print after each; the first, which holds starting and reading, stands apart. Peak memory is the
largest resident set of the process.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Timing:
    """What one program took in one run."""

    first_seconds: float = 0.0  # process start to the end of the first epoch
    epoch_seconds: list[float] = field(default_factory=list)  # of the later ones
    accuracies: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def follow(command: list[str], is_epoch: re.Pattern[str]) -> Timing:
    """Runs a command and times the lines that end an epoch.

    Args:
        command: What to run; its two streams are read as one.
        is_epoch: Matches such a line, with the accuracy as its group.

    Returns:
        The times and accuracies, and the peak of its memory.
    """
    timing = Timing()
    start = last = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if match := is_epoch.search(line):
            now = time.perf_counter()
            if timing.accuracies:
                timing.epoch_seconds.append(now - last)
            else:
                timing.first_seconds = now - start
            timing.accuracies.append(float(match.group(1)))
            last = now
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit("".join(lines[-20:]) + f"\n{command[0]} failed")
    timing.peak_bytes = usage.ru_maxrss * 1024
    return timing


def run_ours(photos: Path, epochs: int) -> Timing:
    """Trains the article recipe on all of PHOTOS/train, measured on all of PHOTOS/test after every epoch."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        folder.mkdir()
        for part, origin in (("train", "train"), ("val", "test"), ("test", "test")):
            (folder / part).symlink_to((photos / origin).resolve())
        command = [sys.executable, "-m", "belvedere", "train", str(folder), "--recipe", "article"]
        command += ["--epochs", str(epochs), "--out", str(Path(place) / "run")]
        return follow(command, re.compile(r"^epoch .* validation accuracy ([\d.]+)"))


def run_theirs(photos: Path, epochs: int, peer: Path, python: str) -> Timing:
    """Runs the article's program."""
    command = [python, str(peer), str(photos / "train"), str(photos / "test"), str(epochs)]
    return follow(command, re.compile(r'"test_accuracy": ([\d.]+)'))


def measure_torch() -> int:
    """Returns the resident bytes of a process that has only imported torch."""
    process = subprocess.Popen([sys.executable, "-c", "import torch"])
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_maxrss * 1024


def versions(python: str, packages: list[str]) -> str:
    """Names the versions of packages in an environment."""
    code = f"from importlib.metadata import version as v; print({{p: v(p) for p in {packages!r}}})"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().strip("{}").replace("'", "")


def describe(name: str, runs: list[Timing]) -> str:
    """Returns a table row for one program."""
    later = [seconds for run in runs for seconds in run.epoch_seconds]
    first = statistics.median(run.first_seconds for run in runs)
    peak = max(run.peak_bytes for run in runs) / 1e9
    accuracies = " / ".join(f"{run.accuracies[-1]:.3f}" for run in runs)
    return (
        f"| {name} | {statistics.median(later):.1f} | {min(later):.1f} to {max(later):.1f} | {first:.1f} | {peak:.2f} "
        f"| {accuracies} |"
    )


def main() -> None:
    """Runs both in turn and prints a page of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the article's program")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with tensorflow and opencv")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ours, theirs = [], []
    for number in range(1, options.rounds + 1):
        print(f"round {number}", file=sys.stderr)
        ours.append(run_ours(options.photos, options.epochs))
        theirs.append(run_theirs(options.photos, options.epochs, options.peer, options.peer_python))
    pairs = [
        ours_seconds / theirs_seconds
        for one, other in zip(ours, theirs, strict=True)
        for ours_seconds, theirs_seconds in zip(one.epoch_seconds, other.epoch_seconds, strict=True)
    ]
    torch_bytes = measure_torch()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}")
    print(f"\nours: {versions(sys.executable, ['belvedere', 'torch', 'numpy', 'simplejpeg'])}")
    print(f"theirs: {versions(options.peer_python, ['tensorflow_cpu', 'keras', 'opencv-python-headless', 'numpy'])}")
    print(f"\n{options.rounds} rounds in turn, {options.epochs} epochs each; the first epoch apart\n")
    print("| program | s an epoch, median | least to most | s to the end of epoch 1 | peak GB | test accuracy, last |")
    print("|---|---|---|---|---|---|")
    print(describe("Belvedere, recipe article", ours))
    print(describe("the article's (Keras)", theirs))
    print(f"\nTime of an epoch, ours / theirs: median {statistics.median(pairs):.2f}, {json.dumps(sorted(pairs))}")
    peak = max(run.peak_bytes for run in ours)
    print(f"\nMemory over torch's own {torch_bytes / 1e9:.2f} GB: {(peak - torch_bytes) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
