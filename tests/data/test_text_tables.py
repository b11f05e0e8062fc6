from pathlib import Path

import pytest

from belvedere.data.text_tables import CsvTable, JsonLinesTable
from belvedere.errors import DatasetError


@pytest.mark.parametrize("separator", ["", '"', " "])
def test_only_usual_separators_are_stated(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(f"sep={separator}\r\nimage,label\r\n".encode())
    try:
        columns = CsvTable(path).columns
    except DatasetError:
        columns = []
    assert columns != ["image,label"]


def test_empty_csv_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\n")
    with pytest.raises(DatasetError, match="Empty"):
        CsvTable(path)


def test_json_line_that_is_no_object_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(DatasetError) as raised:
        JsonLinesTable(path)
    assert str(raised.value).count(str(path)) == 1


def test_json_numbers_are_whole_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"label": NaN}\n{"label": 1.0}\n{"label": 0.5}\n{"label": null}\n')
    assert [list(cells) for _, cells in JsonLinesTable(path).rows([0])] == [[None], ["1"], ["0.5"], [None]]


def test_json_lists_are_several_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"label": ["sea", "wood"]}\n{"label": [3, 1]}\n{"label": []}\n')
    assert [list(cells) for _, cells in JsonLinesTable(path).rows([0])] == [["sea|wood"], ["3|1"], [""]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("image,label\na.png,Käse\nb.png,猫\n".encode(encoding))
    table = CsvTable(path)
    assert [cells for _, cells in table.rows([0, 1])] == [["a.png", "Käse"], ["b.png", "猫"]]
    assert table.guesses == [f"encoding {encoding}"]


def test_utf32_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("image,label\na.png,猫\n".encode("utf-32"))
    assert [cells for _, cells in CsvTable(path).rows([0, 1])] == [["a.png", "猫"]]


@pytest.mark.parametrize("before", [1, 200_000])
def test_the_line_of_a_nul_byte_is_named(tmp_path: Path, before: int) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"image,label\n" + b"a.png,sea\n" * before + b"b\0.png,sea\n")
    with pytest.raises(DatasetError, match=f"line {before + 2:,}"):
        CsvTable(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('image,label\n"a.png,sea\nb.png,sea\n', 2),
        ('image,label\n\na.png,sea\n"b\nb.png",sea\nc.png,"sea\n', 6),
        ('sep=,\nimage,label\na.png,"sea" two\n', 3),
        ('image,label\na.png,"' + "x\n" * 100_000, 2),
    ],
    ids=["never closed", "after a cell of two lines", "after a line sep=", "long"],
)
def test_the_line_where_a_quote_is_opened_is_named(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"line {line} \("):
        list(CsvTable(path).rows([0, 1]))


@pytest.mark.parametrize("text", ["image,label\n1.png,\u30cd\u30b3\n", "\u30cd,label\n1.png,cat\n"])
def test_an_encoding_that_is_not_recognized_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("shift-jis") + b"\x81")
    with pytest.raises(DatasetError, match="UTF-8"):
        CsvTable(path)
