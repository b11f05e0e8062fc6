"""Columns of splits under other names, in several languages."""

from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from belvedere.data.dataset import Dataset, load_dataset

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
    assert splits(load_dataset(tmp_path / "t.parquet")) == {None: 1}
