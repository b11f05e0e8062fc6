"""Time of one key press on the page of `belvedere label`, and of a new probe, with many images.

python benchmarks/label_page.py DATA [--images 20000] [--keys 120] [--pause 0.4] [--labels 0]

DATA is a folder of class folders. Its images, and then mirrored copies of them, make a folder of images, which the
command labels in a process of its own, with the bundled model. A script in Chromium answers by the true labels, and
pauses after each. The time runs from the key to the first frame with the next image, or with all images of the next
grid. Some true labels may be in the labels file before.

Then a session in this process reads the same labels, and fits again after one more.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from belvedere.data.corrections.corrections_file import CorrectionsFile
from belvedere.images.decode import read_image
from belvedere.images.encode import to_jpeg
from belvedere.images.listing import list_images
from belvedere.inference.embeddings import model_embedder
from belvedere.inference.model import load_model
from belvedere.reviewing.labeling.labels import LabelStore, default_labels_file
from belvedere.reviewing.labeling.pool import read_pool
from belvedere.reviewing.labeling.session import LabelingSession
from belvedere.runtime.progress import LineProgress
from belvedere.types.data import Decision

CHROMIUM = "/usr/bin/chromium"
TIMER = """() => {
    window.times = [];
    window.isShown = () => [...document.querySelectorAll("#image, #tiles img")].every(
        (each) => (each.complete && each.naturalWidth) || each.getBoundingClientRect().top > innerHeight);
    window.addEventListener("keydown", () => {
        const before = document.querySelector("article");
        const start = performance.now();
        const check = () => {
            if (document.querySelector("article") !== before && isShown()) times.push(performance.now() - start);
            else requestAnimationFrame(check);
        };
        requestAnimationFrame(check);
    }, { capture: true });
}"""


def write_pool(data: Path, folder: Path, number: int) -> list[str]:
    """Write the images, with their class before the first "-" of the name; return the classes."""
    paths = [Path(path) for path in list_images(data)]
    order = np.random.default_rng(0).permutation(len(paths))
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in zip(range(number), cycle(paths[row] for row in order), strict=False):
        target = folder / f"{path.parent.name}-{index:05}.jpg"
        if index < len(paths):
            target.write_bytes(path.read_bytes())
        else:
            target.write_bytes(to_jpeg(np.ascontiguousarray(read_image(path)[:, ::-1])))
    return sorted({path.parent.name for path in paths})


def open_session(folder: Path, classes: Sequence[str]) -> LabelingSession:
    """Open a session in this process."""
    pool = read_pool(folder, model_embedder(load_model()), LineProgress())
    return LabelingSession(pool, LabelStore(pool, CorrectionsFile(default_labels_file(folder)), classes))


def write_labels(session: LabelingSession, number: int, start: int = 0) -> None:
    """Record the true labels of some images in a random order."""
    pool = session.pool
    rows = session.order.random_order[start : start + number].tolist()
    name = f"{start:016x}"
    session.record(
        [
            Decision(
                id=f"{name}-{index}",
                timestamp="2026-01-01T00:00:00+00:00",
                annotator="benchmark",
                sha256=pool.hashes[row],
                image=pool.samples[row].name,
                action="relabel",
                to=(pool.samples[row].name.partition("-")[0],),
            )
            for index, row in enumerate(rows)
        ]
    )


def answer(page: Any, classes: Sequence[str], keys: int, pause: float) -> list[float]:
    """Answer questions by one key each; return the milliseconds until the next image."""
    page.evaluate(TIMER)
    for number in range(keys):
        names = page.locator("#main .path, #tiles .tile").first
        name = names.get_attribute("title") or names.inner_text()
        page.keyboard.press(str(classes.index(name.partition("-")[0]) + 1))
        page.wait_for_function(f"() => times.length === {number + 1}")
        time.sleep(pause)
    return [float(each) for each in page.evaluate("() => times")]


def measure_page(folder: Path, classes: Sequence[str], keys: int, pause: float) -> None:
    """Label in a process of its own, and print the times of the keys."""
    command = [sys.executable, "-m", "belvedere", "label", str(folder), "--classes", ",".join(classes), "--port", "0"]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stack.callback(process.send_signal, signal.SIGINT)
        playwright = stack.enter_context(sync_playwright())
        start = time.perf_counter()
        address = ""
        for line in process.stderr or ():
            if found := re.match(r"Label: (\S+)", line):
                address = found[1]
                break
        print(f"start with cached embeddings: {time.perf_counter() - start:.1f} s")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for kind in ("single image", "grid"):
            page = browser.new_page()
            page.goto(address)
            if kind == "grid":
                page.locator("#grid").check()
            page.wait_for_selector('main[aria-busy="false"] article img')
            page.wait_for_function("() => document.querySelector('article img').complete")
            if kind == "grid":
                page.keyboard.press("a")
                page.evaluate(
                    "() => setInterval(() => { for (const each of document.querySelectorAll('.tile'))"
                    " each.setAttribute('aria-pressed', 'true'); }, 5)"
                )
            times = answer(page, classes, keys if kind == "single image" else keys // 4, pause)
            print(
                f"{kind}: {len(times)} keys, median {np.median(times):.0f} ms, 95th percentile "
                f"{np.quantile(times, 0.95):.0f} ms, maximum {max(times):.0f} ms"
            )
            page.close()
        browser.close()


def measure_fits(folder: Path, classes: Sequence[str]) -> None:
    """Fit after one more label, and print the time of the probe and of all."""
    session = open_session(folder, classes)
    session.fit_once()
    for _ in range(3):
        number = session.store.num_labeled()
        write_labels(session, 1, start=int((session.store.labels[session.order.random_order] == -1).argmax()))
        before, start = session.fitted, time.perf_counter()
        thread = threading.Thread(target=session.fit_once)
        thread.start()
        while session.fitted is before:
            time.sleep(0.002)
        probe = time.perf_counter() - start
        thread.join()
        print(
            f"{number} labels: probe and suggestions {probe:.2f} s, with estimates {time.perf_counter() - start:.2f} s"
        )


def main() -> None:
    """Make the images, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=120)
    parser.add_argument("--pause", type=float, default=0.4)
    parser.add_argument("--labels", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, help="folder for the images, which is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)) / "images"
        if folder.exists():
            classes = sorted({path.name.partition("-")[0] for path in folder.iterdir()})
        else:
            classes = write_pool(options.data, folder, options.images)
        for number in options.labels:
            default_labels_file(folder).unlink(missing_ok=True)
            session = open_session(folder, classes)
            print(f"\n{number} labels of {len(session.pool.samples)} images at first")
            if number:
                write_labels(session, number)
            del session
            measure_page(folder, classes, options.keys, options.pause)
            measure_fits(folder, classes)


if __name__ == "__main__":
    main()
