"""Parquet files, and Excel workbooks as users have them: errors of formulas, formulas without values, dates, sheets."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zipfile import ZipFile

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from belvedere.data.binary_tables import ExcelTable, ParquetTable
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.errors import DatasetError

HEADER = ("image", "label")


def write(folder: Path, **sheets: Sequence[Sequence[object]]) -> Path:
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for title, rows in sheets.items():
        sheet = workbook.create_sheet(title)
        for row in rows:
            sheet.append(row)
    (folder / "1.jpg").touch()
    workbook.save(folder / "t.xlsx")
    return folder / "t.xlsx"


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    return str(caught.value)


def said(dataset: Dataset) -> str:
    return " ".join(warning.message for warning in dataset.warnings)


def test_row_beyond_those_of_excel_is_an_error(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["image", "label"])
    workbook.save(tmp_path / "plain.xlsx")
    path = tmp_path / "labels.xlsx"
    with ZipFile(tmp_path / "plain.xlsx") as source, ZipFile(path, "w") as target:
        for name in source.namelist():
            row = b'<row r="20000000"><c><v>1</v></c></row></sheetData>'
            target.writestr(name, source.read(name).replace(b"</sheetData>", row))
    with pytest.raises(DatasetError, match="1,048,576 rows"):
        list(ExcelTable(path).rows([0, 1]))


def test_parquet_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["image", "image"]), path)
    with pytest.raises(DatasetError, match="'image'"):
        ParquetTable(path)


def test_parquet_numbers_are_whole_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"label": [float("nan"), 1.0, 0.5, None]}), path)
    assert [list(cells) for _, cells in ParquetTable(path).rows([0])] == [[None], ["1"], ["0.5"], [None]]


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#DIV/0!", "#NAME?"])
def test_an_error_of_a_formula_is_no_class(error: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, A=[HEADER, ("1.jpg", "cat"), ("1.jpg", error)]))
    assert "row 3" in message
    assert error in message


def test_an_error_in_a_column_that_is_not_used_does_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, A=[(*HEADER, "note"), ("1.jpg", "cat", "#N/A"), ("2.jpg", "#wow!", None)])
    assert load_dataset(path).class_names == ("#wow!", "cat")


def test_the_first_visible_sheet_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, Lists=[["x"]], Labels=[HEADER, ("1.jpg", "cat")], Old=[["y"]])
    workbook = openpyxl.load_workbook(path)
    workbook["Lists"].sheet_state = "hidden"
    workbook.save(path)
    dataset = load_dataset(path)
    assert dataset.class_names == ("cat",)
    assert "Labels (not Lists, Old)" in said(dataset)


def test_errors_name_the_sheet(tmp_path: Path) -> None:
    rows = [HEADER, ("1.jpg", None)]
    assert "Readme (not Labels)" in refusal(write(tmp_path, Readme=[["hello"]], Labels=rows))
    assert "sheet Labels, row 2" in refusal(write(tmp_path, Labels=rows, Readme=[["hello"]]))


@pytest.mark.parametrize(
    "row", [("1.jpg", '=IF(TRUE,"cat","dog")'), ('="1"&".jpg"', "cat"), ('="1"&".jpg"', '="cat"')], ids=str
)
def test_a_formula_without_its_value_is_not_called_empty(row: tuple[str, str], tmp_path: Path) -> None:
    message = refusal(write(tmp_path, A=[HEADER, (None, None), ("1.jpg", "cat"), row]))
    assert "row 4" in message
    assert "formula" in message


def test_formulas_in_columns_that_are_not_used_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, A=[(*HEADER, "split", "n"), ("1.jpg", "cat", None, "=1+1"), (None, None, None, None)])
    assert load_dataset(path).class_names == ("cat",)


def test_dates_are_written_without_a_time(tmp_path: Path) -> None:
    rows = [("1.jpg", datetime(2024, 1, 2)), ("2.jpg", datetime(2024, 1, 2, 12, 30))]
    dataset = load_dataset(write(tmp_path, A=[HEADER, *rows]))
    assert dataset.class_names == ("2024-01-02", "2024-01-02 12:30:00")
    assert "dates written as 2024-01-02" in said(dataset)


@pytest.mark.parametrize("rows", [[["image label"], ["1.jpg cat"]], [["1.jpg cat"]]])
def test_nothing_is_said_of_separators(rows: list[list[str]], tmp_path: Path) -> None:
    message = refusal(write(tmp_path, A=rows))
    assert "comma" not in message
    assert "image" in message


def test_blank_rows_before_the_header_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, A=[(None, None), ("", None), HEADER, ("1.jpg", "cat")])
    assert [cells for _, cells in ExcelTable(path).rows([0, 1])] == [["1.jpg", "cat"]]


@pytest.mark.skipif(not hasattr(pyarrow, "string_view"), reason="from PyArrow 16 on")
def test_text_of_string_views_is_read(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    cells = {
        name: pyarrow.array([value], pyarrow.string_view()) for name, value in (("image", "1.jpg"), ("label", "a"))
    }
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "t.parquet")
    assert [sample.label for sample in load_dataset(tmp_path / "t.parquet").samples] == ["a"]
