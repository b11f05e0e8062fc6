"""Columns of splits under other names, in several languages."""

import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.errors import DatasetError

NUM_IMAGES = 4


def load(folder: Path, column: str, *values: str, more: str = "") -> Dataset:
    """Read a table with a column of splits, of which the last images have the last value."""
    lines = [f"image,label,{column}"]
    for number in range(NUM_IMAGES):
        (folder / f"{number}.jpg").touch()
        value = values[number * len(values) // NUM_IMAGES]
        lines.append(f"{number}.jpg,{('cat', 'dog')[number % 2]},{value}{more}")
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return load_dataset(folder / "t.csv")


def splits(dataset: Dataset) -> dict[str | None, int]:
    return dict(Counter(sample.split for sample in dataset.samples))


@pytest.mark.parametrize(
    ("column", "train", "test"),
    [
        ("Aufteilung", "Training", "Test"),
        ("Satz", "Lernmenge", "Prüfmenge"),
        ("Datensatz", "Trainingsdaten", "Prüfung"),
        ("ensemble", "apprentissage", "test"),
        ("Jeu de données", "entraînement", "évaluation"),
        ("Sous-ensemble", "train", "test"),
        ("partition", "train set", "test set 1"),
        ("data_split", "set train", "TEST"),
        ("Zweck", "Training", "Test"),
        ("x", "train", "eval"),
    ],
)
def test_a_column_of_names_of_splits_is_that_of_the_splits(column: str, train: str, test: str, tmp_path: Path) -> None:
    dataset = load(tmp_path, column, train, test)
    assert splits(dataset) == {"train": 2, "test": 2}
    assert dataset.warnings[0].message == f"Read from the table: {column} as split"


@pytest.mark.parametrize(("column", "value"), [("Aufteilung", "A"), ("jeu", "1"), ("is_test", "0"), ("Subset", "b")])
def test_a_column_named_like_splits_that_holds_none_is_named_with_a_hint(
    column: str, value: str, tmp_path: Path
) -> None:
    dataset = load(tmp_path, column, value)
    assert splits(dataset) == {None: NUM_IMAGES}
    [warning] = dataset.warnings
    assert f"{column} holds {value!r}" in warning.message
    assert "name the column split" in warning.message


def test_two_columns_of_splits_are_unclear(tmp_path: Path) -> None:
    dataset = load(tmp_path, "first,second", "train,train", "train,test", "test,train", "test,test")
    assert splits(dataset) == {None: NUM_IMAGES}
    assert "the split could be first or second" in dataset.warnings[0].message


def test_a_column_of_one_value_or_of_file_names_is_no_column_of_splits(tmp_path: Path) -> None:
    assert splits(load(tmp_path, "kind", "test")) == {None: NUM_IMAGES}
    assert splits(load(tmp_path, "mask", "train.png", "test.png")) == {None: NUM_IMAGES}


def test_a_class_called_train_is_not_asked_for_splits(tmp_path: Path) -> None:
    dataset = load(tmp_path, "train,car", "1,0", "0,1")
    assert dataset.class_names == ("cat", "dog")
    text = (tmp_path / "t.csv").read_text().replace("label", "note")
    (tmp_path / "t.csv").write_text(text)
    dataset = load_dataset(tmp_path / "t.csv")
    assert dataset.class_names == ("car", "train")
    assert not any("holds" in warning.message for warning in dataset.warnings)


def test_a_column_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    cells = {"image": ["1.jpg"], "label": ["cat"], "boxes": [[1, 2]], "set": ["test"]}
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "t.parquet")
    assert splits(load_dataset(tmp_path / "t.parquet")) == {"test": 1}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_columns_that_are_no_text_do_not_hide_the_splits(suffix: str, place: int, tmp_path: Path) -> None:
    rows = [(f"{number}.jpg", ("cat", "dog")[number % 2], ("train", "test")[number // 2]) for number in range(4)]
    for image, *_ in rows:
        (tmp_path / image).touch()
    other = {"size": [{"w": 1}] * 4, "boxes": [[[1.5]]] * 4, "note": ["x"] * 4}
    columns = {"image": [row[0] for row in rows], "label": [row[1] for row in rows], **other}
    names = [*columns]
    names.insert(2 + place, "subset")
    table = pyarrow.table(columns | {"subset": [row[2] for row in rows]}).select(names)
    if suffix == "parquet":
        pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    else:
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
    assert splits(load_dataset(tmp_path / f"t.{suffix}")) == {"train": 2, "test": 2}


@pytest.mark.parametrize("name", ["is_test", "is_valid", "test", "train"])
def test_a_column_of_a_split_is_no_class_beside_those_of_the_classes(name: str, tmp_path: Path) -> None:
    rows = ["0.jpg,0,1,0", "1.jpg,0,0,1", "2.jpg,1,1,0", "3.jpg,1,0,1"]
    for number in range(NUM_IMAGES):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "t.csv").write_text("\n".join([f"image,{name},cat,dog", *rows]))
    dataset = load_dataset(tmp_path / "t.csv")
    assert [(sample.label, sample.extra_labels) for sample in dataset.samples] == [("cat", ()), ("dog", ())] * 2
    assert f"Columns that are not used: {name}; {name} holds" in " ".join(each.message for each in dataset.warnings)


def test_a_test_image_without_a_class_does_not_get_its_split_as_a_class(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,is_test,cat,dog\n0.jpg,0,1,0\n1.jpg,0,0,1\n2.jpg,1,0,0\n")
    with pytest.raises(DatasetError, match="line 4"):
        load_dataset(tmp_path / "t.csv")
