"""Time to open the map of many images in headless Chromium, and frames a second while it moves.

python benchmarks/explore.py [--images 100000] [--chromium /usr/bin/chromium] [--screenshot map.png]

The images are synthetic: places, columns and embeddings of as many as given, without files. Frames are those that the
page draws while it is moved at each animation frame, once it has adapted the number of points to the machine.
"""

import argparse
import resource
import socket
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

import belvedere
from belvedere.inference.embeddings import model_embedder
from belvedere.reviewing.auth import LIMITS, RequestGuard
from belvedere.reviewing.exploring.app import ExploreContext, create_app
from belvedere.reviewing.exploring.pairs import PairFinder
from belvedere.reviewing.exploring.sources import ImageMap
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_server import make_server
from belvedere.runtime.http.background import BackgroundServer
from belvedere.types.data import Sample

NUM_CLASSES, EMBEDDING_DIM = 20, 192
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--enable-unsafe-swiftshader"]
MOVE = """async (number) => {
  const start = performance.now(), before = scatter.frames;
  for (let i = 0; i < number; i += 1) {
    scatter.pan(6 * Math.sin(i / 5), 6 * Math.cos(i / 5));
    await new Promise(requestAnimationFrame);
  }
  return [(scatter.frames - before) / (performance.now() - start) * 1000, scatter.detail];
}"""


def make_map(number: int) -> ImageMap:
    """Make a map of synthetic clusters."""
    random = np.random.default_rng(0)
    classes = random.integers(0, NUM_CLASSES, number)
    places = random.normal(0, 0.4, (NUM_CLASSES, 2))[classes] + random.normal(0, 0.08, (number, 2))
    embeddings = random.normal(0, 1, (number, EMBEDDING_DIM)).astype(np.float32)
    labels = tuple(f"class {each}" for each in classes)
    names = [f"images/train/{label}/{row:06}.jpg" for row, label in enumerate(labels)]
    return ImageMap(
        title=f"{number:,} images",
        samples=tuple(Sample(Path(name), name, label, "train") for name, label in zip(names, labels, strict=True)),
        hashes=tuple(f"{row:064x}" for row in range(number)),
        positions=np.clip(places, -1, 1).astype(np.float32),
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        columns={"label": labels, "prediction": tuple(random.permutation(labels).tolist())},
        confidence=random.random(number).astype(np.float32),
    )


def serve(images: ImageMap) -> BackgroundServer:
    """Serve the map without a search for copies."""
    pairs = PairFinder(images.samples, images.hashes)
    pairs.is_done = True
    embedder = model_embedder(belvedere.load_model())
    listener = socket.create_server(("127.0.0.1", 0))
    guard = RequestGuard("127.0.0.1")
    app = create_app(ExploreContext(images, pairs, Gallery(), embedder, []), guard)
    return BackgroundServer(make_server(app, LIMITS), listener, f"http://127.0.0.1:{listener.getsockname()[1]}/")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--screenshot", type=Path)
    arguments = parser.parse_args()
    with serve(make_map(arguments.images)) as server, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=arguments.chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1300, "height": 850})
        start = time.perf_counter()
        page.goto(server.url)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        print(f"opened in {time.perf_counter() - start:.2f} s")
        page.evaluate(MOVE, 60)
        rate, detail = page.evaluate(MOVE, 120)
        print(f"{rate:.1f} frames/s while it moves, with {detail:,} points")
        start = time.perf_counter()
        page.request.get(f"{server.url}neighbors/5")
        print(f"nearest images in {1000 * (time.perf_counter() - start):.0f} ms")
        if arguments.screenshot:
            page.screenshot(path=arguments.screenshot)
        browser.close()
    print(f"memory of the server: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


if __name__ == "__main__":
    main()
