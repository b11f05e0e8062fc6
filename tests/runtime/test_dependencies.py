"""The extras: what works without them, and what their absence says."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import belvedere
from belvedere.runtime.dependencies import EXTRAS
from conftest import write_classes

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRA_OF = {name: extra for extra in ("report", "serve", "train", "track") for name in EXTRAS[extra]}
CORE = f"import sys\nsys.modules.update(dict.fromkeys({sorted(EXTRA_OF)}))\nimport belvedere\n"  # None: not installed


def packages(extra: str) -> set[str]:
    """Return the module names of an extra of pyproject.toml."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        name = requirement.split(">=")[0].replace("scikit-learn", "sklearn").replace("-", "_").removesuffix("_skinny")
        found |= packages(name.split("[")[1].rstrip("]")) if name.startswith("belvedere[") else {name}
    return found - {"uvloop"}  # not on every system


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", CORE + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_are_those_of_the_project(extra: str) -> None:
    assert set(EXTRAS[extra]) == packages(extra)


def test_the_core_predicts_evaluates_and_audits(tiny_model: Path, tmp_path: Path) -> None:
    code = f"""
model, data = {str(tiny_model)!r}, {str(write_classes(tmp_path, 3))!r}
print(len(belvedere.predict(model, data)))
print(belvedere.evaluate(model, data).num_images)
print(belvedere.audit(data, label_issues=False, near_duplicates=False).num_images)
"""
    predicted, evaluated, audited = map(int, python(code).split())
    assert predicted == audited == evaluated > 0


@pytest.mark.parametrize(
    ("call", "extra"),
    [
        ("evaluate('m', 'd', out='o')", "report"),
        ("audit('d', out='o')", "report"),
        ("compare('a', 'b', out='o')", "report"),
        ("serve('m')", "serve"),
        ("review('m')", "serve"),
        ("explore('d')", "serve"),
        ("train('d', out='o')", "train"),
        ("list_models()", "train"),
        ("load_model('hf://user/model')", "hub"),
        ("run_demo('o')", "train"),
        ("train('d', out='o', track='wandb')", "train"),
    ],
)
def test_a_missing_extra_says_how_to_install_it(call: str, extra: str) -> None:
    code = f"""
try:
    belvedere.{call}
except belvedere.MissingDependencyError as error:
    print(error.package, error.extra, error)
"""
    package, found, message = python(code).split(maxsplit=2)
    assert found == extra
    assert package in EXTRAS[extra]
    assert repr(package) in message
    assert f"pip install 'belvedere[{extra}]'" in message


def test_a_contact_sheet_is_refused_before_the_work(tiny_model: Path, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(image)
    code = f"""
from belvedere.cli import main
sys.argv = ["belvedere", "predict", "--model", {str(tiny_model)!r}, {str(image)!r}, "--contact-sheet", "s.png"]
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    assert python(code).split()[-1] == "2"
    assert belvedere.MissingDependencyError.__mro__[1] is belvedere.UsageError
