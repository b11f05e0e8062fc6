"""A review in a separate process, as a user starts it, or in a thread, and a browser for its pages."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from belvedere import review
from belvedere.data.corrections.corrections_file import read_corrections
from belvedere.inference.writers.text import write_predictions
from belvedere.runtime.serialization import write_csv
from belvedere.types.data import Decision
from conftest import CLASS_NAMES, make_prediction, write_image

BROWSERS = [path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()]
NUM_ITEMS = 220


class Server:
    """The command, on a free port."""

    verb, suffix = "review", "corrections"

    def __init__(self, run: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.run, self.options = run, options
        self.corrections = run.with_name(f"{run.name}.{self.suffix}.jsonl")
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-m", "belvedere", self.verb, self.run, "--port", self.port, "--annotator", "Ana"]
        self.process = subprocess.Popen([*map(str, command), *self.options], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:  # until it prints its address
            if line.startswith(f"{self.verb.title()}: "):
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def end(self) -> str:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate()[1]

    def decisions(self) -> tuple[Decision, ...]:
        if not self.corrections.exists():
            return ()
        text = read_corrections(self.corrections)
        assert text.damaged == ()
        return text.decisions


class LabelServer(Server):
    """The command `label`."""

    verb, suffix = "label", "labels"


class ThreadServer(Server):
    """The same in a thread of this process, which starts sooner."""

    def start(self) -> None:
        self.running = review(self.run, port=self.port, annotator="Ana", progress=False, block=False)

    def kill(self) -> None:
        self.running.stop()


def write_run(folder: Path, count: int = NUM_ITEMS) -> Path:
    """Write a run with a number of mistakes, numbered by confidence, highest first."""
    run = folder / "run"
    run.mkdir()
    answers = []
    for number in range(count):
        given, said = CLASS_NAMES[number % 3], (number + 1) % 3
        image = write_image(folder / "images" / given / f"{number:03}.png", given, number + 1)
        rest = (number + 1) / (2 * count + 2)
        answers.append(make_prediction(str(image), given, *(1 - rest if k == said else rest / 2 for k in range(3))))
    write_predictions(run / "predictions.csv", answers, CLASS_NAMES)
    return run


def write_duplicates(folder: Path, count: int) -> Path:
    """Write an audit of identical images; the label of the first differs from the others."""
    images = [write_image(folder / "images" / f"{number}.png", "red") for number in range(count)]
    sha256 = hashlib.sha256(images[0].read_bytes()).hexdigest()
    labels = ["green", *["red"] * (count - 1)]
    group = {"images": list(map(str, images)), "labels": labels, "splits": [""] * count, "similarity": 1.0}
    audit = folder / "audit"
    audit.mkdir()
    (audit / "audit.json").write_text(json.dumps({"class_names": CLASS_NAMES, "groups": [group]}))
    issues = [(str(image), "exact_duplicate", sha256) for image in images]
    write_csv(audit / "issues.csv", ("image", "issue_type", "sha256"), issues)
    return audit


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open a browser; without one, the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not BROWSERS:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(BROWSERS[0]), args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def open_review(run: Path, kind: type[Server] = Server, *options: str) -> Iterator[Server]:
    """Run a review, or a labeling."""
    started = kind(run, *options)
    try:
        yield started
    finally:
        started.kill()


def open_page(context: Any, server: Server) -> Any:
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(server.address)
    settle(page)
    # Two frames: Chromium drops keys before the first frame of a page.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def settle(page: Any) -> None:
    page.wait_for_selector('main[aria-busy="false"] article', timeout=60_000)


def shown(page: Any) -> str:
    return str(page.locator("figcaption .path").inner_text()).rsplit("/", 1)[1].removesuffix(".png")


def left(page: Any) -> int:
    return int(page.locator("#left").inner_text().split()[0])


def press(page: Any, *keys: str) -> None:
    """Press keys in turn, each after the page has handled the one before."""
    for key in keys:
        page.keyboard.press(key)
        settle(page)
