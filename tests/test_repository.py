"""Files of the repository for users, contributors and GitHub: they name each other, the version and pinned actions."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import belvedere

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHECKS_OF_THE_HOOK = {"split_leak", "conflicting_labels", "unreadable", "truncated"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_actions_are_pinned_and_may_do_little(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", each) for each in used)
    permissions = re.findall(r"permissions:\n((?: +[\w-]+: \w+.*\n)+)", text)
    granted = {line.split("#")[0].strip() for block in permissions for line in block.splitlines()}
    allowed = {"contents: read"} | ({"id-token: write"} if workflow.name == "release.yml" else set())
    assert re.search(r"^permissions:\n  contents: read\n\n", text, flags=re.MULTILINE)
    assert granted == allowed
    assert text.count("persist-credentials: false") == sum("actions/checkout@" in each for each in used)
    assert "secrets." not in text
    assert not re.search(r"run:.*\$\{\{", text)  # a name of a branch or tag is no part of a script


def test_one_action_has_one_version() -> None:
    used = {each for workflow in WORKFLOWS for each in re.findall(r"uses: (.*)", workflow.read_text("utf-8"))}
    names = [each.split("@")[0] for each in used]
    assert len(names) == len(set(names))


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", text, flags=re.MULTILINE) == [belvedere.__version__]


def test_the_map_of_the_documentation_lists_every_page() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_the_hook_calls_checks_that_exist() -> None:
    from belvedere.auditing.checks import CHECKS

    named = re.findall(r"--fail-on (\w+)", (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert set(named) == CHECKS_OF_THE_HOOK
    assert set(CHECKS) >= CHECKS_OF_THE_HOOK


def test_the_mutation_tests_find_their_modules_and_can_start() -> None:
    """`make mutate` is not part of CI: mutmut runs pytest with these arguments."""
    mutmut = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    assert all(list(ROOT.glob(pattern)) for pattern in mutmut["only_mutate"])
    tests = mutmut["pytest_add_cli_args_test_selection"]
    assert all((ROOT / path).is_file() for path in tests)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *mutmut["pytest_add_cli_args"], tests[0]]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_package_data_of_pyproject_matches_every_file_of_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    package = ROOT / "src" / "belvedere"
    matched = {path for pattern in patterns["belvedere"] for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files == matched
