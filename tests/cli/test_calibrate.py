"""The command calibrate."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.inference.model import load_model
from command_line import assert_one_line, belvedere


def test_calibrate_writes_a_model_and_prints_json(trained: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for name, level in (("dark", 60), ("light", 180)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.clip(level + random.integers(-60, 60, (20, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    done = belvedere(
        *("calibrate", "run", tmp_path / "data", "--out", tmp_path / "new.onnx", "--force", "--json"), cwd=trained
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_images"] == 120
    assert load_model(tmp_path / "new.onnx").class_names == load_model(trained / "run").class_names


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("run",), 2, "DATA"),
        (("run", "nowhere"), 1, "nowhere"),
        (("bad.onnx", "images/test"), 1, "bad.onnx"),
        (("run", "images/test", "--out", "bad.toml"), 2, "bad.toml"),
    ],
)
def test_bad_arguments_are_one_line(trained: Path, arguments: tuple[str, ...], code: int, word: str) -> None:
    assert_one_line(belvedere("calibrate", *arguments, cwd=trained), code, word)
