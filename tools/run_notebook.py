"""Execute docs/notebook.ipynb, and write it with its outputs.

python tools/run_notebook.py
python tools/run_notebook.py --set 'DATA = "/data/scenes"' --set 'RECIPE = {"recipe": "best"}' --out scenes.ipynb

Each `--set` is a line that follows the cell of parameters. The notebook runs in a temporary folder, or in `--folder`.
Results and what a cell prints are kept. Progress, messages and the frames of servers, which have ended, are not.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
TIMEOUT = 3600  # seconds for a cell


def execute(notebook: Any, parameters: list[str], folder: Path) -> None:
    """Execute a notebook in a folder; lines of parameters replace its own. The kernel has a configuration of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    [index] = [index for index, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    if parameters:
        notebook.cells.insert(index + 1, nbformat.v4.new_code_cell("\n".join(parameters)))
    with tempfile.TemporaryDirectory() as settings:
        os.environ |= dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"), settings)
        resources = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources)
        client.record_timing = False
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_kept(output, cell.source)]
    notebook.metadata.pop("widgets", None)


def is_kept(output: Any, source: str) -> bool:
    """Return whether an output of a cell is a result that can be shown without the kernel, or printed by the cell."""
    if output.output_type == "stream":
        return output.name == "stdout" and "print(" in source
    return output.output_type == "execute_result" and "<iframe" not in output.data.get("text/html", "")


def main() -> None:
    """Execute and write the notebook."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="Python that sets a parameter")
    parser.add_argument("--folder", type=Path, help="existing folder to run in")
    parser.add_argument("--out", type=Path, default=NOTEBOOK, help="default: the notebook itself")
    options = parser.parse_args()
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    with tempfile.TemporaryDirectory() as temporary:
        execute(notebook, options.set, options.folder or Path(temporary))
    options.out.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    print(f"{options.out.stat().st_size:,} bytes: {options.out}")


if __name__ == "__main__":
    main()
