"""Change of probabilities if large JPEGs are decoded at a reduced scale.

Run as `python benchmarks/reduced.py DATA [--model M]`. Images are enlarged in several ways, for edges of different
sharpness, and 64 are tiled into images with detail everywhere. Each is decoded at full and reduced scale. The largest
and mean change of a probability, the top-class agreement and both times are printed as Markdown.
"""

import argparse
import io
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # also without Belvedere installed

from belvedere.images import decode
from belvedere.images.listing import list_images
from belvedere.inference.model import load_model
from belvedere.inference.model_paths import BUNDLED

Resampling = Image.Resampling
Way = tuple[tuple[int, int], Resampling, int, int]  # size, scaling, quality and subsampling
WAYS: dict[str, Way | None] = {
    "as it is": None,
    "1200 x 1200, Lanczos": ((1200, 1200), Resampling.LANCZOS, 90, 2),
    "1600 x 1200, bicubic": ((1600, 1200), Resampling.BICUBIC, 85, 2),
    "700 x 700, nearest": ((700, 700), Resampling.NEAREST, 95, 0),
    "4000 x 3000, Lanczos": ((4000, 3000), Resampling.LANCZOS, 90, 2),
}
MOSAICS, ACROSS = 40, 8


def enlarge(files: Sequence[Path], way: Way | None) -> Iterator[bytes]:
    """Write images as larger JPEGs."""
    for file in files:
        if way is None:
            yield file.read_bytes()
            continue
        size, scaling, quality, subsampling = way
        with Image.open(file) as image:
            yield to_jpeg(image.convert("RGB").resize(size, scaling), quality, subsampling)


def to_jpeg(image: Image.Image, quality: int = 90, subsampling: int = 2) -> bytes:
    """Return an image as JPEG bytes."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=quality, subsampling=subsampling)
    return written.getvalue()


def lay_mosaics(files: Sequence[Path]) -> Iterator[bytes]:
    """Tile 8 x 8 images repeatedly."""
    chance = np.random.default_rng(0)
    for _ in range(MOSAICS):
        whole = Image.new("RGB", (150 * ACROSS, 150 * ACROSS))
        for position, index in enumerate(chance.choice(len(files), ACROSS**2)):
            with Image.open(files[index]) as image:
                small = image.convert("RGB").resize((150, 150))
            whole.paste(small, (150 * (position % ACROSS), 150 * (position // ACROSS)))
        yield to_jpeg(whole)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--count", type=int, default=150)
    options = parser.parse_args()
    model = load_model(options.model)
    preprocess = model.card.preprocess
    found = list(list_images(options.data))
    count = min(options.count, len(found))
    files = [found[number * len(found) // count] for number in range(count)]
    cases = {name: enlarge(files, way) for name, way in WAYS.items()} | {"mosaics of 64": lay_mosaics(files)}
    size = f"{preprocess.height} x {preprocess.width}"
    print(f"{model.name}, input {size}; decoded at {decode.DRAFT_FACTOR} times that or more\n")
    print("| images | | largest change | mean | same predicted class | ms, in full | ms, reduced |")
    print("|---|---|---|---|---|---|---|")
    for name, contents in cases.items():
        pixels: dict[bool, list[decode.RGB]] = {False: [], True: []}
        seconds = {False: 0.0, True: 0.0}
        for content in contents:
            for reduced in (False, True):
                start = time.process_time()
                pixels[reduced].append(decode.read_input(content, preprocess, draft=reduced).pixels)
                seconds[reduced] += time.process_time() - start
        full, less = (model.forward(np.stack(pixels[reduced])).probabilities for reduced in (False, True))
        change = np.abs(full - less).max(1)
        same = (full.argmax(1) == less.argmax(1)).mean()
        times = " | ".join(f"{seconds[reduced] / len(change) * 1000:.1f}" for reduced in (False, True))
        print(
            f"| {name} | {len(change)} | {change.max():.4f} | {change.mean():.5f} | {same:.2%} | {times} |", flush=True
        )


if __name__ == "__main__":
    main()
