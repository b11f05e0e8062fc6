"""Make the manifest of a dataset that `belvedere fetch` knows.

python tools/make_manifest.py NAME FOLDER SPLIT=N [SPLIT=N ...]

Decodes the images in FOLDER/SPLIT/CLASS, and writes their names and hashes to the file that
src/belvedere/fetching/assets/datasets.toml names. N is the number of images of the split in the whole dataset, of which
FOLDER may lack some. The manifest of intel-scenes was made with `train=14034 test=3000`, from all training images and
1,502 of the test images.
"""

import argparse
from pathlib import Path

from belvedere.fetching.manifest import Manifest, list_pixels, write_manifest
from belvedere.fetching.registry import read_registry
from belvedere.runtime.progress import LineProgress


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(read_registry()))
    parser.add_argument("folder", type=Path)
    parser.add_argument("splits", nargs="+", metavar="SPLIT=N")
    options = parser.parse_args()
    known = read_registry()[options.name]
    assert known.manifest is not None, "datasets.toml names no manifest"
    sizes = {name: int(size) for name, _, size in (each.partition("=") for each in options.splits)}
    images = list(list_pixels(options.folder, sizes, LineProgress()))
    assert all(image.pixel_hash for image in images), "an image cannot be read"
    images.sort(key=lambda image: (image.split, image.label, len(image.stem), image.stem))
    write_manifest(known.manifest, Manifest(tuple(images), sizes))
    print(f"{len(images):,} images, {known.manifest.stat().st_size:,} bytes: {known.manifest}")


if __name__ == "__main__":
    main()
