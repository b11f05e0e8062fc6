"""The worst folder a user could give: every odd file, and class names that try to break the report."""

import csv
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.inference.batch import predict_files
from belvedere.training.run import Run
from belvedere.training.train import train
from conftest import sheets
from odd_files import write_odd_files

CLASSES = ("<script>alert(1)</script>", "..", "naïve café")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A table over a folder with every odd file, and the names of those that cannot be read."""
    folder = tmp_path_factory.mktemp("odd")
    readable, unreadable = write_odd_files(folder)
    random = np.random.default_rng(0)
    rows = []
    for index, name in enumerate([*readable, *unreadable]):
        rows.append((name, CLASSES[index % 3], ("train", "test")[index % 4 == 3]))
    for index in range(18):
        pixels = np.clip(80 * (index % 3) + random.integers(0, 60, (30, 30, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"plain {index}.png")
        rows.append((f"plain {index}.png", CLASSES[index % 3], ("train", "test")[index % 6 > 2]))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        writer.writerows(rows)
    return folder / "table.csv", unreadable


@pytest.fixture(scope="module")
def run(table: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(table[0], out=tmp_path_factory.mktemp("runs") / "run", epochs=1)


def test_training_names_every_file_it_can_not_read(run: Run, table: tuple[Path, list[str]]) -> None:
    told = (run.folder / "train.log").read_text() + (run.folder / "predictions.csv").read_text()
    for name in table[1]:
        assert name in told, name
    assert set(run.evaluation.class_names) == set(CLASSES)


def test_prediction_names_them_too(run: Run, table: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, unreadable = table[0].parent, table[1]
    sources = [folder / name for name in unreadable] + [folder]
    answered = predict_files(run.load(), sources, "jsonl", out=tmp_path / "a.jsonl", sinks=sheets(tmp_path / "a.png"))
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == answered.num_images
    refused = {Path(answer["image"]).name for answer in answers if answer["error"]}
    assert refused == set(unreadable)
    assert all(answer["predicted_label"] in CLASSES for answer in answers if not answer["error"])


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_in_the_report_can_run(run: Run) -> None:
    page = _Elements()
    page.feed((run.folder / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.names
    assert page.handlers == []
    for name in CLASSES:
        assert name in page.text
    assert {path.name for path in run.folder.parent.iterdir()} == {"run"}  # the class ".." wrote nothing outside


def test_a_real_browser_runs_nothing(run: Run, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    done = subprocess.run(
        [chromium, *options, f"--user-data-dir={tmp_path}", "--dump-dom", (run.folder / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "<script" not in done.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.stdout
