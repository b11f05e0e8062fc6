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
