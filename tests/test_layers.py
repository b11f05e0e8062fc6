"""The house's order: a module imports only what stands before it, and every third-party library has its owner."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "belvedere"
OWNERS = {  # library -> the modules that may import it
    "PIL": {"images", "resizing", "bounds", "practice", "report", "encoding"},  # those behind the second only encode
    "simplejpeg": {"images"},
    "onnxruntime": {"session", "graphs"},
    "onnx": {"training", "graphs", "cards"},
    "torch": {"training"},
    "timm": {"training"},
    "safetensors": {"training"},
    "matplotlib": {"plots", "pictures"},
    "jinja2": {"report", "review", "serve"},
    "fastapi": {"review", "serve", "telemetry"},  # the last one for a type
    "uvicorn": {"review", "serve", "web"},
    "filelock": {"cache", "journal", "training"},
    "typer": {"cli"},
    "pyarrow": {"label_tables", "parquet", "scale"},
    "ray": {"scale"},
    "sklearn": set(),  # the tests' reference only
    "scipy": set(),
    "starlette": {"review", "serve", "web"},
    "python_multipart": {"serve"},
    "prometheus_client": {"serve"},
    "rich": {"consoles", "progress", "tables", "listings", "cli"},
}
FREE = {"__init__", "__main__"}  # the public face and the entry load what they are asked for


def read_order() -> list[str]:
    text = (ROOT / "docs" / "design.md").read_text().split("<!-- order -->")[1].split("<!-- /order -->")[0]
    return re.findall(r"^\d+\. `([\w.]+)`", text, flags=re.MULTILINE)


ORDER = read_order()
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.stem not in FREE or path.parent != SOURCE
)


def place(module: str) -> int:
    """Where a module stands: its own entry, or its package's."""
    entries = [name for name in ORDER if module == name or module.startswith(f"{name}.")]
    if not entries:
        raise AssertionError(f"{module} is missing in the order of docs/design.md")
    return ORDER.index(max(entries, key=len))


def imports(module: str) -> Iterator[str]:
    path = SOURCE / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in names if name.removeprefix("belvedere.") in MODULES]
            yield from submodules or [node.module or ""]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward_only(module: str) -> None:
    for name in imports(module):
        if name.startswith("belvedere."):
            other = name.removeprefix("belvedere.")
            inside = module.split(".")[0] == other.split(".")[0]
            assert place(other) < place(module) or inside, f"{module} imports {other}, which is above"


@pytest.mark.parametrize("module", MODULES)
def test_every_library_has_its_owner(module: str) -> None:
    for name in imports(module):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or module.split(".")[0] in owners, f"{module} imports {name}, which belongs to {owners}"


def test_the_order_names_what_is_there() -> None:
    there = set(MODULES) | {module.split(".")[0] for module in MODULES}
    assert set(ORDER) <= there
    assert len(ORDER) == len(set(ORDER))


def test_no_import_circle() -> None:
    graph = {
        module: {
            name.removeprefix("belvedere.") for name in imports(module) if name.removeprefix("belvedere.") in MODULES
        }
        for module in MODULES
    }

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        return seen

    assert [module for module in MODULES if module in reach(module)] == []


def test_nothing_is_overgrown() -> None:
    """Small files and functions: 400 and 60 lines at most."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"
