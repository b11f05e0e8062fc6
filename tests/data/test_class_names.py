"""Names of classes that a person adds."""

import unicodedata
from pathlib import Path

import pytest

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.dataset import load_dataset
from belvedere.errors import UsageError
from belvedere.runtime.serialization import write_csv
from conftest import write_image

KNOWN = ("sea", "Café", "high mountain")
GOOD = ["fjord", "deep fjord", "лес", "森林", "C++", "a: b", "v1.2", "x" * 100, "s:e", "100%", "it's", '"quoted", so']


@pytest.mark.parametrize("name", GOOD)
def test_names_that_a_folder_and_a_table_hold(tmp_path: Path, name: str) -> None:
    assert check_new_class(name, KNOWN) == name
    image = write_image(tmp_path / "photos" / name / "1.png", "red")
    assert load_dataset(tmp_path / "photos").class_names == (name,)
    write_csv(tmp_path / "table.csv", ("image", "label"), [(image, f"{name}|sea"), (image, f"sea|{name}")])
    assert load_dataset(tmp_path / "table.csv").class_names == tuple(sorted((name, "sea")))


def test_a_name_is_kept_in_one_spelling() -> None:
    assert check_new_class("  deep \t fjord ", KNOWN) == "deep fjord"
    assert check_new_class(unicodedata.normalize("NFD", "forêt"), KNOWN) == "forêt"


@pytest.mark.parametrize(
    "name",
    [
        *("", "   ", "\u00a0", "a|b", "|", "a/b", "a\\b", ".", "..", ".hidden", "a\0b", "a\x1b[31m", "a\ud800"),
        *("sea:0.6", "sea: 1", "sea:", "x" * 201, "é" * 101),
        *("train", "Test", "valid", "none of these", "None  of these", "__MACOSX"),
        *("sea", "SEA", " Sea ", "café", unicodedata.normalize("NFD", "CAFÉ"), "High  Mountain"),
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_new_class(name, KNOWN)
