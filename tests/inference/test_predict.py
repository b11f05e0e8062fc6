"""The function predict: what it takes, and what it returns with and without a file."""

import csv
from pathlib import Path

import pytest

from belvedere.data.dataset import load_dataset
from belvedere.errors import UsageError
from belvedere.inference.batch import PredictionSummary
from belvedere.inference.model import Model
from belvedere.inference.predict import predict
from conftest import make_pixels, write_classes


def test_a_dataset_is_its_images(opened: Model, tmp_path: Path) -> None:
    dataset = load_dataset(write_classes(tmp_path / "images", 2))
    found = predict(opened, dataset)
    assert [each.image for each in found] == [str(sample.path) for sample in dataset.samples]
    assert found == predict(opened, tmp_path / "images")


def test_a_file_is_written_for_a_dataset(opened: Model, tmp_path: Path) -> None:
    dataset = load_dataset(write_classes(tmp_path / "images", 2))
    assert predict(opened, dataset, out=tmp_path / "out.csv") == PredictionSummary(6, 0)
    with (tmp_path / "out.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [str(sample.path) for sample in dataset.samples]


def test_only_files_have_rows_in_a_file(opened: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        predict(opened, make_pixels("red"), out=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
