"""Help pages, their examples, and completion in a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from belvedere.cli import app, export, predict, train
from belvedere.cli.ending import run
from belvedere.cli.help import GROUPS, NO_LIMIT
from belvedere.cli.prediction_table import register_table
from belvedere.inference.export import FORMATS
from belvedere.inference.writers.text import WRITERS
from belvedere.training.recipes import RECIPES

GROUP: Any = typer.main.get_command(app)
VERBS = sorted(GROUP.commands)


def help_of(*words: str) -> str:
    """Return a help page, made in this process."""
    context = GROUP.make_context("belvedere", list(words[:1]), resilient_parsing=True)
    if not words:
        return str(GROUP.get_help(context))
    command = GROUP.commands[words[0]]
    with command.make_context(words[0], [], parent=context, resilient_parsing=True) as inner:
        return str(command.get_help(inner))


def test_every_command_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == VERBS


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_no_line_of_the_first_page_is_cut_off(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = help_of()
    lines = page.splitlines()
    assert max(map(len, lines)) <= min(columns, 80)
    assert "..." not in page.replace("[ARGS]...", "")
    assert [title for title in GROUPS if f"{title}:" in lines] == list(GROUPS)
    flat = " ".join(page.split())
    for name, command in GROUP.commands.items():
        assert f" {name} {command.get_short_help_str(NO_LIMIT)}" in flat
    if columns >= 80:  # a line for each
        rows = {tuple(line.split(maxsplit=1)) for line in lines if line.startswith("  ")}
        assert {(name, command.get_short_help_str(NO_LIMIT)) for name, command in GROUP.commands.items()} <= rows


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_a_command_are_commands(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = GROUP.commands[verb]
    lines = command.epilog.splitlines()
    assert len(lines) == len({*lines}) == 2
    page = help_of(verb).splitlines()
    assert page[page.index("Examples:") + 1 :] == [f"  {line}" for line in lines]
    assert max(map(len, page)) <= 80
    for line, words in zip(lines, command.examples, strict=True):
        assert line.split()[:2] == ["belvedere", verb]
        with command.make_context(verb, words):
            pass  # an option that does not exist, or a missing argument, is an error


def test_help_needs_no_arguments_and_no_long_option(capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for arguments in (["--help"], ["-h"], [], ["cache", "--help"], ["cache", "-h"]):
        assert run(arguments) == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1] == pages[2] != pages[3] == pages[4]


def test_help_does_without_slow_modules() -> None:
    code = "import sys; from belvedere.cli.ending import run; import belvedere.cli; run(['-h']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"rich", "torch", "onnxruntime", "pydantic", "PIL"} & {*done.stdout.splitlines()[-1].split()}


@pytest.mark.skipif(os.name != "posix" or shutil.which("bash") is None, reason="completion of bash")
def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    program = tmp_path / "belvedere"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m belvedere "$@"\n')
    program.chmod(0o755)
    script = """eval "$(belvedere --show-completion bash)"
        function=$(complete -p belvedere | sed 's/.* -F //; s/ .*//')
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); $function belvedere; echo "${COMPREPLY[@]}"; }
        complete_words belvedere pre
        complete_words belvedere predict --form
        complete_words belvedere predict hol
        complete_words belvedere predict --format j
        complete_words belvedere predict --device cu
        complete_words belvedere predict --backend r
        complete_words belvedere train images --recipe p
        complete_words belvedere train images --device c
        complete_words belvedere export --format n"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        *("predict", "--format", ""),  # bash itself completes names of files
        *("jsonl json", "cuda", "ray", "probe", "cpu cuda", "nchw"),
    ]


def test_names_for_completion_are_all_names() -> None:
    register_table()
    assert sorted(predict.FORMATS) == sorted(WRITERS)
    assert sorted(train.RECIPE_NAMES) == sorted(RECIPES)
    assert sorted(export.FORMATS) == sorted(FORMATS)
