"""Plug-ins as a user has them: the example of the docs, and an installed package."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Completed, assert_one_line, belvedere
from conftest import write_classes

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
CLASSES = {"blue": (40, 60, 200), "red": (200, 60, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise, one image with a black frame, and the code of the page: its first block, and all."""
    folder, random = tmp_path_factory.mktemp("plugins"), np.random.default_rng(0)
    for name, color in CLASSES.items():
        (folder / "data" / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.clip(np.array(color) + random.integers(-40, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            if (name, index) == ("red", 0):
                pixels[:2] = pixels[-2:] = pixels[:, :2] = pixels[:, -2:] = 0
            Image.fromarray(pixels).save(folder / "data" / name / f"{index}.png")
    (folder / "mine.py").write_text(BLOCKS[0])
    (folder / "all.py").write_text("".join(BLOCKS))
    return folder


def test_the_example_is_short() -> None:
    assert sum(bool(line.strip()) for line in BLOCKS[0].splitlines()) <= 30


def test_the_example_trains_audits_and_predicts(folder: Path) -> None:
    small = (
        "--epochs",
        1,
        "--set",
        "batch_size=8",
        "--set",
        "image_size=32",
        "--set",
        "image_size_schedule=[[0.0, 32]]",
    )
    done = belvedere("train", "data", "--code", "mine.py", "--network", "tiny", *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "recipe 'standard'" in done.stderr
    shown = belvedere("show", "run", cwd=folder)
    assert "tiny" in shown.stdout

    skip = ("--skip-label-issues", "--skip-near-duplicates")
    done = belvedere("audit", "data", "--code", "mine.py", *skip, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checks"]["black_frame"] == {"title": "Black frames", "num_flagged": 1}
    with (folder / "audit" / "issues.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["issue_type"] == "black_frame"]
    assert [(Path(row["image"]).name, row["issue_score"]) for row in rows] == [("0.png", "1.0")]
    assert "Crop the frame off." in (folder / "audit" / "report.html").read_text("utf-8")

    done = belvedere("predict", "run", "data", "--code", "all.py", "--out", "predictions.md", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "predictions.md").read_text("utf-8").count("\n| data") == 24


def test_the_other_examples_are_registered(folder: Path) -> None:
    done = belvedere("train", "--code", "all.py", "--recipe", "plain", "--print-config", cwd=folder)
    assert 'optimizer = "sgd"' in done.stdout
    assert 'name = "plain"' in done.stdout


def test_names_of_code_that_is_not_given_are_unknown(folder: Path) -> None:
    assert_one_line(belvedere("train", "data", "--recipe", "plain", cwd=folder), 2, "'plain'")
    assert_one_line(belvedere("predict", "data", "--format", "md", cwd=folder), 2, "'md'")
    assert_one_line(belvedere("train", "data", "--code", "none.py", cwd=folder), 2, "none.py")
    (folder / "bad.py").write_text("raise ValueError('two\\nlines')")
    assert_one_line(belvedere("audit", "data", "--code", "bad.py", cwd=folder), 1, "bad.py", "two lines")


def run_with_package(arguments: list[str], site: Path, cwd: Path) -> Completed:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "belvedere", *arguments]
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, env=environment)


def test_an_installed_package_is_a_plugin_and_a_broken_one_a_line(tmp_path: Path) -> None:
    site, data = tmp_path / "site", write_classes(tmp_path / "data", 1)
    info = site / "formats_of_others-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: formats-of-others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[belvedere.writers]\nbroken = broken_format\nmd = format_of_others\n")
    (site / "format_of_others.py").write_text(BLOCKS[-1])
    (site / "broken_format.py").write_text("1 / 0\n")
    done = run_with_package(["predict", str(data), "--format", "md"], site, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(data)) == 3
    [line] = [line for line in done.stderr.splitlines() if "broken" in line]
    assert "formats-of-others" in line
    assert "ZeroDivisionError" in line
    done = run_with_package(["predict", str(data), "--format", "csv"], site, tmp_path)
    assert "broken" not in done.stderr  # built-in names load no plug-in
