import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from belvedere.cli.prediction_table import TABLE_ROWS, register_table
from belvedere.cli.tables import (
    show_card,
    show_evaluation,
    show_layers,
)
from belvedere.errors import UnknownNameError, UsageError
from belvedere.evaluation.metrics import compute_metrics
from belvedere.inference.writers.text import (
    CsvWriter,
    open_writer,
    write_predictions,
)
from belvedere.runtime.console import PlainConsole
from belvedere.types.model import Layer
from belvedere.types.prediction import Prediction, Tag
from conftest import CARD, CLASS_NAMES, MODEL, make_prediction

GOOD = make_prediction("photos/1.png", "blue", 0.123456, 0.87654, 0.000004)
BAD = Prediction("photos/2.png", error="empty file", label="red")
FIXED = ("image", "answer", "predicted_label", "confidence")
LAST = ("tags", "prediction_set", "none_of_these", "none_of_these_score", "error")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ODD_NAMES = ["a,b", 'q"uote', "two\nlines", "a\rb", "a\r\nb", "\t", "[red]x[/red]", "=1+1", "naïve café", "\u2028"]


@pytest.fixture(autouse=True)
def _with_tables() -> None:
    """Register the format of tables, as the command line does."""
    register_table()


def csv_rows(answers: Sequence[Prediction], names: Sequence[str], *, labels: bool = False) -> list[list[str]]:
    file = io.StringIO(newline="")
    writer = CsvWriter(file, names, labels=labels)
    for each in answers:
        writer.write(each)
    return list(csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True))


def written(form: str, answers: Sequence[Prediction], path: Path, names: Sequence[str] = CLASS_NAMES) -> str:
    with open_writer(form, path, names, MODEL) as writer:
        for each in answers:
            writer.write(each)
    return path.read_bytes().decode()


# CSV


def test_csv_has_exactly_these_columns_and_cells() -> None:
    header, good, bad = csv_rows([GOOD, BAD], CLASS_NAMES)
    assert header == [*FIXED, "prob_blue", "prob_green", "prob_red", *LAST]
    assert good == ["photos/1.png", "green", "green", "0.876540", "0.123456", "0.876540", "0.000004", *[""] * 5]
    assert bad == ["photos/2.png", *[""] * 10, "empty file"]


def test_labels_stand_beside_the_answer_where_there_are_some(tmp_path: Path) -> None:
    header, good, bad = csv_rows([GOOD, BAD], CLASS_NAMES, labels=True)
    assert header[:4] == ["image", "label", "answer", "predicted_label"]
    assert (good[1:3], bad[1:3]) == (["blue", "green"], ["red", ""])
    write_predictions(tmp_path / "p.csv", [GOOD, BAD], CLASS_NAMES)
    with (tmp_path / "p.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [header, good, bad]


def test_no_class_has_the_name_of_another_column() -> None:
    names = ("prob_image", "error", "image", "label", "answer")
    row = replace(GOOD, predicted_label="image", probability_values=(0.1, 0.2, 0.4, 0.2, 0.1))
    header, cells = csv_rows([row], names)
    assert header == [*FIXED, *(f"prob_{name}" for name in names), *LAST]
    assert cells[1:3] == ["image", "image"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_read_back_from_csv_and_json(name: str, tmp_path: Path) -> None:
    row = replace(GOOD, image=name)
    assert csv_rows([row, BAD], (name, "green", "red"))[1][0] == name
    assert json.loads(written("jsonl", [row], tmp_path / "x"))["image"] == name


@given(
    st.lists(st.tuples(ANY_TEXT, st.none() | ANY_TEXT), max_size=4),
    st.lists(ANY_TEXT, min_size=3, max_size=3, unique=True),
)
@example([("a\rb", "c\rd")], ["e\rf", "g", "h"])
def test_every_form_for_programs_parses_back(
    tmp_path: Path, rows: list[tuple[str, str | None]], names: list[str]
) -> None:
    answers = [
        replace(make_prediction(image, None, 0.5, 0.25, 0.25, names=names), warnings=("turned",))
        if error is None
        else Prediction(image, error=error)
        for image, error in rows
    ]
    read = csv_rows(answers, names)
    assert len(read[0]) == len(set(read[0])) == 12
    assert [(row[0], row[2], row[-1]) for row in read[1:]] == [
        (a.image, a.predicted_label or "", a.error or "") for a in answers
    ]
    expected = [
        {
            "image": each.image,
            "answer": each.answer,
            "predicted_label": each.predicted_label,
            "confidence": each.confidence,
            "probabilities": each.probabilities or None,
            "tags": [],
            "tag_probabilities": None,
            "prediction_set": [],
            "none_of_these": None,
            "none_of_these_score": None,
            "warnings": list(each.warnings),
            "error": each.error,
        }
        for each in answers
    ]
    lines = written("jsonl", answers, tmp_path / "x.jsonl", names).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [{**row, "model": MODEL.short} for row in expected]
    document = json.loads(written("json", answers, tmp_path / "x.json", names))
    head = {"model": {"name": MODEL.name, "sha256": MODEL.sha256}, "class_names": names}
    assert document == {**head, "predictions": expected}


# Where the answers go


def test_odd_bytes_in_a_name_are_escaped_in_every_form(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    rows = [replace(GOOD, image="caf\udce9\n\x1b[31m.png"), replace(BAD, image="caf\udce9.png")]
    for form in ("table", "csv", "jsonl", "json"):
        assert r"caf\udce9" in written(form, rows, tmp_path / "x")
        with open_writer(form, None, CLASS_NAMES, MODEL) as writer:
            for row in rows:
                writer.write(row)
        assert capsysbinary.readouterr().out.count(rb"caf\udce9") >= 2
    assert json.loads(written("jsonl", rows[1:], tmp_path / "x"))["image"] == "caf\udce9.png"
    table = written("table", rows, tmp_path / "x")
    assert "\x1b" not in table
    assert r"\n\x1b[31m.png" in "".join(table.split())


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_stdout_is_utf8_for_programs_whatever_the_terminal_is(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(binary, encoding="ascii"))
    with open_writer(form, None, CLASS_NAMES, MODEL) as writer:
        writer.write(replace(GOOD, image="naïve café"))
    assert "naïve café" in binary.getvalue().decode("utf-8")
    print("still open", flush=True)
    assert binary.getvalue().endswith(b"still open\n")


def test_stdout_that_holds_text_only_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    with open_writer("csv", None, CLASS_NAMES, MODEL) as writer:
        writer.write(GOOD)
    assert text.getvalue().count("\n") == 2


def test_unfinished_file_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_writer("csv", tmp_path / "x.csv", CLASS_NAMES, MODEL) as writer:
        writer.write(GOOD)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_unknown_form_and_missing_folder_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UnknownNameError, match="json"),
        open_writer("jsn", None, (), MODEL),
    ):
        pass
    with pytest.raises(UsageError), open_writer("csv", tmp_path / "no/x.csv", CLASS_NAMES, MODEL):
        pass


def test_long_table_is_printed_in_pieces_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [replace(GOOD, image=f"{number}.png") for number in range(2 * TABLE_ROWS + 1)]
    text = written("table", rows, tmp_path / "x")
    assert re.findall(r"^\d+\.png", text, re.MULTILINE) == [row.image for row in rows]
    assert text.count("image ") == 3
    assert written("table", [], tmp_path / "x") == ""


# Tables for a terminal


def shown(width: int, show: object, *arguments: object) -> str:
    """What is printed at a width; no line may be wider, for the terminal would cut it."""
    file = io.StringIO()
    show(PlainConsole(file=file, width=width), *arguments)  # type: ignore[operator]
    assert max(map(cell_len, file.getvalue().splitlines())) <= width
    return file.getvalue()


def some_names(count: int, length: int) -> tuple[str, ...]:
    return tuple(f"{'class' * length}{number:02}"[-length:] for number in range(count))


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("count", [2, 6, 40])
@pytest.mark.parametrize("length", [8, 90])
def test_evaluation_shows_whole_figures(width: int, count: int, length: int) -> None:
    names = some_names(count, length)
    ones = [[float(row == column) for column in range(count)] for row in range(count)]
    answers = [make_prediction("x", names[0], *row, names=names) for row in ones] * 600
    text = shown(
        width, show_evaluation, compute_metrics([*answers, make_prediction("y", names[0])], names, split="test")
    )
    flat = " ".join(text.split())
    assert f"accuracy {1 / count:.1%} (600 of {600 * count:,} images correct) macro F1" in flat
    assert re.search(r"\b1 image not counted", flat)
    assert re.search(rf"100\.0% +{1 / count:.1%} +{2 / (count + 1):.1%} +{600 * count:,}$", text, re.MULTILINE)
    assert len(re.findall(r"- +- +- +0$", text, re.MULTILINE)) == count - 1
    assert f"600 ({1 / count:.1%})" in flat
    assert "…" not in text


def test_evaluation_takes_no_name_for_markup() -> None:
    names = ("[red]x[/red]", "\x1b[2J")
    text = shown(
        80,
        show_evaluation,
        compute_metrics([make_prediction("1", names[0], 0.0, 1.0, names=names)], names, split="test"),
    )
    assert r"[red]x[/red] predicted as \x1b[2J: 1 (100.0%)" in text
    assert re.search(r"^\[red\]x\[/red\] +- +0\.0% +0\.0% +1$", text, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_layers_are_shown_whole(width: int) -> None:
    layers = [
        Layer(
            "features.stage3.block12.attention[red].normalization",
            "Conv2d 3x3, stride 2, ReLU " * 4,
            (150, 150, 1024),
            1_234_567_890,
            0,
        ),
        Layer("head", "Linear", (6,), 390, 390),
    ]
    text = shown(width, show_layers, layers)
    assert "150 x 150 x 1024" in text
    assert "[red]" in "".join(text.split())
    assert re.search(r"head +Linear +6 +390$", text, re.MULTILINE)
    assert "1,234,567,890" in text
    assert " ".join(text.split()).endswith("1,234,568,280 parameters, 1,234,567,890 of which are frozen")
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_card_is_shown_whole(width: int) -> None:
    card = replace(CARD, class_names=("[red]x[/red]", *some_names(40, 8)))
    flat = " ".join(shown(width, show_card, card).split())
    for expected in (
        "classes [red]x[/red], ",
        "input 8 x 8 RGB, resized by 'stretch'",
        "recipe 'article', network 'mean-color', seed 7",
        "images 1,234 train, 56 validation, 78 test",
        "3 in 12 s, best epoch 2",
        "torch 2.13.0",
        "cpu, float32",
    ):
        assert expected in flat


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ({"teacher": "big, SHA-256 12ab"}, ["teacher big, SHA-256 12ab"]),
        (
            {"weights": "w.safetensors", "license": "MIT", "tuned": "75% of the way"},
            ["weights mean-color, w.safetensors", "license MIT"],
        ),
    ],
)
def test_card_says_what_a_network_stands_on(base: dict[str, str], expected: list[str]) -> None:
    card = replace(CARD, provenance=replace(CARD.provenance, pretrained_from=base))
    flat = " ".join(shown(80, show_card, card).split())
    assert all(text in flat for text in expected)


# Tags, sets and "none of these"


def fjord() -> Prediction:
    found = make_prediction("fjord.jpg", None, 0.6, 0.3, 0.1)
    return replace(found, none_of_these=True, none_of_these_score=0.9712, prediction_set=("blue", "green"))


def tagged() -> Prediction:
    tags = (Tag("blue", 0.58, 0.99), Tag("green", 0.42, 0.8))
    return replace(fjord(), tags=tags, none_of_these=False, none_of_these_score=0.12)


def test_csv_holds_tags_with_shares_and_none_of_these() -> None:
    header, *rows = csv_rows([tagged(), fjord()], CLASS_NAMES)
    known, none = (dict(zip(header, row, strict=True)) for row in rows)
    assert (known["answer"], known["tags"], known["none_of_these"]) == ("blue", "blue:0.58|green:0.42", "false")
    assert known["prediction_set"] == "blue|green"
    assert (none["answer"], none["tags"], none["none_of_these"]) == ("none of these", "", "true")
    assert (none["predicted_label"], none["none_of_these_score"]) == ("blue", "0.971200")


def test_json_holds_tags_with_confidence_and_the_set() -> None:
    found = tagged().to_dict()
    assert found["tags"][1] == {"name": "green", "area_fraction": 0.42, "confidence": 0.8}  # type: ignore[index]
    assert found["prediction_set"] == ["blue", "green"]
    assert (found["answer"], found["none_of_these"]) == ("blue", False)
    assert fjord().to_dict()["answer"] == "none of these"
