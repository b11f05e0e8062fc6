"""The command monitor."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from belvedere.inference.model import Model
from command_line import assert_one_line, belvedere
from conftest import write_classes, write_image
from run_folders import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, opened: Model, tiny_model: Path) -> Path:
    """Return a folder with a run, and new images that are all red."""
    folder = tmp_path_factory.mktemp("monitor")
    images = write_classes(folder / "images", 10)
    predictions = [replace(each, label=Path(each.image).parent.name) for each in opened.predict(images)]
    write_run(folder / "run", predictions)
    (folder / "run" / "model.onnx").write_bytes(tiny_model.read_bytes())
    for number in range(30):
        write_image(folder / "new" / f"{number}.png", "red", number)
    return folder


def test_monitor(folder: Path) -> None:
    done = belvedere("monitor", "run", "new", "--fail-on-change", "--metrics-file", "m.prom", cwd=folder)
    assert done.returncode == 1, done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "predicted classes" in done.stdout
    assert "Expected accuracy" in done.stdout
    assert "belvedere_monitor_expected_accuracy" in (folder / "m.prom").read_text()


def test_json_of_the_same_images(folder: Path) -> None:
    done = belvedere("monitor", "run", "images", "--fail-on-change", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_changed"] is False


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run",), "SOURCE"),
        (("images", "new"), "images"),
        (("run", "nowhere"), "nowhere"),
        (("run", "new", "--since", "2026-01-01"), "--since"),
        (("run", "new", "--metrics-file", "run/predictions.csv"), "--metrics-file"),
    ],
)
def test_bad_arguments_are_one_line(folder: Path, arguments: tuple[str, ...], word: str) -> None:
    assert_one_line(belvedere("monitor", *arguments, cwd=folder), 2, word)
