"""The command train: its options --set and --print-config."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from belvedere.cli.ending import run
from command_line import belvedere


def print_config(*assignments: str) -> subprocess.CompletedProcess[str]:
    options = [word for each in assignments for word in ("--set", each)]
    command = [sys.executable, "-m", "belvedere", "train", "--recipe", "quick", "--print-config", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_set_takes_toml_and_bare_strings() -> None:
    done = print_config(
        "ema_decay=0.99", "crop_ratio=[0.5, 2.0]", "optimizer=adamw", 'weights_sha256="12"', "flip_tta=true"
    )
    recipe = tomllib.loads(done.stdout)["recipe"]
    found = [recipe[key] for key in ("ema_decay", "crop_ratio", "optimizer", "weights_sha256", "flip_tta")]
    assert found == [0.99, [0.5, 2.0], "adamw", "12", True]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("ema_decy=0.99", ["'ema_decy'", "'ema_decay'"]),
        ("epochs=many", ["epochs", "integer", "'many'"]),
        ("epochs", ["KEY=VALUE", "'epochs'"]),
        ("crop_ratio=[2.0, 0.5]", ["crop_ratio", "smallest"]),
    ],
)
def test_set_with_an_error_is_one_line(assignment: str, words: list[str]) -> None:
    done = print_config(assignment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert all(word in line for word in words), line


def test_the_option_for_epochs_overrides_the_key() -> None:
    printed = belvedere("train", "--recipe", "quick", "--epochs", 2, "--set", "epochs=9", "--print-config")
    recipe = tomllib.loads(printed.stdout)["recipe"]
    assert (recipe["epochs"], recipe["min_steps"]) == (2, 0)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("seed", "--seed"),
        ("out", "--out"),
        ("as_json", "--json"),
        ("callbacks", "'callbacks'"),
        ("augment", "'augment'"),
    ],
)
def test_set_refuses_arguments_that_are_no_recipe_keys(
    key: str, word: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["train", str(tmp_path), "--set", f"{key}=1"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert word in line


def test_a_recipe_is_printed_and_taken_back(tmp_path: Path) -> None:
    printed = belvedere("train", "--recipe", "quick", "--epochs", 9, "--print-config")
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "own.toml").write_text(printed.stdout)
    again = belvedere("train", "--recipe", "article", "--config", "own.toml", "--print-config", cwd=tmp_path)
    values, others = (tomllib.loads(done.stdout)["recipe"] for done in (printed, again))
    assert values["epochs"] == 9
    assert values.items() <= others.items()
