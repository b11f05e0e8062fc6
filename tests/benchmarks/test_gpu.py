"""The script of benchmarks/gpu.py, as its documentation calls it, on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import write_classes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: object) -> str:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_recipe_is_measured_on_packed_images(tmp_path: Path) -> None:
    """One recipe of four, since each takes 20 seconds of a core."""
    write_classes(tmp_path / "data" / "train", 12)
    write_classes(tmp_path / "data" / "test", 2)
    assert "42 images at 150 pixels" in run("--pack", tmp_path / "data", tmp_path / "data.zip")
    out = tmp_path / "out"
    options = ("--device", "cpu", "--images", 30, "--smoke", "--recipes", "quick")
    report = run(tmp_path / "data.zip", "--out", out, *options)
    recipes = json.loads((out / "gpu.json").read_text("utf-8"))["recipes"]
    assert [*recipes] == ["quick"]
    assert 0 <= recipes["quick"]["test_accuracy"] <= 1
    assert len(recipes["quick"]["epochs"]) == 1
    assert (out / "gpu.md").read_text("utf-8").strip() == report.strip()
    assert "validation images" in report
    assert "| `quick` | 87% |" in report
