"""The command export."""

import json
from pathlib import Path

import pytest

from command_line import assert_one_line, belvedere


def test_export_prints_the_comparison(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    done = belvedere(
        *("export", "run", "--format", "float16-weights", "--calibration-data", "images/train"),
        *("--out", out, "--json"),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["format"] == "float16-weights"
    assert 0 < found["size_bytes"] < found["original_size_bytes"]
    assert out.stat().st_size >= found["size_bytes"]


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"--format": "int9"}, 2, "int8"),
        ({"--calibration-data": "nowhere"}, 2, "nowhere"),
        ({"--out": "bad.toml"}, 2, "bad.toml"),
        ({"--runtime": "bad.onnx"}, 2, "--runtime"),
        ({"--format": "page", "--no-tta": ""}, 2, "--no-tta"),
    ],
)
def test_bad_arguments_are_one_line(trained: Path, changes: dict[str, str], code: int, word: str) -> None:
    options = {"--format": "nchw", "--calibration-data": "images/train", "--out": "new.onnx"} | changes
    given = [each for each in sum(options.items(), ()) if each]
    assert_one_line(belvedere("export", "run", *given, cwd=trained), code, word)
    assert not (trained / "new.onnx").exists()


def test_the_page_needs_the_package_of_its_runtime(trained: Path) -> None:
    command = ("export", "run", "--format", "page", "--out", "page", "--runtime", "bad.onnx")
    assert_one_line(belvedere(*command, cwd=trained), 2, "onnxruntime-web")
    assert not list(trained.glob("page*"))
