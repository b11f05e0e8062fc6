"""The notebook of the documentation: it runs, shows every result, and is committed without outputs."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
MAX_HTML = 300_000  # bytes of one output
RESULTS = {  # last line of a cell -> start of its text, and texts of its HTML
    "found": (r"Audit\(data='images', num_images=168, ", ("Split leaks", "Label issues", "data:image/jpeg")),
    "run": (r"Run\(folder='run', recipe='quick', epochs=12, ", ("<svg", "Accuracy", "precision", "validation")),
    "belvedere.calibrate(": (r"Calibration\(path='calibrated.onnx', num_images=119, ", ("log loss", "119 images")),
    "belvedere.evaluate(": (r"Evaluation\(split='test', num_images=48, ", ("macro F1", "Most confident mistakes")),
    "belvedere.compare(": (r"Comparison\(before='bundled', after='run', ", ("95% interval", "data:image/jpeg")),
    "server": (r"<BackgroundServer http://127.0.0.1:\d+ \(running\)>", ("<iframe",)),
    "reviewer": (r"<BackgroundReview http://127.0.0.1:\d+/ \(running\)>", ("<iframe",)),
}


def read_cells(path: Path) -> list[dict[str, object]]:
    cells: list[dict[str, object]] = json.loads(path.read_text("utf-8"))["cells"]
    return cells


def test_it_is_committed_without_outputs() -> None:
    code = [cell for cell in read_cells(NOTEBOOK) if cell["cell_type"] == "code"]
    assert len(code) > 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.filterwarnings("default")  # of Jupyter
def test_it_runs_and_shows_every_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    (tmp_path / "work").mkdir()
    notebook = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path / "work")}}
    ).execute()
    found = set()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            html, text = (output.get("data", {}).get(f"text/{kind}", "") for kind in ("html", "plain"))
            assert len(html) < MAX_HTML
            last_line = cell.source.splitlines()[-1]
            for name, (pattern, parts) in RESULTS.items():
                if text and (last_line == name or (name.endswith("(") and last_line.startswith(name))):
                    assert re.match(pattern, text), text
                    assert all(part in html for part in parts), name
                    assert "\n" not in text
                    found.add(name)
    assert found == set(RESULTS)
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert printed.count("(stopped)") == 2
