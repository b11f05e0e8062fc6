"""The commands that correct labels: real processes, their output, their exit codes."""

import json
import re
import shutil
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from belvedere.inference.model import load_model
from command_line import belvedere
from conftest import write_classes
from decisions import decide
from run_folders import write_both


@pytest.fixture
def corrections(tmp_path: Path) -> Path:
    photos = write_classes(tmp_path / "photos", 3)
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", "relabel", "green")
    decide(tmp_path / "j.jsonl", photos / "blue" / "1.png", "exclude")
    return tmp_path / "j.jsonl"


@pytest.mark.usefixtures("corrections")
def test_corrections_are_counted_and_written(tmp_path: Path) -> None:
    plain = belvedere("corrections", "j.jsonl", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert re.findall(r"\d+", plain.stdout.splitlines()[0]) == ["2", "2", "2"]  # active, all, images
    assert "Ana 2" in plain.stdout
    assert json.loads(belvedere("corrections", "j.jsonl", "--json", cwd=tmp_path).stdout)["actions"] == {
        "exclude": 1,
        "relabel": 1,
    }
    assert belvedere("corrections", "j.jsonl", "--out", "d.csv", cwd=tmp_path).returncode == 0
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 3
    corrected = belvedere("corrections", "j.jsonl", "photos", "--out", "corrected", cwd=tmp_path)
    assert "1 relabeled by j.jsonl" in corrected.stderr
    assert (tmp_path / "corrected" / "green" / "0-2.png").is_symlink()  # two had the name 0.png
    assert len(list((tmp_path / "corrected").rglob("*.png"))) == 8
    table = belvedere("corrections", "j.jsonl", "photos", "--out", "corrected.csv", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert len((tmp_path / "corrected.csv").read_text().splitlines()) == 9


@pytest.mark.usefixtures("corrections")
def test_evaluate_by_corrected_labels(tmp_path: Path, tiny_model: Path) -> None:
    before = belvedere("evaluate", tiny_model, "photos", "--json", cwd=tmp_path)
    after = belvedere("evaluate", tiny_model, "photos", "--corrections", "j.jsonl", "--json", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    assert re.search(r"\b1 excluded\b.*j\.jsonl", after.stderr)
    assert json.loads(before.stdout)["accuracy"] == 1.0
    assert json.loads(after.stdout)["accuracy"] == 7 / 8
    assert json.loads(after.stdout)["num_images"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("corrections", "nowhere.jsonl"), 2, ["nowhere.jsonl"]),
        (("corrections", "j.jsonl", "photos"), 2, ["--out"]),
        (("corrections", "j.jsonl", "--out", "folder"), 2, [".csv", "folder"]),
        (("corrections", "j.jsonl", "photos", "--out", "a"), 2, [" a ", "--out"]),
        (("evaluate", "model.onnx", "photos", "--corrections", "no.jsonl"), 2, ["no.jsonl"]),
        (("corrections", "j.jsonl", "--out", "taken.csv"), 2, ["taken.csv ", "--overwrite"]),
        (
            ("corrections", "j.jsonl", "taken.csv", "--out", "taken.csv", "--overwrite"),
            2,
            ["taken.csv ", "--out"],
        ),
        (("corrections", "j.jsonl", "photos", "--out", "photos", "--overwrite"), 2, ["photos ", "--out"]),
        (("compare", "photos", "photos"), 2, ["photos", "predictions.csv"]),
        (("review", "photos"), 2, ["predictions.csv", "audit.json"]),
        (("review", "a", "--host", "no.such.host.invalid", "--port", "0"), 2, ["no.such.host.invalid", "--host"]),
        (("review", "a", "--model", "photos"), 1, ["photos", "model.onnx"]),
    ],
)
@pytest.mark.usefixtures("corrections")
def test_bad_input_is_one_line(
    tmp_path: Path, tiny_model: Path, arguments: Sequence[str], code: int, words: list[str]
) -> None:
    write_both(tmp_path, [("blue", "blue", "red")])
    shutil.copy(tiny_model, tmp_path / "model.onnx")
    (tmp_path / "taken.csv").write_text("mine")
    done = belvedere(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr.strip().splitlines()[-1]
    assert (tmp_path / "taken.csv").read_text() == "mine"


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    write_both(tmp_path, [("blue", "blue", "red")])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = belvedere("review", "b", "--port", taken.getsockname()[1], cwd=tmp_path)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_train_with_corrected_labels(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", 12)
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", "exclude")
    for number in range(3):  # to a class that the data set does not have
        decide(tmp_path / "j.jsonl", photos / "red" / f"{number}.png", "relabel", "violet")
    done = belvedere(
        "train", "photos", "--corrections", "j.jsonl", "--recipe", "quick", "--epochs", 1, "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b1 excluded\b.*j\.jsonl", done.stderr)
    assert sum(json.loads(done.stdout)["num_images_by_split"].values()) == 35
    assert json.loads(done.stdout)["class_names"] == ["blue", "green", "red", "violet"]
    assert load_model(tmp_path / "run").class_names == ("blue", "green", "red", "violet")
    config = tmp_path / "run" / "config.toml"
    assert tomllib.loads(config.read_text())["run"]["corrections"] == str(tmp_path / "j.jsonl")
    again = belvedere("train", "--config", config, "--print-config", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout in config.read_text()
