"""Reads tables of images and labels: finds the columns, and says what was guessed."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from belvedere.data.binary_tables import ExcelTable, ParquetTable
from belvedere.data.label_columns import MAX_NAME, MAX_SHOWN, Columns, Header, choose_columns, column_error, is_exact
from belvedere.data.split_names import SPLITS, split_of
from belvedere.data.text_tables import CsvTable, JsonLinesTable
from belvedere.errors import DatasetError
from belvedere.images.listing import IMAGE_SUFFIXES

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xlsm", ".jsonl", ".ndjson", ".parquet", ".pq")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_OTHER_FORMATS = (".xls", ".ods", ".numbers", ".json", ".yaml", ".yml", ".xml", ".npz", ".npy", ".pkl", ".mat", ".h5")
MAX_SIGNATURE = 64  # bytes
# Start of a file in small letters, what it is, and suffixes with which it is read.
_OTHER_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer. Run `git lfs pull`", ()),
    (b"<!doctype html", "a web page. Download the table itself", ()),
    (b"<html", "a web page. Download the table itself", ()),
    (
        b"pk\x03\x04",
        "an Excel workbook or an archive. Rename a workbook to .xlsx, and unpack an archive",
        (".xlsx", ".xlsm"),
    ),
    (b"par1", "a Parquet table. Rename it to .parquet", (".parquet", ".pq")),
)
MAX_ASKED = 100  # columns that are asked whether they hold splits
MAX_HINTS = 3
_SPREADSHEET_ERROR = re.compile(r"#(N/A|NV|[\w/-]+[!?])")  # in any language: #REF!, #BEZUG!, #NOM?
_TRAIN = "train"  # a split or, where some images have no other class, a class, as in COCO
_YES, _NO = frozenset(("1", "1.0", "true", "yes")), frozenset(("0", "0.0", "false", "no", ""))

Cells = Sequence[str | None]


class Table(Header, Protocol):
    """An open table."""

    guesses: list[str]  # how the file is read, where it could be read otherwise

    def rows(self, indices: Sequence[int]) -> Iterator[tuple[str, Cells]]:
        """Yield the position of each row, such as "line 2", and its cells of these columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; a missing cell is empty."""

    position: str  # such as "line 2"
    image: str
    label: str
    split: str
    group: str


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The rows of a table, and what to say about it."""

    rows: list[Row]
    guesses: list[str]  # such as "filename as image"; empty for a CSV table with the columns image, label and split
    unused: list[str]  # names of columns
    hints: list[str]  # on what could be used


def read_label_table(path: Path, group_column: str | None = None) -> LabelTable:
    """Read a table of images and labels.

    Args:
        path: Table; its suffix names the format, other suffixes than `TABLE_SUFFIXES` are read as CSV.
        group_column: Column of the groups; default: `group` or `group_id`, if there is one.

    Raises:
        DatasetError: It is no table, is damaged, lacks a column, has several that could be the label, or unpacks to
            far more than its size.
        UnknownNameError: There is no such `group_column`.
        UsageError: The `group_column` holds the images, the labels or the splits.
        MissingDependencyError: The package for Parquet or Excel is not installed.
    """
    table = _open(path)
    columns, hints = _choose_split(table, choose_columns(table, group_column))
    if not columns.labels:
        return _read_one_hot(path, table, columns, hints)
    names = table.columns
    chosen = [columns.image, *columns.labels, *_optional(columns)]
    found = list(_read(path, table, chosen))
    label = _choose_label(table, columns.labels, [cells[1 : 1 + len(columns.labels)] for _, cells in found])
    place = chosen.index(label)
    rows = [_to_row(columns, position, cells, cells[place], 1 + len(columns.labels)) for position, cells in found]
    guesses = [f"{names[label].strip()[:MAX_NAME]} as label"] if not is_exact(names[label], "label") else []
    unused = [*columns.others, *(index for index in columns.labels if index != label)]
    return _finish(table, columns, rows, guesses, unused, hints)


def _open(path: Path) -> Table:
    suffix = path.suffix.lower()
    if suffix in ARCHIVE_SUFFIXES:
        raise DatasetError(f"{path} is an archive. Unpack it, and give the folder.")
    with path.open("rb") as file:
        start = file.read(MAX_SIGNATURE).removeprefix(b"\xef\xbb\xbf").lower()
    for signature, kind, suffixes in _OTHER_KINDS:
        if start.startswith(signature) and suffix not in suffixes and suffix not in IMAGE_SUFFIXES:
            raise DatasetError(f"Not a table in the format of its suffix: {path} is {kind}.")
    if suffix in IMAGE_SUFFIXES:
        raise DatasetError(f"{path} is an image. Give a folder of class folders, or a table.")
    if suffix in _OTHER_FORMATS:
        raise DatasetError(f"{path} is not read as a table. Save it as .csv, .xlsx, .jsonl or .parquet.")
    if suffix in (".parquet", ".pq"):
        return ParquetTable(path)
    if suffix in (".xlsx", ".xlsm"):
        return ExcelTable(path)
    return JsonLinesTable(path) if suffix in (".jsonl", ".ndjson") else CsvTable(path)


def _optional(columns: Columns) -> list[int]:
    return [index for index in (columns.split, columns.group) if index is not None]


def _read(path: Path, table: Table, indices: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows in which a cell of these columns is filled, without further headers, as of tables put together."""
    header = [table.columns[index].strip() for index in indices]
    for position, cells in table.rows(indices):
        filled = [cell or "" for cell in cells]
        for index, cell in zip(indices, filled, strict=True):
            if cell.startswith("#") and cell.isupper() and _SPREADSHEET_ERROR.fullmatch(cell.strip()):
                raise DatasetError(
                    f"{path}, {position}: the cell {table.columns[index].strip()[:MAX_NAME]} holds {cell.strip()}, the "
                    "error of a formula. Correct the formula, or remove the row."
                )
        if [cell.strip() for cell in filled] == header:
            table.guesses.append(f"{position} as a second header")
        elif "".join(filled).strip():
            yield position, filled


def _choose_split(table: Table, columns: Columns) -> tuple[Columns, dict[int, str]]:
    """Choose the column of splits by its values, if none is called split; return hints on others."""
    names = [name.strip()[:MAX_NAME] for name in table.columns]
    if columns.split is not None or not columns.others:
        return columns, {}
    asked = list(dict.fromkeys((*columns.divisions, *columns.others)))[:MAX_ASKED]
    found, wrong = _find_splits(table, asked)
    named = [index for index in columns.divisions if found.get(index)]
    likely = named or [index for index, splits in found.items() if len(splits) > 1]
    if len(likely) > 1:
        unclear = " or ".join(names[index] for index in likely[:MAX_SHOWN])
        return columns, {likely[0]: f"the split could be {unclear}: name one of them split"}
    if not likely:
        known = f"no name of a split: name the column split, and write {', '.join(SPLITS)}"
        wrong = {index: value for index, value in wrong.items() if index in columns.divisions}
        return columns, {index: f"{names[index]} holds {value!r}, {known}" for index, value in wrong.items()}
    others = tuple(index for index in columns.others if index != likely[0])
    return replace(columns, split=likely[0], others=others), {}


def _find_splits(table: Table, indices: Sequence[int]) -> tuple[dict[int, set[str]], dict[int, str]]:
    """Return the splits in each column that holds only names of splits, and a value of each other column."""
    found, wrong = {index: set[str]() for index in indices}, dict[int, str]()
    try:
        for _, cells in table.rows(indices):
            for index, cell in zip(indices, cells, strict=True):
                if cell is None or index not in found:
                    continue
                split = split_of(cell.strip())
                if split is None or cell.strip().lower().endswith(tuple(IMAGE_SUFFIXES)):
                    del found[index]
                    wrong[index] = cell.strip()[:MAX_NAME]
                else:
                    found[index].add(split)
            if not found:
                break
    except DatasetError:  # a column is no text; what is read is checked later
        if len(indices) == 1:
            return {}, {}
        middle = len(indices) // 2
        first, second = _find_splits(table, indices[:middle]), _find_splits(table, indices[middle:])
        return first[0] | second[0], first[1] | second[1]
    return found, wrong


def _to_row(columns: Columns, position: str, cells: Sequence[str], label: str, start: int) -> Row:
    """Return a row, for cells of which the first is the image; split and group begin at `start`."""
    split = cells[start].strip() if columns.split is not None else ""
    group = cells[start + (columns.split is not None)].strip() if columns.group is not None else ""
    return Row(position, cells[0], label, split, group)


def _choose_label(table: Table, labels: Sequence[int], cells: list[list[str]]) -> int:
    """Return the column of the labels; a column of numbers gives way to one with their names.

    Raises:
        DatasetError: Several columns could be it.
    """
    names = table.columns
    if len(labels) == 1:
        return labels[0]
    values = {index: [row[place].strip() for row in cells] for place, index in enumerate(labels)}
    texts = [index for index in labels if not all(value.isdecimal() for value in values[index] if value)]
    first = labels[0]
    if first in texts and is_exact(names[first], "label"):
        return first
    if first not in texts and texts:
        same = [index for index in texts if _is_one_to_one(values[first], values[index])]
        texts = same or (texts if not is_exact(names[first], "label") else [first])
    candidates = texts or list(labels)
    if len(candidates) > 1:
        unclear = " and ".join(names[index].strip()[:MAX_NAME] for index in candidates[:3])
        raise column_error(table, f"The label could be {unclear}: rename one to label. Columns")
    return candidates[0]


def _is_one_to_one(one: Sequence[str], other: Sequence[str]) -> bool:
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _read_one_hot(path: Path, table: Table, columns: Columns, hints: dict[int, str]) -> LabelTable:
    """Read a table with one column per class that holds 0 or 1."""
    names = [name.strip() for name in table.columns]
    optional = _optional(columns)
    start = 1 + len(optional)
    ones_of: list[list[int]] = []
    binary, rows, used = dict.fromkeys(columns.others), [], set[int]()
    for position, cells in _read(path, table, [columns.image, *optional, *columns.others]):
        ones = []
        for index, cell in zip(columns.others, cells[start:], strict=True):
            value = cell.strip().lower()
            if value in _YES:
                ones.append(index)
            elif value not in _NO:
                binary.pop(index, None)
        ones_of.append(ones)
        used.update(ones)
        rows.append(_to_row(columns, position, cells, "", 1))
    flags = set(columns.divisions)  # such as is_test
    if flags and any(binary.keys().isdisjoint(set(ones) - flags) for ones in ones_of):
        flags = {index for index in flags if names[index].casefold() != _TRAIN}
    binary = dict.fromkeys(index for index in binary if index not in flags)
    classes = [index for index in binary if index in used]
    is_class = frozenset(classes)
    if len(binary) < 2 or not classes:
        raise column_error(table, "No column of labels, and none of 0 and 1 for each class,")
    for place, (row, ones) in enumerate(zip(rows, ones_of, strict=True)):
        labels = [names[index] for index in ones if index in is_class]
        if not labels:
            raise DatasetError(f"{path}, {row.position}: no class has a 1. Fill one of the columns of classes.")
        rows[place] = replace(row, label="|".join(labels))
    shown = ", ".join(names[index][:MAX_NAME] for index in classes[:MAX_SHOWN])
    unused = [index for index in columns.others if index not in is_class]
    return _finish(table, columns, rows, [f"one column per class ({shown})"], unused, hints)


def _finish(
    table: Table, columns: Columns, rows: list[Row], guesses: list[str], unused: list[int], hints: dict[int, str]
) -> LabelTable:
    """List the guesses and the unused columns."""
    names = [name.strip()[:MAX_NAME] for name in table.columns]
    shown = [hints[index] for index in unused if index in hints][:MAX_HINTS]
    said = [] if is_exact(names[columns.image], "image") else [f"{names[columns.image]} as image"]
    said += guesses
    if columns.split is not None and not is_exact(names[columns.split], "split"):
        said.append(f"{names[columns.split]} as split")
    return LabelTable(rows, [*said, *table.guesses], [names[index] for index in sorted(unused)], shown)
