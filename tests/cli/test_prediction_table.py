"""The table of predictions on terminals of any width, and in a pipe."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from belvedere.cli.prediction_table import (
    NARROW,
    NUM_CLASSES_SHOWN,
    TABLE_ROWS,
    TableWriter,
    join_fitting,
    shorten,
    show_predictions,
    show_probabilities,
)
from belvedere.runtime.console import PlainConsole
from belvedere.types.prediction import Prediction, Tag
from conftest import CLASS_NAMES, MODEL, make_prediction

GOOD = make_prediction("photos/1.png", None, 0.12, 0.87, 0.01)
BAD = Prediction("photos/2.png", error="empty file")
LONG = "a/long/path/" * 12 + "1.png"
WIDE_NAME = "写真/夏休みの思い出/東京タワー🗼.jpg"
SET = replace(GOOD, prediction_set=("green", "blue", "red"), tags=(Tag("green", 0.6, 0.9), Tag("red", 0.4, 0.8)))
NONE = replace(GOOD, none_of_these=True, none_of_these_score=0.97)
WARNED = replace(GOOD, warnings=("first of 2 frames",))


def shown(width: int, predictions: Sequence[Prediction]) -> list[str]:
    """The lines at a width, none of which is wider, for the terminal would break it."""
    console = PlainConsole(file=io.StringIO(), width=width)
    show_predictions(console, predictions)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(cell_len, lines)) <= width
    assert [line for line in lines if line != line.rstrip()] == []
    return lines


def words(line: str) -> list[str]:
    """The cells of a line."""
    return re.split(r" {2,}", line.strip())


@pytest.mark.parametrize("width", [40, NARROW - 1, NARROW, 80, 120, 200])
@pytest.mark.parametrize("length", [3, 17, 90])
@pytest.mark.parametrize("image", ["1.png", LONG, WIDE_NAME])
def test_each_image_has_a_row_with_its_class_and_confidence(width: int, length: int, image: str) -> None:
    names = tuple(f"{'class' * length}{number}"[-length:] for number in range(5))
    row = make_prediction(image, None, 0.1, 0.2, 0.5, 0.15, 0.05, names=names)
    lines = shown(width, [row] * 50)
    assert len(lines) == 51
    assert words(lines[0]) == ["image", "prediction", "confidence"]
    first, second, third = words(lines[1])
    assert third == "50.0%"
    for cell, whole in ((first, image), (second, names[2])):
        start, _, end = cell.partition("…")
        assert (whole.startswith(start), whole.endswith(end)) == (True, True)
        assert cell == whole or "…" in cell
    assert width < 200 or first == image or length == 90


def test_further_classes_are_in_columns_or_below() -> None:
    assert [words(line) for line in shown(80, [GOOD, SET])] == [
        ["image", "prediction", "confidence", "also (area)", "note"],
        ["photos/1.png", "green", "87.0%"],
        ["photos/1.png", "green", "87.0%", "red 40%", "possibly blue, red"],
    ]
    assert [words(line) for line in shown(60, [GOOD, SET])] == [
        ["image", "prediction", "confidence"],
        ["photos/1.png", "green", "87.0%"],
        ["photos/1.png", "green", "87.0%"],
        ["also (area): red 40%; possibly blue, red"],
    ]
    narrow = words(shown(80, [replace(SET, image=LONG, prediction_set=tuple(f"class {n}" for n in range(200)))])[1])
    assert re.fullmatch(r"possibly class 0, (class \d, )*\+\d+", narrow[-1])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_is_no_class_says_why(width: int) -> None:
    text = " ".join(" ".join(shown(width, [NONE, BAD, WARNED])).split())
    assert "none of these most probable: green 87.0%" in text
    assert "not read empty file" in text
    assert "first of 2 frames" in text
    assert text.count("%") == 2


@pytest.mark.parametrize("width", [60, 80])
def test_no_name_of_a_class_is_broken(width: int) -> None:
    names = (*CLASS_NAMES, "n" * 100, "m" * 50 + " " + "o" * 100)
    row = make_prediction("1.png", None, 0.6, 0.2, 0.1, 0.05, 0.05, names=names)
    row = replace(row, prediction_set=names, tags=tuple(Tag(name, 0.2, 0.8) for name in names))
    unknown = replace(make_prediction("2.png", None, 0, 0, 0, 1, 0, names=names), none_of_these=True)
    console = PlainConsole(file=io.StringIO(), width=width)
    show_probabilities(console, row)
    for lines in (shown(width, [row, unknown]), console.file.getvalue().splitlines()):  # type: ignore[attr-defined]
        assert max(map(cell_len, lines)) <= width
        long = [word for line in lines for word in re.findall(r"[^ ]*(?:nn|mm|oo)[^ ]*", line)]
        assert long
        assert [word for word in long if not re.fullmatch(r"(n+…n+|m+…o+)[,;]?", word)] == []


@pytest.mark.parametrize("width", [18, 26, 31])
def test_no_number_is_broken_on_a_narrow_terminal(width: int) -> None:
    whole = make_prediction(LONG, None, 0.0, 1.0, 0.0)
    assert [words(line)[2] for line in shown(width, [whole, GOOD])[1:]] == ["100.0%", "87.0%"]


def test_reasons_start_at_one_column_where_there_is_room() -> None:
    _, none, bad = shown(80, [NONE, BAD])
    assert none.index("most probable") == bad.index("empty file")


def test_a_console_without_the_ellipsis_gets_dots() -> None:
    binary = io.BytesIO()
    console = PlainConsole(file=io.TextIOWrapper(binary, "ascii"), width=40)
    names = ("a" * 60, "b" * 60)
    row = replace(make_prediction(LONG, None, 0.6, 0.4, names=names), prediction_set=names)
    show_predictions(console, [row])
    show_probabilities(console, row)
    console.file.flush()
    assert binary.getvalue().decode("ascii").count("...") == 7  # image and class; note; classes; prediction set


def test_a_long_reason_has_lines_below_its_start() -> None:
    first, *rest = shown(80, [replace(BAD, error="a reason " * 30)])[1:]
    column = first.index("a reason")
    assert len(rest) > 3
    assert all(line.index("a reason" if line.strip().startswith("a") else "reason") == column for line in rest)


@pytest.mark.parametrize("width", [60, 200])
def test_no_name_is_taken_for_markup_or_control(width: int) -> None:
    names = ("[red]x[/red]", "[/]", ":smile:")
    tags = (Tag(names[0], 0.7, 0.9), Tag(names[1], 0.3, 0.9))
    row = make_prediction("[bold]y[/bold]\x1b[2J\n", None, 0.5, 0.3, 0.2, names=names)
    row = replace(row, tags=tags, prediction_set=names)
    text = "\n".join(shown(width, [row, replace(BAD, error="[link]z\x07")]))
    for name in (*names, "[link]z\\x07", "[bold]y[/bold]\\x1b[2J\\n"):
        assert name in text


@given(st.text(max_size=30), st.integers(1, 30))
def test_a_cut_name_has_at_most_its_width_and_both_ends(text: str, width: int) -> None:
    cut = shorten(text, width)
    assert cell_len(cut) <= width
    if cut == text:
        return
    start, _, end = cut.partition("…") if "…" not in text else (cut[:0], "", "")
    assert text.startswith(start)
    assert text.endswith(end)
    assert cell_len(cut) >= width - 2  # a wide character may leave a column on each side


def test_lists_say_how_many_names_they_have_no_room_for() -> None:
    names = ["mountain", "forest", "sea"]
    assert [join_fitting(names, width) for width in (40, 21, 16, 12, 3)] == [
        "mountain, forest, sea",
        "mountain, forest, sea",
        "mountain, +2",
        "mountain, +2",
        "mountain, +2",
    ]
    assert join_fitting([], 3) == ""


@pytest.mark.parametrize("count", [2, 6, 200])
def test_probabilities_of_one_image_are_ranked(count: int) -> None:
    names = tuple(f"class {number}" for number in range(count))
    weights = [(7 * number + 3) % count + 1 for number in range(count)]
    row = make_prediction("1.png", None, *(weight / sum(weights) for weight in weights), names=names)
    console = PlainConsole(file=io.StringIO(), width=80)
    show_probabilities(console, replace(row, prediction_set=names[:2]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    ranked = sorted(row.probabilities.items(), key=lambda item: -item[1])
    expected = [[name, f"{value:.1%}"] for name, value in ranked[:NUM_CLASSES_SHOWN]]
    assert [words(line) for line in lines[2 : 2 + len(expected)]] == expected
    assert lines[-1] == "prediction set (95%): class 0, class 1"
    rest = sum(value for _, value in ranked[NUM_CLASSES_SHOWN:])
    assert (f"{count - NUM_CLASSES_SHOWN} other classes: {rest:.1%} in all" in lines) == (count > NUM_CLASSES_SHOWN)


@pytest.mark.parametrize(("number", "has_probabilities"), [(1, True), (2, False), (TABLE_ROWS + 1, False)])
def test_only_a_single_image_has_probabilities_below(
    number: int, has_probabilities: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    writer = TableWriter(file, CLASS_NAMES, MODEL)
    for _ in range(number):
        writer.write(replace(GOOD, image=LONG))
    writer.close()
    text = file.getvalue()
    assert text.count(LONG) == number  # whole: this is no terminal
    assert ("probability" in text) == has_probabilities
    assert text.count("confidence") == 1 + (number > TABLE_ROWS)


def test_no_class_stands_out_in_none_of_these() -> None:
    console = PlainConsole(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    show_predictions(console, [NONE, GOOD])
    _, none, known = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert ("32m" in none, "32m" in known) == (False, True)
