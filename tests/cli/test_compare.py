"""The command compare."""

import json
import re
from pathlib import Path

import pytest

from command_line import assert_one_line, belvedere
from run_folders import write_both


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with two runs, a and b: two images gained and one lost."""
    write_both(tmp_path, [("blue", "blue", "red"), ("red", "blue", "red"), ("green", "red", "green")])
    return tmp_path


def test_compare(runs: Path) -> None:
    done = belvedere("compare", "a", "b", "--out", "out", cwd=runs)
    assert done.returncode == 0, done.stderr
    verdict = " ".join(done.stdout.split())  # folded where the terminal is narrow
    assert re.search(r"\+33\.3\b.*\b1 to 2 of 3\b", verdict)
    assert "Report: out/report.html" in done.stderr


def test_json(runs: Path) -> None:
    found = json.loads(belvedere("compare", "a", "b", "--json", cwd=runs).stdout)
    assert (found["num_gained"], found["num_lost"]) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "word"), [(("a",), "RUN_B"), (("a", "nowhere"), "nowhere"), (("a", "b", "--out", "a"), ": a ")]
)
def test_bad_arguments_are_one_line(runs: Path, arguments: tuple[str, ...], word: str) -> None:
    assert_one_line(belvedere("compare", *arguments, cwd=runs), 2, word)
