"""The command predict."""

import csv
import json
import re
from pathlib import Path

from PIL import Image

from command_line import belvedere


def test_predict_in_every_form(trained: Path) -> None:
    table = belvedere("predict", "run", "images/test", cwd=trained)
    assert table.returncode == 0, table.stderr
    assert re.search(r"^images/test/dark/0.jpg +dark ", table.stdout, re.MULTILINE)
    assert "Model: run/model.onnx" in table.stderr
    done = belvedere(
        "predict", "run", "images/test", "--out", "answers.csv", "--contact-sheet", "sheet.png", cwd=trained
    )
    assert done.returncode == 0, done.stderr
    assert "8 images predicted: answers.csv" in done.stderr
    with (trained / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["predicted_label"] for row in rows} <= {"dark", "light"}
    with Image.open(trained / "sheet.png") as sheet:
        assert min(sheet.size) > 300
    lines = belvedere("predict", "run", "images/test", "--format", "jsonl", cwd=trained).stdout.splitlines()
    assert [json.loads(line)["predicted_label"] for line in lines] == [row["predicted_label"] for row in rows]
    whole = json.loads(belvedere("predict", "run", "images/test", "--json", cwd=trained).stdout)
    assert whole["class_names"] == ["dark", "light"]
    assert len(whole["predictions"]) == 8


def test_an_unreadable_file_has_its_own_row_and_the_exit_code_says_so(trained: Path) -> None:
    (trained / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = belvedere(
        "predict", "run", "broken.jpg", "images/test/dark/0.jpg", "gone.jpg", "--format", "csv", cwd=trained
    )
    assert done.returncode == 1
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["image"] for row in rows] == ["broken.jpg", "images/test/dark/0.jpg", "gone.jpg"]
    assert [bool(row["error"]) for row in rows] == [True, False, True]
    assert [bool(row["predicted_label"]) for row in rows] == [False, True, False]
    assert "no such file" in rows[2]["error"]
    assert "2 of 3 files" in done.stderr
    reason = rows[0]["error"]
    table = belvedere("predict", "run", "broken.jpg", cwd=trained)
    assert (" ".join(table.stdout.split()).count(reason), table.stderr.count(reason)) == (1, 0)
    file = belvedere("predict", "run", "broken.jpg", "--out", "broken.csv", cwd=trained)
    assert file.stderr.count(reason) == 1
