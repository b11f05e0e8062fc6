"""The pixel cache beside a bare loop over the same decoder: images a second, cold and warm, on the same cores.

python benchmarks/cache.py PHOTOS [--rounds 3]

The bare loop reads each file and decodes it with simplejpeg in as many threads as there are cores, and keeps nothing.
The cache does all of its work from an empty folder: reading, hashing, decoding, checksums, writing. Hashing the data
set beforehand, which dividing it needs, stands apart. Both take turns; the files are in the kernel's memory.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import simplejpeg

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import Contents, read_contents
from belvedere.data.image_cache import read_pixels
from belvedere.runtime.environment import CACHE_DIR_ENV
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess

SHARE = 64  # files a thread takes at once


def decode_bare(paths: list[Path]) -> float:
    """Returns seconds."""

    def decode(chosen: list[Path]) -> None:
        for path in chosen:
            simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB")

    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, [paths[first : first + SHARE] for first in range(0, len(paths), SHARE)]))
    return time.perf_counter() - start


def fill_cache(contents: Contents, side: int) -> tuple[float, float]:
    """Returns seconds of the first reading and of the second."""
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE_DIR_ENV] = place
        start = time.perf_counter()
        read_pixels(contents, Preprocess(side, side), Progress())
        middle = time.perf_counter()
        read_pixels(contents, Preprocess(side, side), Progress())
        return middle - start, time.perf_counter() - middle


def main() -> None:
    """Measures in turn and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=150)
    options = parser.parse_args()
    samples = load_dataset(options.photos).samples
    start = time.perf_counter()
    contents = read_contents(samples, Progress())
    print(f"hashing: {len(samples) / (time.perf_counter() - start):.0f} images/s")
    bare, cold, warm = [], [], []
    for _ in range(options.rounds):
        bare.append(len(samples) / decode_bare([sample.path for sample in samples]))
        first, second = fill_cache(contents, options.side)
        cold.append(len(samples) / first)
        warm.append(len(samples) / second)
    for name, speeds in (("bare loop", bare), ("cache, cold", cold), ("cache, warm", warm)):
        print(f"{name}: {statistics.median(speeds):.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})")
    pairs = [ours / theirs for ours, theirs in zip(cold, bare, strict=True)]
    print(f"cold / bare: {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")


if __name__ == "__main__":
    main()
