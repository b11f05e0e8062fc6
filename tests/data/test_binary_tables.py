from pathlib import Path
from zipfile import ZipFile

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from belvedere.data.binary_tables import ExcelTable, ParquetTable
from belvedere.errors import DatasetError


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
