"""The public API: its names and docstrings; importing it is cheap."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import belvedere


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", belvedere.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    thing = getattr(belvedere, name)
    assert name == "__version__" or thing.__doc__


def test_the_lazy_names_are_the_public_ones() -> None:
    assert set(belvedere._HOMES) == set(belvedere.__all__) - {"__version__"}
    assert dir(belvedere) == sorted(belvedere.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fit'"):
        _ = belvedere.fit


def test_importing_loads_nothing_heavy() -> None:
    heavy = python("import sys, belvedere; print(sorted({'torch', 'numpy', 'onnxruntime', 'PIL'} & set(sys.modules)))")
    assert heavy == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom belvedere.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(sorted({'torch', 'numpy', 'onnxruntime', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_the_version_is_the_changelogs() -> None:
    changelog = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
    assert f"## {belvedere.__version__}" in changelog


def test_no_public_name_is_hidden_by_a_module() -> None:
    """Importing `belvedere.x` sets the attribute `x` of the package, in front of a lazy name `x`."""
    modules = {path.stem for path in Path(belvedere.__file__).parent.glob("*")}
    assert not modules & set(belvedere.__all__)


@pytest.mark.parametrize("name", belvedere.__all__)
def test_public_functions_are_documented_and_typed(name: str) -> None:
    """Each function describes every argument, and has annotations."""
    thing = getattr(belvedere, name)
    if not inspect.isfunction(thing):
        return
    signature, text = inspect.signature(thing), inspect.getdoc(thing) or ""
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert f"{parameter.name}:" in text, parameter.name
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("UsageError", ValueError),
        ("UnsupportedInputError", TypeError),
        ("UnknownNameError", ValueError),
        ("OutputExistsError", FileExistsError),
        ("MissingDependencyError", ImportError),
        ("DatasetError", ValueError),
        ("InvalidImageError", ValueError),
        ("InvalidModelError", ValueError),
        ("WeightsError", ValueError),
        ("CalibrationError", ValueError),
        ("ExportError", ValueError),
        ("CacheError", RuntimeError),
        ("DistributedError", RuntimeError),
        ("TrainingError", RuntimeError),
    ],
)
def test_errors_are_standard_errors_too(name: str, base: type[Exception]) -> None:
    assert issubclass(getattr(belvedere, name), (base, belvedere.BelvedereError))
    assert issubclass(getattr(belvedere, name), base)
