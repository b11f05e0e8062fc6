"""The command `label`: its arguments, and what it prints at the end."""

from pathlib import Path
from typing import Any

import pytest

import belvedere
from belvedere.reviewing.labeling.estimate import Accuracy
from belvedere.reviewing.labeling.output import PlannedTraining
from belvedere.reviewing.labeling.server import LabelSummary
from command_line import belvedere as run


def test_classes_are_separated_by_commas_and_the_result_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    found = Accuracy(0.9, 0.8, 0.95, 20)
    planned = PlannedTraining(Path("a.csv"), Path("a-run"), {"recipe": "quick"})
    summary = LabelSummary(tmp_path / "a.jsonl", tmp_path / "a.csv", 3, 7, {"cat": 1, "dog": 2}, found, (planned,))

    def label(data: Path, **options: object) -> LabelSummary:
        given.update(options, data=data)
        return summary

    monkeypatch.setattr(belvedere, "label", label)
    from belvedere.cli.label import label as command

    command(tmp_path, classes="cat, dog,,", train=True, out=tmp_path / "run")
    assert (given["train"], given["out"], given["overwrite"]) == (True, tmp_path / "run", False)
    assert given["classes"] == ["cat", "dog"]
    assert given["data"] == tmp_path
    printed = capsys.readouterr().err.splitlines()
    assert printed[0].startswith("3 labels in ")
    assert printed[1] == "cat 1, dog 2"
    assert "90.0%" in printed[2]
    assert printed[3].endswith("belvedere train a.csv --recipe quick --out a-run")


def test_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    for arguments in ((tmp_path,), (tmp_path / "missing",), (tmp_path, "--classes", "none of these")):
        done = run("label", *arguments, "--port", 0)
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1
