"""Trainings killed at random moments and resumed: are the weights byte-identical?

python benchmarks/resume.py DATA [--kills 10] [--images 1500] [--recipe quick] [--epochs 8]

Trains on some of the images once, then ten times with `kill -9` at a random moment between process start and end, and
`--resume`.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from belvedere.data.dataset import load_dataset


def write_table(data: Path, images: int, file: Path) -> None:
    """Write a table of some training images, balanced over the classes."""
    samples = load_dataset(data).split("train")
    chosen = samples[:: max(1, len(samples) // images)]
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["image", "label"])
        writer.writerows([str(sample.path.resolve()), sample.label] for sample in chosen)


def main() -> None:
    """Kill, resume and compare; exit with 1 if weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    chance = random.Random(0)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_table(options.data, options.images, folder / "some.csv")
        environment = os.environ | {"BELVEDERE_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "belvedere", "train", str(folder / "some.csv"), "--recipe", options.recipe]
        command += ["--epochs", str(options.epochs)]

        def start(out: str, *more: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, "--out", str(folder / out), *more],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        begun = time.perf_counter()
        assert start("whole").wait() == 0
        seconds = time.perf_counter() - begun
        expected = (folder / "whole" / "weights.safetensors").read_bytes()
        print(f"undisturbed: {seconds:.1f} s")
        same = 0
        for number in range(options.kills):
            moment = chance.uniform(0, seconds)
            process = start(f"run{number}")
            time.sleep(moment)
            process.kill()
            process.wait()
            partial = folder / f"run{number}.partial"
            found = "a checkpoint" if (partial / "checkpoint.safetensors").exists() else "no checkpoint yet"
            if not (folder / f"run{number}").exists():
                assert start(f"run{number}", "--resume").wait() == 0
            else:
                found = "the finished run"
            equal = (folder / f"run{number}" / "weights.safetensors").read_bytes() == expected
            same += equal
            print(f"killed after {moment:.1f} s ({found}): {'the same' if equal else 'OTHER'} weights", flush=True)
        print(f"{same} of {options.kills} the same byte for byte")
    sys.exit(same != options.kills)


if __name__ == "__main__":
    main()
