"""Measures prediction of arrays against prediction of the same images from files, in turn, on one thread.

python benchmarks/arrays.py DATA [--images 1000] [--block 50]

A block of images is predicted from files and from arrays, in alternating order, so that other load meets both alike.
"""

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path

import belvedere
from belvedere.images.listing import list_images


def main() -> None:
    """Print the median rate of both, and the median ratio with the range of its middle half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--block", type=int, default=50)
    options = parser.parse_args()
    model = belvedere.load_model(threads=1)
    files = list(islice(list_images(options.data), options.images))
    seconds: dict[str, list[float]] = {"arrays": [], "files": []}
    for number, start in enumerate(range(0, len(files), options.block)):
        block = files[start : start + options.block]
        sources = {"arrays": [belvedere.read_image(file) for file in block], "files": block}
        for name in sorted(sources, reverse=number % 2 == 1):
            started = time.perf_counter()
            model.predict(sources[name])
            seconds[name].append((time.perf_counter() - started) / len(block))
    for name, values in seconds.items():
        print(f"{name}: {1 / statistics.median(values):.0f} images/s")
    ratios = [file / array for file, array in zip(seconds["files"], seconds["arrays"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    print(f"arrays / files, in images/s: {median:.3f} (middle half: {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
