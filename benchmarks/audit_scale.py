"""Time and memory of an audit at several dataset sizes.

python benchmarks/audit_scale.py DATA --folder FOLDER [--counts 25000,50000,100000,200000]

Writes synthetic variations into FOLDER (about 6 kB each): random crops of 30 to 80% of the sides, possibly mirrored,
with other brightness and contrast. Audits each number of images without labels in a process of its own, and prints
seconds, CPU seconds, peak memory and duplicate groups.
"""

import argparse
import csv
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import LineProgress

PER_FOLDER = 10_000


def name_of(folder: Path, number: int) -> Path:
    """Return the path of a variation."""
    return folder / f"{number // PER_FOLDER:03d}" / f"{number:07d}.jpg"


def make(source: Path, number: int, file: Path) -> None:
    """Write one variation."""
    random = np.random.default_rng((5, number))
    image = Image.open(source).convert("RGB")
    width, height = image.size
    fraction = random.uniform(0.3, 0.8)
    wide, high = max(16, round(width * fraction)), max(16, round(height * fraction * random.uniform(0.8, 1.2)))
    left, top = int(random.integers(max(1, width - wide))), int(random.integers(max(1, height - high)))
    image = image.crop((left, top, min(left + wide, width), min(top + high, height)))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.6, 1.4))
    ImageEnhance.Contrast(image).enhance(random.uniform(0.7, 1.3)).resize((120, 120)).save(file, quality=88)


def make_all(data: Path, folder: Path, count: int) -> None:
    """Write missing variations, and a table of all."""
    sources = [sample.path for sample in load_dataset(data).samples]
    labels = {sample.path: sample.label for sample in load_dataset(data).samples}
    random = np.random.default_rng(6)
    chosen = [sources[index] for index in random.integers(0, len(sources), count)]
    for start in range(0, count, PER_FOLDER):
        name_of(folder, start).parent.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not name_of(folder, number).exists()]
    with LineProgress().task("Making", len(missing)) as task:
        for _ in parallel_map(
            lambda number: make(chosen[number], number, name_of(folder, number)), missing, chunk_size=16
        ):
            task.advance(1)
    with (folder / "all.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        table.writerows([name_of(folder, number).resolve(), labels[chosen[number]]] for number in range(count))


def audit(folder: Path, count: int) -> None:
    """Audit the first images, and print a line."""
    rows = (folder / "all.csv").read_text().splitlines()[: count + 1]
    (folder / "some.csv").write_text("\n".join(rows) + "\n")
    start, busy = time.perf_counter(), time.process_time()
    found = belvedere.audit(folder / "some.csv", label_issues=False, progress=LineProgress())
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{count:7,} images: {seconds:6.0f} s, {busy:6.0f} s of processor, {memory:6,.0f} MB at most, "
        f"{len(found.groups)} groups of duplicates",
        flush=True,
    )


def main() -> None:
    """Make the images, and audit them in separate processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--counts", default="25000,50000,100000,200000")
    parser.add_argument("--only", type=int, help="audit so many in this process")
    options = parser.parse_args()
    if options.only:
        audit(options.folder, options.only)
        return
    counts = [int(count) for count in options.counts.split(",")]
    make_all(options.data, options.folder, max(counts))
    for count in counts:
        subprocess.run([sys.executable, *sys.argv, "--only", str(count)], check=True)


if __name__ == "__main__":
    main()
