"""The command `assess`: results on stdout, and usage errors before any work."""

import json
from pathlib import Path

import pytest

from belvedere.data.corrections.corrections_file import CorrectionsFile
from belvedere.inference.model import Model
from belvedere.reviewing.assessing.images import read_images
from belvedere.reviewing.assessing.session import AssessmentSession
from belvedere.runtime.progress import Progress
from command_line import belvedere
from conftest import new_id, write_classes


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "images", 6)


def test_report_of_the_answers_so_far(images: Path, opened: Model, tiny_model: Path, tmp_path: Path) -> None:
    data = read_images([opened], images, 0, Progress(), unlabeled=True)
    session = AssessmentSession(data, CorrectionsFile(tmp_path / "a.annotations.jsonl"), 12)
    while (row := session.next("ab" * 8, "Ana")) is not None:
        session.record("ab" * 8, new_id(), "Ana", row, int(data.population.models[0].predicted[row]))
    options = ("--unlabeled", "--out", tmp_path / "a", "--budget", 12, "--no-page")
    done = belvedere("assess", tiny_model, images, *options)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Accuracy on true labels 100.0%" in done.stdout
    assert f"Report: {tmp_path / 'a' / 'report.html'}" in done.stderr
    written = belvedere("assess", tiny_model, images, *options, "--json")
    assert json.loads(written.stdout) == json.loads((tmp_path / "a" / "assessment.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--no-page",), "too few answers"),
        (("--unlabeled", "--layout", "classes"), "--unlabeled"),
        (("--budget", "1"), "--budget"),
        (("--against", "missing.onnx"), "missing.onnx"),
    ],
)
def test_usage_errors(images: Path, tiny_model: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    done = belvedere("assess", tiny_model, images, *options, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 300
    assert not (tmp_path / "assessment").exists()
