"""The image cache compared with a bare decoding loop: images per second, cold and warm.

python benchmarks/cache.py DATA [--rounds 3]

The bare loop reads each file and decodes it with simplejpeg, with one thread per core, and keeps nothing. The cache
starts empty: reading, hashing, decoding, checksums, writing. Hashing the dataset beforehand, which splitting needs,
is timed separately. Both take turns, with the files in the page cache.
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
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.image_cache import read_image_array
from belvedere.runtime.environment import CACHE_DIR_ENV
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess

CHUNK_SIZE = 64  # files a thread takes at once


def decode_bare(paths: list[Path]) -> float:
    """Return the seconds of the bare loop."""

    def decode(chosen: list[Path]) -> None:
        for path in chosen:
            simplejpeg.decode_jpeg(path.read_bytes(), colorspace="RGB")

    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, [paths[first : first + CHUNK_SIZE] for first in range(0, len(paths), CHUNK_SIZE)]))
    return time.perf_counter() - start


def fill_cache(contents: HashedSamples, size: int) -> tuple[float, float]:
    """Return the seconds of the first and of the second pass."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_DIR_ENV] = folder
        start = time.perf_counter()
        read_image_array(contents, Preprocess(size, size), Progress())
        middle = time.perf_counter()
        read_image_array(contents, Preprocess(size, size), Progress())
        return middle - start, time.perf_counter() - middle


def main() -> None:
    """Measure in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=150)
    options = parser.parse_args()
    samples = load_dataset(options.data).samples
    start = time.perf_counter()
    contents = hash_samples(samples, Progress())
    print(f"hashing: {len(samples) / (time.perf_counter() - start):.0f} images/s")
    bare, cold, warm = [], [], []
    for _ in range(options.rounds):
        bare.append(len(samples) / decode_bare([sample.path for sample in samples]))
        first, second = fill_cache(contents, options.image_size)
        cold.append(len(samples) / first)
        warm.append(len(samples) / second)
    for name, speeds in (("bare loop", bare), ("cache, cold", cold), ("cache, warm", warm)):
        print(f"{name}: {statistics.median(speeds):.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})")
    pairs = [ours / theirs for ours, theirs in zip(cold, bare, strict=True)]
    print(f"cold / bare: {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")


if __name__ == "__main__":
    main()
