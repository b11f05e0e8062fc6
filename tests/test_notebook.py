"""The notebook of the documentation: it runs on other parameters, shows every result, and is committed with outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MAX_BYTES = 500_000
PARAMETERS = (
    'SIZE = {"train_per_class": 8, "test_per_class": 4}',
    'RECIPE = {"recipe": "quick", "epochs": 2, "batch_size": 16}',
)
RESULTS = {  # start of the last line of a cell -> start of its text, and texts of its HTML
    "dataset": (r"Dataset\(source='images', num_images=72, ", ("72 images", "data:image/jpeg", "train", "test")),
    "belvedere.describe_architecture(": (
        r"Architecture\(name='article', num_parameters=135942\)",
        ("135,942", "Conv2d"),
    ),
    "run": (r"Run\(folder='run', recipe='quick', epochs=2, ", ("<svg", "Accuracy", "precision", "validation")),
    "run.model.predict([": (
        r"\[Prediction\('images/test/buildings/0001.jpg', '[\w ]+', \d+\.\d%\)",
        ("images/fjord.jpg", "glacier"),
    ),
    'run.model.predict("run': (r"\[Prediction\('run/figures/history.png', '[\w ]+', \d+\.\d%\)", ("data:image/jpeg",)),
    "found": (r"Audit\(data='images', num_images=72, ", ("Split leaks", "Duplicates", "data:image/jpeg")),
    "belvedere.compare(": (r"Comparison\(before='bundled', after='run', ", ("95% interval", "data:image/jpeg")),
}


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_is_committed_with_the_outputs_of_one_run() -> None:
    cells = code_cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"execute_result", "stream"}
    assert sum("text/html" in output.get("data", {}) for output in outputs) == len(RESULTS)
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < MAX_BYTES
    assert "<iframe" not in text
    assert not re.search(r"[ '\"](/(?!div|/)\w+/\w|[A-Z]:\\)", text)  # absolute paths


def test_a_step_has_one_or_two_lines() -> None:
    """And the result in a line of its own; a longer one would miss something in the API."""
    for cell in code_cells(NOTEBOOK)[2:]:
        assert len("".join(cell["source"]).splitlines()) <= 3


def test_it_runs_and_shows_every_result(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (tmp_path / "work").mkdir()
    executed = tmp_path / "executed.ipynb"
    options = [part for line in PARAMETERS for part in ("--set", line)]
    done = subprocess.run(
        [sys.executable, ROOT / "tools/run_notebook.py", *options, "--folder", tmp_path / "work", "--out", executed],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = set()
    for cell in code_cells(executed):
        last_line = "".join(cell["source"]).splitlines()[-1]
        for output in cell["outputs"]:
            text, html = ("".join(output.get("data", {}).get(f"text/{kind}", "")) for kind in ("plain", "html"))
            for name, (pattern, parts) in RESULTS.items():
                if text and (last_line == name or ("(" in name and last_line.startswith(name))):
                    assert re.match(pattern, text), text
                    assert all(part in html for part in parts), name
                    found.add(name)
    assert found == set(RESULTS)
    printed = "".join("".join(output.get("text", "")) for output in code_cells(executed)[-1]["outputs"])
    assert printed.count("(stopped)") == 2
    assert (tmp_path / "work" / "audit" / "report.html").exists()
