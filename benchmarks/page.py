"""Predictions of the page format in Chromium, compared with those of `belvedere predict`.

python benchmarks/page.py MODEL --images FOLDER [--count N] [--runtime FILE]

MODEL is exported with `--format page` and served by Python's http.server; the page's own modules predict N images of
FOLDER: half as they are, half as PNG, and some of them in variants that decoders could read differently.
"""

import argparse
import gzip
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from playwright.sync_api import sync_playwright

from belvedere import export, load_model
from belvedere.images.listing import list_images
from belvedere.inference.page.folder import folder_bytes
from belvedere.types.prediction import Prediction

CHROMIUM = "/usr/bin/chromium"
NUM_VARIANTS = 16  # images of each kind
SIZES = {"megapixels12": (4000, 3000), "megapixels48": (8000, 6000)}  # of one image each
MOSAIC = 8  # images in a row and in a column of a large one
ORIENTATION = 0x0112
PREDICT = """async (names) => {
    const { predict } = await import(new URL("api.js", document.querySelector("script").src));
    const found = [];
    for (const name of names) {
        const content = await (await fetch(`../images/${name}`)).blob();
        const start = performance.now();
        const response = await predict(new File([content], name));
        found.push({ ...response.predictions[0], milliseconds: performance.now() - start });
    }
    return found;
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def write_images(paths: Sequence[Path], folder: Path) -> None:
    """Write the images of all kinds, the kind before the first "-" of each name."""
    for number, path in enumerate(paths):
        if number % 2:
            Image.open(path).convert("RGB").save(folder / f"png-{number}.png")
        else:
            (folder / f"jpeg-{number}{path.suffix}").write_bytes(path.read_bytes())
    images = [Image.open(path).convert("RGB") for path in paths[:NUM_VARIANTS]]
    for number, image in enumerate(images):
        for kind, (suffix, content) in write_variants(image, number).items():
            (folder / f"{kind}-{number}.{suffix}").write_bytes(content)
    for number in range(NUM_VARIANTS // 4):  # fine detail, and so large that `predict` decodes at half the scale
        tiles = [Image.open(path).convert("RGB").resize((150, 150)) for path in paths[number :: NUM_VARIANTS // 4]]
        whole = Image.new("RGB", (150 * MOSAIC, 150 * MOSAIC))
        for place in range(MOSAIC * MOSAIC):
            whole.paste(tiles[place % len(tiles)], (place % MOSAIC * 150, place // MOSAIC * 150))
        whole.save(folder / f"mosaic-{number}.jpg", quality=92)
        images[number].resize((2400, 1800), Image.Resampling.BICUBIC).save(folder / f"enlarged-{number}.jpg")
    for kind, size in SIZES.items():
        images[0].resize(size, Image.Resampling.BICUBIC).save(folder / f"{kind}-0.jpg")


def write_variants(image: Image.Image, number: int) -> Mapping[str, tuple[str, bytes]]:
    """Return suffix and content of an image by kind."""
    exif = Image.Exif()
    exif[ORIENTATION] = number % 8 + 1
    alpha = np.random.default_rng(number).integers(0, 256, (image.height, image.width), dtype=np.uint8)
    gray = np.asarray(image.convert("L")).astype(np.uint16) * 257
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))  # linear light, which a browser would convert
    small = image.resize((97, 389))
    return {
        "orientation": ("jpg", save(image, "JPEG", exif=exif, quality=95)),
        "tall": ("png", save(small, "PNG")),
        "alpha": ("png", save(Image.merge("RGBA", [*image.split(), Image.fromarray(alpha)]), "PNG")),
        "gamma": ("png", save(image, "PNG", pnginfo=chunks)),
        "gray": ("jpg", save(image.convert("L"), "JPEG", quality=95)),
        "gray16": ("png", save(Image.fromarray(gray), "PNG")),
        "palette": ("png", save(image.quantize(64), "PNG")),
        "progressive": ("jpg", save(image, "JPEG", progressive=True, quality=80)),
        "cmyk": ("jpg", save(image.convert("CMYK"), "JPEG", quality=95)),
        "webp": ("webp", save(image, "WEBP")),
        "gif": ("gif", save(image, "GIF")),
    }


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def predict_in_browser(folder: Path, names: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    """Return the page's predictions, and the seconds until the first one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(bypass_csp=True)  # to fetch the images
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/page/")
            page.evaluate(PREDICT, names[:1])
            seconds = time.perf_counter() - start
            found = page.evaluate(PREDICT, names)
            browser.close()
        server.shutdown()
    return found, seconds


def gzip_bytes(folder: Path) -> int:
    """Return the size of all files of a folder, each compressed as most hosts send it."""
    return sum(len(gzip.compress(path.read_bytes(), 6)) for path in folder.rglob("*") if path.is_file())


def compare(expected: Prediction, found: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the differences between two predictions: 0 where they are the same."""
    if expected.error or found["error"]:
        return {"error": float(bool(expected.error) != bool(found["error"]))}
    reference = json.loads(json.dumps(expected.to_dict()))
    tags = [[tag["name"] for tag in each["tags"]] for each in (reference, found)]
    areas = [{tag["name"]: tag["area_fraction"] for tag in each["tags"]} for each in (reference, found)]
    return {
        "probability": max(abs(value - found["probabilities"][key]) for key, value in expected.probabilities.items()),
        "answer": float(reference["answer"] != found["answer"]),
        "tags": float(tags[0] != tags[1]),
        "area": max((abs(areas[0].get(key, 0) - areas[1].get(key, 0)) for key in areas[0] | areas[1]), default=0.0),
        "set": float(reference["prediction_set"] != found["prediction_set"]),
        "none_of_these": float(reference["none_of_these"] != found["none_of_these"]),
        "score": abs((expected.none_of_these_score or 0) - (found["none_of_these_score"] or 0)),
    }


def summarize(rows: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield a line for each kind of image."""
    yield "| images | number | largest difference of a probability | differing classes, tags, sets, none of these |"
    yield "|---|---|---|---|"
    kinds = dict.fromkeys(name.partition("-")[0] for name in rows)
    for kind in kinds:
        chosen = [row for name, row in rows.items() if name.startswith(f"{kind}-")]
        largest = max(row.get("probability", 0) for row in chosen)
        differing = [sum(row.get(key, 0) for row in chosen) for key in ("answer", "tags", "set", "none_of_these")]
        errors = sum(row.get("error", 0) for row in chosen)
        note = f"; {errors:.0f} read by only one of the two" if errors else ""
        yield f"| {kind} | {len(chosen)} | {largest:.2g} | {', '.join(f'{each:.0f}' for each in differing)}{note} |"


def main() -> None:
    """Compare, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--runtime", type=Path)
    options = parser.parse_args()
    paths = [Path(path) for path in list_images(options.images)]
    paths = [paths[number * len(paths) // options.count] for number in range(options.count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        write_images(paths, folder / "images")
        export(options.model, folder / "page", "page", runtime=options.runtime)
        names = sorted(path.name for path in (folder / "images").iterdir())
        found, seconds = predict_in_browser(folder, names)
        model = load_model(options.model)
        expected = model.predict([folder / "images" / each for each in names])
        exact = model.predict([folder / "images" / each for each in names], draft=False)
        sizes = [each(folder / "page") / 1e6 for each in (folder_bytes, gzip_bytes)]
        print(f"{sizes[0]:.1f} MB, {sizes[1]:.1f} MB with gzip; first prediction after {seconds:.1f} s")
    times = [each["milliseconds"] for each in found]
    print(f"{np.median(times):.0f} ms an image (median)")
    for kind in SIZES:
        print(f"{times[names.index(f'{kind}-0.jpg')]:.0f} ms for {kind}")
    for title, reference in (("belvedere predict", expected), ("without reduced scale", exact)):
        rows = {key: compare(one, other) for key, one, other in zip(names, reference, found, strict=True)}
        areas = max(row.get("area", 0) for row in rows.values())
        scores = max(row.get("score", 0) for row in rows.values())
        print(f"\n{title}; largest difference of an area {areas:.2g}, of a none-of-these score {scores:.2g}\n")
        print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()
