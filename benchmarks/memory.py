"""Peak memory of a training, and of the same with every photograph listed ten times.

python benchmarks/memory.py PHOTOS [--recipe quick] [--times 10]

Prints the largest resident set of each process: two epochs of the plain list, one of the longer. Pictures grow to the
same size in both.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from belvedere.data.dataset import load_dataset


def peak_bytes(table: Path, recipe: str, epochs: int, out: Path) -> int:
    """Trains and returns the largest resident set of the process."""
    command = [sys.executable, "-m", "belvedere", "train", str(table), "--recipe", recipe, "--out", str(out)]
    process = subprocess.Popen([*command, "--epochs", str(epochs)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * 1024


def main() -> None:
    """Measures both and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    samples = [sample for sample in load_dataset(options.photos).samples if sample.part in ("train", "test")]
    peaks = []
    with tempfile.TemporaryDirectory() as place:
        for times, epochs in ((1, 2), (options.times, 1)):
            table = Path(place) / f"{times}.csv"
            with table.open("w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out)
                writer.writerow(["image", "label", "split"])
                for sample in samples:
                    listed = times if sample.part == "train" else 1
                    writer.writerows([[str(sample.path.resolve()), sample.label, sample.part]] * listed)
            peaks.append(peak_bytes(table, options.recipe, epochs, Path(place) / f"run{times}"))
            print(f"listed {times} times: {peaks[-1] / 1e9:.2f} GB", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
