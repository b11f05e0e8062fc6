"""The command evaluate."""

import json
from pathlib import Path

from command_line import assert_one_line, belvedere


def test_evaluate(trained: Path) -> None:
    done = belvedere("evaluate", "run/model.onnx", "images/test", "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["num_images"] == 8
    assert metrics["split"] == "all"
    assert metrics["accuracy"] == json.loads((trained / "run" / "metrics.json").read_text())["accuracy"]
    plain = belvedere("evaluate", "run", "images", "--out", "evaluation", cwd=trained)
    assert plain.returncode == 0, plain.stderr
    assert "precision" in plain.stdout
    assert (trained / "evaluation" / "report.html").is_file()
    assert metrics.keys() == json.loads((trained / "evaluation" / "metrics.json").read_text()).keys()
    again = belvedere("evaluate", "run", "images", "--out", "evaluation", cwd=trained)
    assert_one_line(again, 2, "evaluation ", "--overwrite")
