"""The command line, as a user meets it: real processes, their output, their exit codes."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.data.corrections.journal import Journal, now
from belvedere.types.data import Decision
from conftest import new_id

Completed = subprocess.CompletedProcess[str]


def belvedere(*arguments: object, cwd: Path | None = None) -> Completed:
    command = [sys.executable, "-m", "belvedere", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, and a run trained on them by the command itself."""
    folder = tmp_path_factory.mktemp("work")
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 4)):
        for name, level in (("dark", 40), ("light", 200)):
            (folder / "photographs" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(level + random.integers(-30, 30, (20, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "photographs" / part / name / f"{index}.jpg")
    (folder / "bad.onnx").write_bytes(b"no graph")
    (folder / "bad.toml").write_text("[recipe]\nepoch = 3\n")
    done = belvedere("train", "photographs", "--recipe", "quick", "--epochs", 3, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "epoch   3/3" in done.stderr
    assert "Report: run/report.html" in done.stderr
    return folder


def assert_one_line(done: Completed, code: int, *words: str) -> None:
    """Bad input: one clear line on stderr, the right exit code, no traceback, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last


def test_version_and_help() -> None:
    import belvedere as package

    assert belvedere("--version").stdout.strip() == package.__version__
    help_page = belvedere("--help").stdout
    for verb in (
        "demo",
        "audit",
        "train",
        "evaluate",
        "review",
        "journal",
        "compare",
        "calibrate",
        "predict",
        "export",
        "serve",
        "show",
        "backbones",
        "cache",
    ):
        assert verb in help_page


def test_evaluate(work: Path) -> None:
    done = belvedere("evaluate", "run/model.onnx", "photographs/test", "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["images"] == 8
    assert metrics["part"] == "all"
    assert metrics["accuracy"] == json.loads((work / "run" / "metrics.json").read_text())["accuracy"]
    plain = belvedere("evaluate", "run", "photographs", "--out", "evaluation", cwd=work)
    assert plain.returncode == 0, plain.stderr
    assert "precision" in plain.stdout
    assert (work / "evaluation" / "report.html").is_file()
    again = belvedere("evaluate", "run", "photographs", "--out", "evaluation", cwd=work)
    assert_one_line(again, 2, "evaluation exists already", "--overwrite")


def test_predict_in_every_form(work: Path) -> None:
    table = belvedere("predict", "run", "photographs/test", cwd=work)
    assert table.returncode == 0, table.stderr
    assert re.search(r"^photographs/test/dark/0.jpg +dark ", table.stdout, re.MULTILINE)
    assert "Model: run/model.onnx" in table.stderr
    done = belvedere(
        "predict", "run", "photographs/test", "--out", "answers.csv", "--contact-sheet", "sheet.png", cwd=work
    )
    assert done.returncode == 0, done.stderr
    with (work / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["predicted_label"] for row in rows} <= {"dark", "light"}
    with Image.open(work / "sheet.png") as sheet:
        assert min(sheet.size) > 300
    lines = belvedere("predict", "run", "photographs/test", "--format", "jsonl", cwd=work).stdout.splitlines()
    assert [json.loads(line)["predicted_label"] for line in lines] == [row["predicted_label"] for row in rows]
    whole = json.loads(belvedere("predict", "run", "photographs/test", "--json", cwd=work).stdout)
    assert whole["classes"] == ["dark", "light"]
    assert len(whole["predictions"]) == 8


def test_an_unreadable_file_has_its_own_row_and_the_exit_code_says_so(work: Path) -> None:
    (work / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = belvedere(
        "predict", "run", "broken.jpg", "photographs/test/dark/0.jpg", "gone.jpg", "--format", "csv", cwd=work
    )
    assert done.returncode == 1
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["image"] for row in rows] == ["broken.jpg", "photographs/test/dark/0.jpg", "gone.jpg"]
    assert [bool(row["error"]) for row in rows] == [True, False, True]
    assert [bool(row["predicted_label"]) for row in rows] == [False, True, False]
    assert "no such file" in rows[2]["error"]
    assert "2 of 3 files could not be read" in done.stderr


def test_audit(work: Path) -> None:
    broken = work / "photographs" / "train" / "dark" / "broken.jpg"
    broken.write_bytes(b"no picture")
    try:
        done = belvedere("audit", "photographs", "--skip-label-issues", "--out", "audit", "--json", cwd=work)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["checks"]["unreadable"]["flagged"] == 1
        assert sorted(told["counts"]) == ["test", "train"]
        strict = belvedere(
            "audit", "photographs", "--skip-label-issues", "--out", "audit", "--fail-on-issues", "--overwrite", cwd=work
        )
    finally:
        broken.unlink()
    assert strict.returncode == 1
    assert "broken.jpg" in "".join(strict.stdout.split())  # folded where the terminal is narrow
    assert "Report: audit/report.html" in strict.stderr
    assert (work / "audit" / "issues.csv").read_text().startswith("image,issue_type,score,is_issue,message,")


def test_audit_knows_what_a_person_has_mended(work: Path) -> None:
    copy = work / "photographs" / "train" / "light" / "copy.jpg"
    shutil.copy(work / "photographs" / "train" / "dark" / "0.jpg", copy)
    content = hashlib.sha256(copy.read_bytes()).hexdigest()
    Journal(work / "j.jsonl").append(Decision(new_id(), now(), "Ana", content, str(copy), "exclude", "light"))
    command = ("audit", "photographs", "--skip-label-issues", "--json", "--out")
    try:
        before, after = (
            json.loads(belvedere(*command, f"mended{len(more)}", *more, cwd=work).stdout)["checks"]
            for more in ((), ("--corrections", "j.jsonl"))
        )
    finally:
        copy.unlink()
    assert before["conflicting_labels"]["flagged"] == 2
    assert after["conflicting_labels"]["flagged"] == 0
    told = json.loads((work / "mended2" / "audit.json").read_text())
    assert told["labels"] == str((work / "j.jsonl").resolve())


def test_show(work: Path) -> None:
    network = belvedere("show", "article")
    assert network.returncode == 0, network.stderr
    assert "135,942 parameters, 128 of which do not train" in network.stdout
    assert "148 x 148 x 16" in network.stdout
    model = belvedere("show", "run", cwd=work)
    assert "dark, light" in model.stdout
    card = json.loads(belvedere("show", "run", "--json", cwd=work).stdout)
    assert card["class_names"] == ["dark", "light"]


def test_a_recipe_is_printed_and_taken_back(tmp_path: Path) -> None:
    printed = belvedere("train", "--recipe", "quick", "--epochs", 9, "--print-config")
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "own.toml").write_text(printed.stdout)
    again = belvedere("train", "--recipe", "article", "--config", "own.toml", "--print-config", cwd=tmp_path)
    values, others = (tomllib.loads(done.stdout)["recipe"] for done in (printed, again))
    assert values["epochs"] == 9
    assert values.items() <= others.items()


@pytest.mark.usefixtures("work")
def test_the_cache_is_shown_and_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = json.loads(belvedere("cache", "--json").stdout)
    assert shown["folder"] == os.environ["BELVEDERE_CACHE"]
    assert {store["rule"] for store in shown["stores"]}  # of the training above
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path))
    store = tmp_path / "pixels" / "8x8-stretch-1"
    store.mkdir(parents=True)
    (store / "index.jsonl").write_text("{}\n" * 3)
    (store / "CACHEDIR.TAG").touch()
    (store / "pixels").write_bytes(bytes(1_000_000))
    plain = belvedere("cache")
    assert plain.returncode == 0, plain.stderr
    assert "8x8-stretch-1" in plain.stdout
    assert str(tmp_path) in plain.stderr
    cleared = belvedere("cache", "--clear")
    assert cleared.stderr == f"Freed 1 MB in {tmp_path}.\n"
    assert json.loads(belvedere("cache", "--json").stdout)["stores"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "nowhere", "--out", "x"], 1, ["no folder or table nowhere"]),
        (["train", "photographs", "--recipe", "artcle", "--out", "x"], 2, ["Did you mean 'article'"]),
        (["train", "photographs", "--out", "run"], 2, ["run exists already", "--overwrite"]),
        (["train", "photographs", "--out", "photographs", "--overwrite"], 2, ["never replaced"]),
        (["train", "photographs/train/dark", "--out", "x"], 1, ["no labeled photographs"]),
        (["evaluate", "photographs", "photographs"], 1, ["no model in photographs"]),
        (["audit", "nowhere", "--out", "x"], 1, ["no folder or table nowhere"]),
        (["audit", "photographs", "--out", "run"], 2, ["run exists already", "--overwrite"]),
        (["audit", "photographs", "--model", "run", "--out", "x"], 2, ["has learnt from these photographs"]),
        (["audit", "photographs", "--model", "gone.onnx", "--out", "x"], 1, ["no file or folder gone.onnx"]),
        (["predict", "run"], 2, []),
        (["predict", "run", "photographs", "--format", "cvs"], 2, ["Did you mean 'csv'"]),
        (["predict", "run", "photographs", "--out", "no/where.csv"], 2, ["not a folder"]),
        (["predict", "bad.onnx", "photographs"], 1, ["not an ONNX model"]),
        (["predict", "gone.onnx", "photographs"], 1, ["no file or folder gone.onnx"]),
        (["evaluate", "run/metrics.json", "photographs"], 1, ["not an ONNX model"]),
        (["evaluate", "gone.onnx", "photographs"], 1, ["no file or folder gone.onnx"]),
        (["predict", "run", "photographs", "--json", "--out", "a.json"], 2, ["leave out"]),
        (["predict", "run", "photographs", "--out", "answers"], 2, ["no suffix"]),
        (["train", "photographs", "--seed", "99999999999999999999", "--out", "x"], 2, ["--seed"]),
        (["show", "rnu/model.onnx"], 2, ["no file or folder rnu/model.onnx"]),
        (["show", "artcle"], 2, ["Did you mean 'article'"]),
        (["train"], 2, ["PHOTOS is missing"]),
        (["train", "photographs", "--config", "gone.toml", "--out", "x"], 2, ["Can't read gone.toml"]),
        (["train", "photographs", "--config", "bad.toml", "--out", "x"], 2, ["Did you mean 'epochs'"]),
        (["train", "--config", "bad.toml", "--print-config"], 2, ["Did you mean 'epochs'"]),
        (["train", "photographs", "--overwrite", "--resume", "--out", "x"], 2, ["Leave one out"]),
        (["train", "photographs", "--max-minutes", "0", "--out", "x"], 2, ["more than 0"]),
        (["train", "photographs", "--max-minutes", "1", "--epochs", "1", "--out", "x"], 2, ["Leave one out"]),
        (["trian", "photographs"], 2, []),
        (["train", "photographs", "--epochs", "0"], 2, []),
    ],
)
def test_bad_input_gets_one_line(work: Path, arguments: list[str], code: int, words: list[str]) -> None:
    before = sorted(path.name for path in work.iterdir())
    assert_one_line(belvedere(*arguments, cwd=work), code, *words)
    assert sorted(path.name for path in work.iterdir()) == before


def test_a_reader_that_goes_away_is_no_disaster(work: Path) -> None:
    command = f"{sys.executable} -m belvedere predict run photographs --format jsonl | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
