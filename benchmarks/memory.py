"""Peak memory of a training, with each image once and ten times.

python benchmarks/memory.py DATA [--recipe quick] [--times 10]

Prints the peak resident set size of each process: two epochs of the plain list, one of the longer one, up to the same
image size.
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
    """Train and return the peak resident set size of the process."""
    command = [sys.executable, "-m", "belvedere", "train", str(table), "--recipe", recipe, "--out", str(out)]
    process = subprocess.Popen([*command, "--epochs", str(epochs)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * 1024


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    samples = [sample for sample in load_dataset(options.data).samples if sample.split in ("train", "test")]
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for times, epochs in ((1, 2), (options.times, 1)):
            table = Path(folder) / f"{times}.csv"
            with table.open("w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out)
                writer.writerow(["image", "label", "split"])
                for sample in samples:
                    listed = times if sample.split == "train" else 1
                    writer.writerows([[str(sample.path.resolve()), sample.label, sample.split]] * listed)
            peaks.append(peak_bytes(table, options.recipe, epochs, Path(folder) / f"run{times}"))
            print(f"listed {times} times: {peaks[-1] / 1e9:.2f} GB", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
