"""The demo: every stage on a small dataset."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import belvedere
from belvedere.auditing.audit import audit
from belvedere.cli import app
from belvedere.cli.ending import run
from belvedere.demo.dataset import make_synthetic_dataset
from belvedere.demo.demo import Demo, DetectionScore, compare_with_truth, run_demo
from belvedere.errors import OutputExistsError
from belvedere.inference.model import load_model
from notebook_html import NotebookHtml


def test_the_demo_does_the_whole_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results: list[Demo] = []

    def small(out: Path, **options: Any) -> Demo:
        results.append(run_demo(out, train_per_class=6, test_per_class=3, epochs=1, **options))
        return results[0]

    monkeypatch.setattr(belvedere, "run_demo", small)
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 0
    [shown] = results
    check_lines(shown, capsys.readouterr())
    assert shown.report.is_file()
    assert (tmp_path / "demo" / "fjord.png").is_file()
    assert shown.fjord.answer in (*shown.run.evaluation.class_names, "none of these")
    assert max(shown.fjord_areas, key=lambda name: shown.fjord_areas[name]) == "sea"
    truth = json.loads((shown.data / "truth.json").read_text())
    report = shown.report.read_text(encoding="utf-8")
    log = (shown.run.folder / "train.log").read_text(encoding="utf-8")
    for name in truth["unreadable"]:
        assert name in report
    for group in truth["duplicates"]:
        assert all(name in log for name in group)
    found = {one.name: one for one in shown.scores}
    assert set(found) == {"wrong labels", "groups of duplicates", "split leaks", "unreadable files"}
    for what in ("groups of duplicates", "split leaks", "unreadable files"):
        assert found[what].recall == found[what].precision == 1, what
    assert found["wrong labels"].planted == len(truth["wrong_labels"])
    assert found["wrong labels"].recall >= 0.5  # with six images of each class
    assert found["wrong labels"].precision >= 0.5
    assert (tmp_path / "demo" / "audit" / "report.html").is_file()
    html = shown._repr_html_() or ""
    texts = NotebookHtml(html).texts
    assert {"groups of duplicates", "An image with several classes", "Accuracy", "Most confident mistakes"} <= {*texts}
    assert len(html) < 300_000
    assert repr(shown).startswith(f"Demo(data={str(shown.data)!r}, num_flagged={shown.audit.num_flagged}, accuracy=")
    plain = shown.to_dict()
    assert (plain["fjord"], plain["accuracy"]) == (shown.fjord.answer, shown.run.evaluation.accuracy)
    assert json.loads(json.dumps(plain)) == plain
    with pytest.raises(OutputExistsError):
        run_demo(tmp_path / "demo")


def check_lines(shown: Demo, printed: Any) -> None:
    """Check stdout, with the results, and stderr, with the stages, the reports and commands to continue with."""
    assert ["image", "prediction", "confidence"] in [line.split()[:3] for line in printed.out.splitlines()]
    assert f"accuracy {shown.run.evaluation.accuracy:.1%} " in printed.out
    lines = printed.err.splitlines()
    stages = [line for line in lines if re.match(r"\d/\d [A-Z]", line)]
    assert [line[:3] for line in stages] == [f"{number}/{len(stages)}" for number in range(1, len(stages) + 1)]
    assert str(6 * (6 + 3)) in stages[0].split()
    assert lines.index(stages[2]) < lines.index("Evaluating the model") < lines.index(stages[3])
    reports = [Path(line.split(": ")[1]) for line in lines if line.startswith("Report")]
    assert reports == [shown.audit_report, shown.report]
    assert all(report.is_file() for report in reports)
    commands = [shlex.split(line) for line in lines[lines.index("Next:") + 1 :]]
    assert len(commands) == 3
    group: Any = typer.main.get_command(app)
    for program, verb, *words in commands:
        assert (program, *[word for word in words if not Path(word).exists()]) == ("belvedere",)
        with group.commands[verb].make_context(verb, words):
            pass


def test_planted_wrong_labels_are_found_by_the_model_that_comes_with_belvedere(tmp_path: Path) -> None:
    truth = make_synthetic_dataset(tmp_path / "set", train_per_class=20, test_per_class=3)
    found = compare_with_truth(audit(tmp_path / "set", model=load_model()), truth, tmp_path / "set")[0]
    assert found.name == "wrong labels"
    assert found.recall >= 0.9
    assert found.flagged - found.correct <= 4  # of 138 images


def test_finding_nothing_is_precise_only_where_nothing_was_planted() -> None:
    assert DetectionScore("leaks", planted=2, flagged=0, correct=0).precision == 0
    assert DetectionScore("leaks", planted=0, flagged=0, correct=0).precision == 1
    assert DetectionScore("leaks", planted=0, flagged=3, correct=0).recall == 1
    assert DetectionScore("leaks", planted=4, flagged=3, correct=2).precision == 2 / 3
