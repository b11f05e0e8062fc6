"""Files of code that the user gives."""

import sys
from pathlib import Path

import pytest

from belvedere.errors import PluginError, UsageError
from belvedere.runtime.code_file import PREFIX, load_code


def write(folder: Path, code: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(code)
    return file


def test_a_file_runs_once_and_its_classes_have_a_module(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"with open({str(log)!r}, 'a') as log:\n    log.write('x')\n"
    code += "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
    file = write(tmp_path, code)
    load_code(file)
    load_code(file)
    assert log.read_text() == "x"


@pytest.mark.parametrize("name", ["none.py", "mine.txt", "."])
def test_what_is_no_python_file_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path, "", "mine.txt")
    with pytest.raises(UsageError):
        load_code(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        ("\nraise ValueError('two\\nlines')", "ValueError: two lines", 2),
        ("\n\ndef f(:", "SyntaxError", 3),
        ("import sys\nsys.exit(3)", "SystemExit", 2),
        ("import a_package_that_nobody_has", "ModuleNotFoundError", 1),
    ],
)
def test_an_error_is_one_line_with_its_place(code: str, kind: str, line: int, tmp_path: Path) -> None:
    file = write(tmp_path, code)
    with pytest.raises(PluginError) as raised:
        load_code(file)
    message = str(raised.value)
    assert "\n" not in message
    assert str(file) in message
    assert kind in message
    assert f"line {line})" in message
    assert not [name for name in sys.modules if name.startswith(f"{PREFIX}mine_") and str(tmp_path) in name]
