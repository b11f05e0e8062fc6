"""CSV and JSON: no cell is a formula in a spreadsheet, JSON is strict, and our readers restore what was written."""

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.data.corrections.corrections_file import CorrectionsFile, utc_now
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.export import export_decisions, export_table
from belvedere.errors import UsageError
from belvedere.evaluation.compare import compare
from belvedere.evaluation.run_folder import read_predictions
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model
from belvedere.inference.writers.resumable import ResumableLines
from belvedere.inference.writers.text import write_predictions
from belvedere.reviewing.sources import read_items
from belvedere.runtime.serialization import CsvRows, dump_json, escape_formula, unescape_formula
from belvedere.types.data import Decision, Sample
from conftest import make_prediction, new_id, write_classes, write_image

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
HOSTILE = ("=cmd|calc!A0", "+1+1", "-2", "@SUM(A1)", " =1", "'=1", "''+1", "\uff1d1", "a;=1", "\t=1")


def is_bare(cell: str) -> bool:
    """Whether a spreadsheet may take a cell for a formula."""
    return cell.strip(" ")[:1] in STARTS and not cell.startswith("'")


@given(st.text(st.sampled_from("'=+-@ \t\r\n\uff1da1")))
def test_escapes_are_taken_back(cell: str) -> None:
    assert not is_bare(escape_formula(cell))
    assert unescape_formula(escape_formula(cell)) == cell


@pytest.mark.parametrize("cell", ["sea", "", "a=b", "0.5", "it's", "'tis", "né"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert escape_formula(cell) == unescape_formula(cell) == cell


def test_cells_with_a_semicolon_are_quoted() -> None:
    """Some spreadsheets take it for the end of a cell, and what is behind it for another."""
    file = io.StringIO()
    CsvRows(file, spreadsheet=True).write(["a;=1", -0.5, None])
    assert file.getvalue() == '"a;=1","-0.5",""\n'


def cells_of(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as rows:
        return list(csv.reader(rows))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(HOSTILE):
        write_image(tmp_path / "photos" / f"{name}.png", "red", number)
    return tmp_path / "photos"


def test_answers_for_a_spreadsheet(
    photos: Path, opened: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    names = sorted(path.name for path in photos.iterdir())
    predict_files(opened, names, "csv", out=tmp_path / "plain.csv")
    assert [row[0] for row in cells_of(tmp_path / "plain.csv")[1:]] == names
    predict_files(opened, names, "csv", out=tmp_path / "sheet.csv", spreadsheet=True)
    cells = cells_of(tmp_path / "sheet.csv")
    assert not any(is_bare(cell) for row in cells for cell in row)
    assert [unescape_formula(row[0]) for row in cells[1:]] == names
    predict_files(opened, names, "csv", spreadsheet=True)
    assert capsys.readouterr().out == (tmp_path / "sheet.csv").read_text()


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_other_forms_are_not_for_a_spreadsheet(form: str, photos: Path, opened: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        predict_files(opened, [photos], form, out=tmp_path / "out", spreadsheet=True)


def test_answers_for_a_spreadsheet_are_gone_on_with(
    photos: Path, opened: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    names = sorted(path.name for path in photos.iterdir())
    for spreadsheet in (False, True):
        folder = tmp_path / f"rows{spreadsheet}"
        folder.mkdir()
        rows = ResumableLines(folder, opened.class_names, opened.identity, "csv", spreadsheet=spreadsheet)
        for said in opened.predict(names):
            rows.write(said)
        assert [row.image for row in rows.read()] == []  # not written out yet
        rows.suspend()
        again = ResumableLines(folder, opened.class_names, opened.identity, "csv", spreadsheet=spreadsheet)
        assert [row.image for row in again.read()] == names
        again.suspend()


def write_run(folder: Path, names: Sequence[str], *, spreadsheet: bool) -> Path:
    """A folder of results whose images and classes are called like formulas."""
    folder.mkdir()
    zeros = [0.0] * len(names)
    said = [make_prediction(name, name, *zeros[:k], 1.0, *zeros[k + 1 :], names=names) for k, name in enumerate(names)]
    said[0] = replace(said[0], label=names[1])
    write_predictions(folder / "predictions.csv", said, names, spreadsheet=spreadsheet)
    (folder / "metrics.json").write_text(json.dumps({"class_names": list(names), "spreadsheet": spreadsheet}))
    return folder


@pytest.mark.parametrize("named", [True, False], ids=["with names in metrics.json", "without"])
@pytest.mark.parametrize("spreadsheet", [False, True])
def test_results_are_read_back(spreadsheet: bool, named: bool, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", HOSTILE, spreadsheet=spreadsheet)
    if not named:
        (run / "metrics.json").write_text(json.dumps({"spreadsheet": spreadsheet}))
    read = read_predictions(run)
    assert read.class_names == HOSTILE
    assert [each.image for each in read.predictions] == list(HOSTILE)
    assert [each.predicted_label for each in read.predictions] == list(HOSTILE)
    assert [each.label for each in read.predictions] == [HOSTILE[1], *HOSTILE[1:]]
    assert any(is_bare(cell) for row in cells_of(run / "predictions.csv") for cell in row) != spreadsheet


def test_runs_of_both_kinds_are_compared(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(kind), HOSTILE, spreadsheet=kind) for kind in (False, True)]
    comparison = compare(*runs)
    assert (len(comparison.pairs), comparison.warnings, comparison.overall.accuracy_change) == (len(HOSTILE), (), 0.0)


@pytest.mark.parametrize("spreadsheet", [False, True])
def test_decisions(spreadsheet: bool, tmp_path: Path) -> None:
    corrections = CorrectionsFile(tmp_path / "j.jsonl")
    for name in HOSTILE:
        corrections.append(Decision(new_id(), utc_now(), name, "0" * 64, name, "relabel", name, (name,), comment=name))
    export_decisions(tmp_path / "j.jsonl", tmp_path / "out.csv", spreadsheet=spreadsheet)
    header, *rows = cells_of(tmp_path / "out.csv")
    assert any(is_bare(cell) for row in rows for cell in row) != spreadsheet
    for column in ("annotator", "image", "old_label", "to", "comment"):
        cells = [row[header.index(column)] for row in rows]
        assert [unescape_formula(cell) if spreadsheet else cell for cell in cells] == list(HOSTILE)


@pytest.mark.parametrize("spreadsheet", [False, True])
def test_a_corrected_table_is_read_back(spreadsheet: bool, tmp_path: Path) -> None:
    names = [name for name in HOSTILE if name == name.strip() and "|" not in name]  # which a label cannot have
    samples = tuple(
        Sample(tmp_path / f"{name}.png", f"{name}.png", label, "train")
        for name, label in zip(names, [*names[1:], names[0]], strict=True)
    )
    data = Dataset("photos", tuple(sorted(names)), samples, ())
    samples[0].path.touch()
    export_table(data, tmp_path / "out.csv", spreadsheet=spreadsheet)
    read = load_dataset(tmp_path / "out.csv")
    assert [(sample.path, sample.label) for sample in read.samples] == [(s.path, s.label) for s in samples]
    if spreadsheet:
        assert not any(is_bare(cell) for row in cells_of(tmp_path / "out.csv") for cell in row)


@pytest.mark.parametrize("option", [[], ["--spreadsheet"]])
def test_commands_that_write_tables(option: list[str], tiny_model: Path, tmp_path: Path) -> None:
    """An audit and an evaluation for a spreadsheet; a review reads both."""
    write_classes(tmp_path / "=photos", 2)
    write_image(tmp_path / "=photos" / "red" / "wrong.png", "blue", 9)
    (tmp_path / "=photos" / "red" / "bad.png").write_bytes(b"no image")

    def run(*words: str) -> None:
        command = [sys.executable, "-m", "belvedere", *words, *option]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    run("evaluate", str(tiny_model), "=photos", "--out", "evaluation")
    run("audit", "=photos", "--skip-label-issues", "--out", "audit")
    for file in (tmp_path / "evaluation" / "predictions.csv", tmp_path / "audit" / "issues.csv"):
        rows = cells_of(file)
        assert len(rows) > 1
        assert any(is_bare(cell) for row in rows for cell in row) != bool(option)
    [item] = read_items(tmp_path / "evaluation").items
    assert item.image == "=photos/red/wrong.png"
    assert "=photos/red/bad.png" in {each.image for each in read_predictions(tmp_path / "evaluation").predictions}


def test_json_holds_nothing_but_json() -> None:
    content = {"figures": [1.5, math.nan, (math.inf, "NaN")], "none": None, "deeper": {"low": -math.inf, "yes": True}}

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(dump_json(content), parse_constant=refuse)
    assert read == {"figures": [1.5, None, [None, "NaN"]], "none": None, "deeper": {"low": None, "yes": True}}
