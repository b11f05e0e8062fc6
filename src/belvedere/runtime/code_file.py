"""Runs a Python file of the user's that registers networks, recipes, checks, writers or optimizers."""

import importlib.util
import sys
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.runtime.registry import plugin_errors

PREFIX = "belvedere_code_"  # of the names of the modules


def load_code(file: Path) -> None:
    """Run a Python file as a module, once per process.

    Args:
        file: The file. Its code has all rights of the process; modules beside it are not found.

    Raises:
        UsageError: There is no such file, or it is not a Python file.
        PluginError: The file raised an exception, or is not valid Python.
    """
    path = file.absolute()
    name = f"{PREFIX}{path.stem}_{abs(hash(str(path))):x}"
    if name in sys.modules:
        return
    if not path.is_file():
        raise UsageError(f"No such file: {file}. Give a Python file.")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file. Give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before the code runs: dataclasses look their module up
    try:
        with plugin_errors(f"The code in {file}"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
