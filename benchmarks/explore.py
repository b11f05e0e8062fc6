"""Time to open the map of many images in headless Chromium, frames while it moves, and time of its responses.

python benchmarks/explore.py [--images 100000] [--trace trace.json] [--screenshot map.png] [--chromium PROGRAM]

The images are synthetic: positions, columns and embeddings of as many as given, without files. A drag and a zoom are
events of a mouse in each animation frame. Frames count if the image moved, and, in Chromium's trace, if they were
displayed. The trace can be opened in chrome://tracing. Responses are timed through HTTP, from the request to its end.
"""

import argparse
import base64
import http.client
import io
import json
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import belvedere
from belvedere.inference.embeddings import Embedder, model_embedder
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.exploring.app import ExploreContext, create_app
from belvedere.reviewing.exploring.pairs import PairFinder
from belvedere.reviewing.exploring.server import LIMITS
from belvedere.reviewing.exploring.sources import ImageMap
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_server import make_server
from belvedere.runtime.http.background import BackgroundServer
from belvedere.types.data import Sample

NUM_CLASSES = 20
EXAMPLE_PIXELS = (4000, 3000)
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--enable-unsafe-swiftshader"]
TRACED = ["viz", "disabled-by-default-display.framedisplayed", "devtools.timeline", "blink.user_timing"]
DISPLAYED = "Display::FrameDisplayed"
NUM_FRAMES, NUM_REQUESTS, NUM_LASSOS = 300, 100, 10
MOVE = """async ([kind, number]) => {
  const map = document.getElementById("map"), box = map.getBoundingClientRect();
  const [x0, y0] = [box.left + box.width / 2, box.top + box.height / 2];
  const common = { pointerId: 1, bubbles: true, cancelable: true, buttons: 1 };
  const send = (name, x, y) => map.dispatchEvent(new PointerEvent(name, { ...common, clientX: x, clientY: y }));
  const turn = (deltaY) => map.dispatchEvent(new WheelEvent("wheel", { ...common, deltaY, clientX: x0, clientY: y0 }));
  const transform = () => document.getElementById("points").style.transform + JSON.stringify(scatter.drawn);
  const found = { intervals: [], moved: 0, drawn: 0 };
  map.setPointerCapture = () => {}; // these are not of a real mouse
  if (kind === "drag") send("pointerdown", x0, y0);
  let [before, drawn, last] = [transform(), scatter.drawn, await new Promise(requestAnimationFrame)];
  performance.mark("start of the movement");
  for (let i = 1; i <= number; i += 1) {
    if (kind === "drag") send("pointermove", x0 + 300 * Math.sin(i / 20), y0 + 200 * Math.sin(i / 13));
    else turn(Math.sin(i / 24) > 0 ? -40 : 40);
    const now = await new Promise(requestAnimationFrame); // after the page's own step of this frame
    found.intervals.push(now - last);
    found.moved += transform() !== before;
    found.drawn += scatter.drawn !== drawn;
    [before, drawn, last] = [transform(), scatter.drawn, now];
  }
  performance.mark("end of the movement");
  if (kind === "drag") send("pointerup", x0 + 99, y0);
  return found;
}"""
LASSO = """() => {
  const map = document.getElementById("map"), start = performance.now();
  const { clientWidth: width, clientHeight: height } = map;
  const corner = (i) => [width / 2 + width / 3 * Math.cos(i / 20), height / 2 + height / 3 * Math.sin(i / 20)];
  select(scatter.inside(Array.from({ length: 125 }, (_, i) => corner(i))), "In the lasso");
  return [performance.now() - start, selection.length];
}"""


def make_map(number: int, dim: int) -> ImageMap:
    """Make a map of synthetic clusters."""
    random = np.random.default_rng(0)
    classes = random.integers(0, NUM_CLASSES, number)
    places = random.normal(0, 0.4, (NUM_CLASSES, 2))[classes] + random.normal(0, 0.08, (number, 2))
    embeddings = random.normal(0, 1, (number, dim)).astype(np.float32)
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


def serve(images: ImageMap, embedder: Embedder) -> BackgroundServer:
    """Serve the map without a search for copies."""
    pairs = PairFinder(images.samples, images.hashes)
    pairs.is_done = True
    listener = socket.create_server(("127.0.0.1", 0))
    guard = RequestGuard("127.0.0.1", limits=LIMITS)
    app = create_app(ExploreContext(images, pairs, Gallery(), embedder, []), guard)
    return BackgroundServer(make_server(app, LIMITS), listener, f"http://127.0.0.1:{listener.getsockname()[1]}/")


def describe(milliseconds: list[float]) -> str:
    """Describe times."""
    return f"median {np.median(milliseconds):.1f} ms, 95th percentile {np.percentile(milliseconds, 95):.1f} ms"


def measure_movement(page: Page, kind: str, trace: Path) -> None:
    """Move the map, and print the intervals of the frames."""
    page.wait_for_timeout(1000)  # all points are drawn
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(page=page, path=trace, categories=TRACED)
    found: dict[str, Any] = page.evaluate(MOVE, [kind, NUM_FRAMES])
    browser.stop_tracing()
    events = json.loads(trace.read_text())["traceEvents"]
    start, end = (
        next(event["ts"] for event in events if event["name"] == f"{name} of the movement") for name in ("start", "end")
    )
    times = sorted(event["ts"] / 1000 for event in events if event["name"] == DISPLAYED and start <= event["ts"] <= end)
    rate = found["moved"] / sum(found["intervals"]) * 1000
    print(
        f"{kind}: {rate:.1f} frames/s, {describe(found['intervals'])}; {found['moved']} of {NUM_FRAMES} frames moved, "
        f"{found['drawn']} were drawn anew; displayed by the trace: {len(times)}, {describe(np.diff(times).tolist())}"
    )


def measure_requests(name: str, request: Callable[[int], tuple[str, str, bytes | None]], address: str) -> None:
    """Send requests of a method, path and body, each on a new connection, and print their times."""
    times = []
    for number in range(NUM_REQUESTS):
        method, path, body = request(number)
        headers = {"Content-Type": "application/json", "Origin": f"http://{address}"} if body else {}
        start = time.perf_counter()
        connection = http.client.HTTPConnection(address)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        times.append(1000 * (time.perf_counter() - start))
        connection.close()
        assert response.status == 200, response.status
    print(f"{name}: {describe(times)}")


def measure_page(url: str, chromium: str, screenshot: Path | None, trace: Path | None) -> None:
    """Measure the page in a browser."""
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=chromium, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1300, "height": 850})
        start = time.perf_counter()
        page.goto(url)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        print(f"opened in {time.perf_counter() - start:.2f} s")
        for kind in ("drag", "zoom"):
            file = Path(folder) / "trace.json" if trace is None else trace.with_stem(f"{trace.stem}-{kind}")
            measure_movement(page, kind, file)
        page.locator("#reset").click()
        found = []
        for _ in range(NUM_LASSOS):
            page.wait_for_timeout(500)
            found.append(page.evaluate(LASSO))
        print(f"lasso with {found[0][1]:,} images: {describe([milliseconds for milliseconds, _ in found])}")
        if screenshot:
            page.screenshot(path=screenshot)
        browser.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--trace", type=Path)
    arguments = parser.parse_args()
    print("load average at the start: {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()))
    embedder, example = model_embedder(belvedere.load_model()), io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(EXAMPLE_PIXELS).save(example, "JPEG", quality=90)
    search = json.dumps({"image": base64.b64encode(example.getvalue()).decode()}).encode()
    with serve(make_map(arguments.images, embedder.embedding_dim), embedder) as server:
        measure_page(server.url, arguments.chromium, arguments.screenshot, arguments.trace)
        address = server.url.split("/")[2]
        measure_requests("nearest images", lambda number: ("GET", f"/neighbors/{7 * number}", None), address)
        measure_requests(f"search by a JPEG of {EXAMPLE_PIXELS}", lambda _: ("POST", "/search", search), address)
    print(f"memory of the server: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")
    print("load average at the end: {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()))


if __name__ == "__main__":
    main()
