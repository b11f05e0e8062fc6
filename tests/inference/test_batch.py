import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from belvedere.cli.prediction_table import register_table
from belvedere.errors import OutputExistsError, UnknownNameError, UsageError
from belvedere.evaluation.report.sinks import MAX_SHEET_IMAGES, ContactSheet
from belvedere.images.inputs import MAX_NAME_BYTES, read_paths
from belvedere.inference.batch import PredictionSummary, choose_model, predict_files
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.writers.resumable import ResumableLines
from belvedere.runtime.progress import Progress, Task
from belvedere.types.prediction import Prediction
from conftest import CLASS_NAMES, MODEL, sheets, write_classes, write_image

FORMS = ("table", "csv", "jsonl", "json")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three readable images and a broken one."""
    folder = write_classes(tmp_path / "photos", 1)
    (folder / "green/broken.png").write_text("no image")
    return folder


@pytest.fixture(autouse=True)
def _with_tables() -> None:
    """Register the format of tables, as the command line does."""
    register_table()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_csv_holds_a_row_a_file(photos: Path, opened: Model, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert predict_files(opened, [photos, "gone.png"], "csv", out=out) == PredictionSummary(5, 2)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["predicted_label"], row["error"]) for row in rows] == [
        (str(photos / "blue/0.png"), "blue", ""),
        (str(photos / "green/0.png"), "green", ""),
        (str(photos / "green/broken.png"), "", "text instead of an image: get the file again"),
        (str(photos / "red/0.png"), "red", ""),
        ("gone.png", "", "no such file"),
    ]
    assert float(rows[0]["prob_blue"]) == float(rows[0]["confidence"]) > 0.9


def test_json_and_jsonl_hold_the_same(photos: Path, opened: Model, tmp_path: Path) -> None:
    for form in ("json", "jsonl"):
        predict_files(opened, [photos], form, out=tmp_path / form)
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    document = json.loads((tmp_path / "json").read_text())
    assert document["class_names"] == list(CLASS_NAMES)
    assert document["model"]["sha256"] == opened.sha256
    assert [row | {"model": opened.sha256[:12]} for row in document["predictions"]] == lines
    assert [line["predicted_label"] for line in lines] == ["blue", "green", None, "red"]


def test_table_goes_to_stdout(photos: Path, opened: Model, capsys: pytest.CaptureFixture[str]) -> None:
    predict_files(opened, [photos / "red"], "table")
    assert re.search(r" red +[5-9]\d\.\d%$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("form", FORMS)
def test_odd_names_crash_no_form(form: str, opened: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = ["caf\udce9.png", "two\nlines.png", "a\rb.png", "\x1b[31m.png", 'q"uo,te.png', "[red]x[/red].png", "né.png"]
    for number, name in enumerate(odd):
        write_image(tmp_path / "odd" / name, "red", number)
    (tmp_path / "odd/bad\udcff\n.png").touch()
    sheet = tmp_path / "sheet.png"
    assert predict_files(
        opened, [tmp_path / "odd"], form, out=tmp_path / "out", sinks=[ContactSheet(sheet)]
    ) == PredictionSummary(8, 1)
    assert predict_files(opened, [tmp_path / "odd"], form) == PredictionSummary(8, 1)
    assert r"caf\udce9.png" in "".join(capsys.readouterr().out.split())
    if form == "csv":
        with (tmp_path / "out").open(newline="", encoding="utf-8") as file:
            read = {row["image"] for row in csv.DictReader(file)}
        assert {str(tmp_path / "odd" / name) for name in odd[1:]} <= read


def test_failure_leaves_the_old_file(photos: Path, opened: Model, tmp_path: Path) -> None:
    class Interrupted(Task):
        def resume_at(self, images: int) -> None:
            raise KeyboardInterrupt

    class Failing(Progress):
        @contextmanager
        def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
            yield Interrupted()

    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        predict_files(opened, [photos], "csv", out=out, overwrite=True, progress=Failing())
    assert out.read_text() == "old"
    assert names(tmp_path) == ["out.csv", "photos"]


def test_sheet_shows_the_first_images(photos: Path, opened: Model, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    predict_files(opened, [photos], "csv", out=tmp_path / "out.csv", sinks=[ContactSheet(sheet)])
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert 400 < image.width < 4000
        assert 200 < image.height < 4000
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(20, 40, 220), (20, 200, 40), (230, 30, 10)} <= colors


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_sheet_of_many_says_what_it_leaves_out(opened: Model, tmp_path: Path) -> None:
    said = Said()
    content = write_image(tmp_path / "x.png", "red").read_bytes()
    predict_files(
        opened,
        [content] * (MAX_SHEET_IMAGES + 1),
        "csv",
        out=tmp_path / "o.csv",
        sinks=sheets(tmp_path / "s.png", progress=said),
        progress=said,
    )
    assert said.lines[1:] == [f"{tmp_path / 's.png'} shows the first 60 of 61 images."]


def test_nothing_to_answer_for_is_refused(opened: Model, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty"):
        predict_files(opened, [tmp_path / "empty"], "csv", out=tmp_path / "out.csv")
    assert names(tmp_path) == ["empty"]


@pytest.mark.parametrize("option", ["out", "sheet"])
@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("missing/x", UsageError),
        ("photos", UsageError),
        ("photos/red/0.png", OutputExistsError),
        ("link.png", OutputExistsError),
    ],
)
def test_place_that_must_not_be_written_is_refused_before_the_work(
    option: str,
    place: str,
    error: type[UsageError],
    photos: Path,
    opened: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Model, "predict_sources", None)  # no work may be done
    (tmp_path / "link.png").symlink_to(photos / "red/0.png")
    before = (photos / "red/0.png").read_bytes()
    out, sheet = (tmp_path / place if option == name else None for name in ("out", "sheet"))
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / place))) as caught:
        predict_files(opened, [photos, "gone.png", b"x"], "csv", out=out, sinks=sheets(sheet))
    assert caught.type is error
    assert not getattr(caught.value, "can_overwrite", False)
    assert (photos / "red/0.png").read_bytes() == before


def test_names_that_come_bit_by_bit_are_not_written_over(photos: Path, opened: Model, tmp_path: Path) -> None:
    image = photos / "red/0.png"
    before = image.read_bytes()
    (tmp_path / "answers.csv").symlink_to(image)
    (tmp_path / "linked.csv").hardlink_to(image)
    old = tmp_path / "old.csv"
    old.write_text("old")
    for out, sheet in ((image, None), (old, image), ("answers.csv", None), ("linked.csv", None)):
        out = tmp_path / out
        with pytest.raises(OutputExistsError):
            predict_files(opened, iter([image]), "csv", out=out, sinks=sheets(sheet))
        with pytest.raises(OutputExistsError) as caught:
            predict_files(opened, iter([image]), "csv", out=out, sinks=sheets(sheet, overwrite=True), overwrite=True)
        assert (caught.value.path, caught.value.can_overwrite) == (sheet or out, False)
    assert old.read_text() == "old"
    assert image.read_bytes() == before
    with pytest.raises(UsageError, match=re.escape(str(photos))) as refused:
        predict_files(opened, iter([image]), "csv", out=photos)
    assert refused.type is UsageError
    assert predict_files(opened, iter([image]), "csv", out=old, overwrite=True).num_images == 1
    assert "red" in old.read_text()


def test_a_path_that_the_system_refuses_is_one_line(photos: Path, opened: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"xxx\.csv: {os.strerror(errno.ENAMETOOLONG)}"):
        predict_files(opened, [photos], "csv", out=tmp_path / f"{'x' * 300}.csv")


def test_a_name_that_is_too_long_means_no_model(tmp_path: Path) -> None:
    name = tmp_path / ("x" * 300)
    with pytest.raises(UsageError, match=f"xxx.*{os.strerror(errno.ENAMETOOLONG)}"):
        choose_model([name])
    model, named = choose_model([BUNDLED, name])
    assert (model.class_names, named) == (load_model().class_names, [name])
    [answer] = model.predict(name)
    assert os.strerror(errno.ENAMETOOLONG) in str(answer.error)


def test_the_longest_name_is_gone_on_with(tmp_path: Path) -> None:
    """Of bytes that are not UTF-8, each six characters in the file."""
    content = b"\xff" * MAX_NAME_BYTES
    [name] = read_paths(io.BytesIO(content))
    rows = ResumableLines(tmp_path, CLASS_NAMES, MODEL, "csv")
    rows.write(Prediction(name, error="no such file"))
    rows.finish()
    assert [row.unreadable for row in rows.read()] == [True]


def test_unknown_form_is_refused(photos: Path, opened: Model) -> None:
    with pytest.raises(UnknownNameError, match="xml"):
        predict_files(opened, [photos], "xml")


def test_the_benchmark_runs_without_the_article(tiny_model: Path, tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "whole", 1)
    script = Path(__file__).parents[2] / "benchmarks/predict.py"
    command = [sys.executable, str(script), str(photos), "--models", str(tiny_model), "--count", "3", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| 3 images to CSV |" in done.stdout
    assert "of the slower limit" in done.stdout
    assert "one image, cold" in done.stdout
    assert "article" not in done.stdout


def test_skipped_files_are_named_by_suffix(photos: Path, opened: Model, tmp_path: Path) -> None:
    class Heard(Progress):
        def log(self, message: str) -> None:
            heard.append(message)

    heard: list[str] = []
    for name in ("a.mov", "b.mov", "c.txt"):
        (photos / name).touch()
    predict_files(opened, [photos], "csv", out=tmp_path / "a.csv", progress=Heard())
    assert heard[-1] == "Warning: 3 files skipped: not an image (2 .mov, 1 .txt)"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.mov").touch()
    with pytest.raises(UsageError, match=r"empty.* 1 file \(\.mov\)"):
        predict_files(opened, [tmp_path / "empty"], "csv", out=tmp_path / "b.csv")
