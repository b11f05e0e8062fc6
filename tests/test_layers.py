"""Package layers: imports in one direction, an owner for each third-party library, small files and functions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "belvedere"
OWNERS = {  # library -> the packages or modules that may import it
    "PIL": {"images", "demo"},
    "simplejpeg": {"images.decode", "images.encode"},
    "onnxruntime": {"inference.session", "inference.onnx_transforms"},
    "onnx": {"training", "inference.onnx_transforms", "inference.pixel_values", "inference.model_card"},
    "torch": {"training"},
    "timm": {"training"},
    "mlflow": {"training.trackers"},
    "wandb": {"training.trackers"},
    "trackio": {"training.trackers"},
    "tensorboard": set(),  # torch writes its files
    "IPython": {"runtime.progress"},
    "safetensors": {"training"},
    "huggingface_hub": {"runtime.hub", "inference.hub_card", "training.pretrained_weights"},
    "matplotlib": {"evaluation.report.plots", "evaluation.report.image_grid"},
    "jinja2": {"evaluation.report.pages"},
    "fastapi": {"reviewing", "serving", "runtime.environment"},  # the last one for a type
    "uvicorn": {"reviewing", "serving", "runtime.http"},
    "filelock": {"data", "training"},
    "threadpoolctl": {"runtime.blas"},
    "typer": {"cli"},
    "pandas": {"inference.predictions"},
    "openpyxl": {"data.binary_tables"},
    "pyarrow": {
        "data.binary_tables",
        "fetching.parquet",
        "inference.predictions",
        "inference.writers.parquet",
        "inference.ray_backend",
    },
    "ray": {"inference.ray_backend"},
    "sklearn": {"sklearn"},
    "scipy": set(),
    "starlette": {"reviewing", "serving", "runtime.http"},
    "prometheus_client": {"serving"},
    "rich": {"runtime.console", "runtime.progress", "cli"},
}
SYSTEM_MODULE = "runtime.operating_system"  # what it offers is all that depends on the operating system
SYSTEM_LIBRARIES = {"_winapi", "crypt", "curses", "fcntl", "grp", "msvcrt", "nt", "posix", "pty", "pwd", "readline"}
SYSTEM_LIBRARIES |= {"resource", "spwd", "syslog", "termios", "tty", "winreg"}
COMMON_NAMES = {  # that all operating systems have; of these modules no other name is used
    "os": {"O_RDONLY", "O_WRONLY", "PathLike", "SEEK_CUR", "SEEK_END", "SEEK_SET", "_exit", "close", "devnull", "dup2"}
    | {
        "environ",
        "fsdecode",
        "fsencode",
        "fspath",
        "fstat",
        "fsync",
        "getpid",
        "open",
        "path",
        "pathsep",
        "scandir",
        "sep",
    }
    | {"set_inheritable", "stat", "strerror"},
    "signal": {"SIGINT", "SIGTERM", "SIG_DFL", "SIG_IGN", "getsignal", "signal"},
}
SYSTEM_NAMES = {
    "add_signal_handler",
    "remove_signal_handler",
    "hardlink_to",
    "AF_UNIX",
    "SO_REUSEPORT",
}  # of any object
MAX_NAMES, MAX_ARROWS = 15, 100  # packages and modules at the top, without the following, and imports between them
FREE = {"__init__", "__main__"}  # the API and the entry point import lazily


def read_order() -> list[str]:
    text = (ROOT / "docs" / "design.md").read_text().split("<!-- order -->")[1].split("<!-- /order -->")[0]
    return re.findall(r"^\d+\. `([\w.]+)`", text, flags=re.MULTILINE)


ORDER = read_order()
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.stem not in FREE or path.parent != SOURCE
)


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


def test_imports_between_packages_run_downward_only() -> None:
    upward = [
        (module, name)
        for module in MODULES
        for name in imports(module)
        if name.startswith("belvedere.")
        and (other := name.split(".")[1]) != (own := module.split(".")[0])
        and ORDER.index(other) > ORDER.index(own)
    ]
    assert upward == []


def test_only_commands_import_the_public_functions_of_the_package() -> None:
    assert {module.split(".")[0] for module in MODULES if "belvedere" in imports(module)} == {"cli"}


def test_there_are_few_packages_and_imports_between_them() -> None:
    arrows = {
        (own, other)
        for module in MODULES
        for name in imports(module)
        if name.startswith("belvedere.") and (other := name.split(".")[1]) != (own := module.split(".")[0])
    }
    assert len(arrows) <= MAX_ARROWS
    assert len(ORDER) <= MAX_NAMES


def test_libraries_are_imported_by_their_owners_only() -> None:
    violations = [
        (module, name)
        for module in MODULES
        for name in imports(module)
        if (owners := OWNERS.get(name.split(".")[0])) is not None
        and not any(f"{module}.".startswith(f"{owner}.") for owner in owners)
    ]
    assert violations == []


def test_the_order_lists_all_packages() -> None:
    assert sorted(ORDER) == sorted({module.split(".")[0] for module in MODULES})


def test_imports_have_no_cycle() -> None:
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


def test_files_have_400_lines_and_functions_60_at_most() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"


def test_one_module_calls_what_only_some_operating_systems_have() -> None:
    """`mypy --platform win32` checks the same by the types of the standard library."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())) if module != SYSTEM_MODULE else ():
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names} & SYSTEM_LIBRARIES
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or ""} & SYSTEM_LIBRARIES
                names |= (
                    {each.name for each in node.names} - COMMON_NAMES.get(node.module or "", {""})
                    if (node.module in COMMON_NAMES)
                    else set()
                )
            elif isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                names = {node.attr} & SYSTEM_NAMES | ({node.attr} - COMMON_NAMES.get(owner, {node.attr}))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = {node.value} if node.value.startswith(("/dev/", "/tmp")) else set()  # noqa: S108
            found += [(module, name) for name in sorted(names)]
    assert found == []
