"""The documentation: its Python runs, its links are valid, its commands exist; it holds no private paths."""

import ast
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def test_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.clip(level + random.integers(-30, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.jpg")
    (tmp_path / "holiday").mkdir()
    Image.new("RGB", (40, 30), "white").save(tmp_path / "holiday" / "snow.png")
    (tmp_path / "holiday" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES._values, "standard", replace(RECIPES["standard"], epochs=1, min_steps=0))
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[\d.]+% of \d+ test images", printed[0])
    assert printed[1].startswith("holiday/snow.png")
    assert printed[2].startswith("holiday/torn.jpg")


def test_python_of_the_page_about_python_runs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "model.onnx").write_bytes(tiny_model.read_bytes())
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "holiday" / "harbor.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text("utf-8"), flags=re.DOTALL)
    exec(compile("\n".join(blocks), "python.md", "exec"), {})  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert len({*printed[:4]}) == 1
    assert printed[0].startswith("blue 0.")
    assert printed[4] == "2 blue"
    assert re.fullmatch(r"Prediction\('holiday/harbor.jpg', 'blue', \d+\.\d%\)", printed[5])
    assert printed[-1] == "blue"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_command_of_the_pages_exists() -> None:
    listed = re.findall(
        r"^VERBS = \((.*?)\)$", (ROOT / "docs" / "generate.py").read_text(), flags=re.MULTILINE | re.DOTALL
    )[0]
    verbs = set(re.findall(r'"(\w+)"', listed))
    from belvedere.cli import app

    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == verbs


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in lines)


def test_no_path_of_a_machine_is_committed() -> None:
    """Home and work folders occur neither in text nor in the bundled model."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    private = re.compile(rb"/(root|home|work|Users)/")
    for name in tracked:
        file = ROOT / name
        if file.suffix not in (".png", ".jpg", ".svg") and file != Path(__file__):
            assert not private.search(file.read_bytes()), name


PROGRAMS = sorted(path for folder in ("benchmarks", "tools") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_read_only_arguments_that_they_define(program: Path) -> None:
    """Attributes of `argparse.Namespace` are checked by no other tool."""
    tree = ast.parse(program.read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    defined = {
        ast.literal_eval(word).lstrip("-").replace("-", "_")
        for call in added
        for word in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "dest"))
    }
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "options"
    }
    assert read <= defined
