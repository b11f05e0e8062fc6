from pathlib import Path

import pytest

from belvedere.data.class_lists import read_class_list
from belvedere.errors import DatasetError


@pytest.mark.parametrize(
    ("name", "text"),
    [("labels.txt", "0.jpg 0\n1.jpg 1\n"), ("classes.json", '["cat", "cat"]'), ("classes.txt", "cat|dog\nsea\n")],
)
def test_list_with_what_is_no_name_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=name):
        read_class_list(tmp_path / name, {0, 1})


def test_two_numbers_of_one_name_are_named(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sea\ncrane\nwood\ncrane \n")
    with pytest.raises(DatasetError, match=r"1 and 3 .*'crane'"):
        read_class_list(tmp_path / "classes.txt", {0, 2})


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(DatasetError, match="empty"):
        read_class_list(tmp_path / "classes.txt", {0})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "0 sea\n1 crane\n1 wood\n"),
        ("classes.json", '{"0": "sea", "1": "crane", "01": "wood"}'),
        ("classes.json", '{"sea": 0, "crane": 1, "wood": 1}'),
    ],
)
def test_two_names_of_one_number_are_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=r"1 .*'crane' and 'wood'"):
        read_class_list(tmp_path / name, {0, 1})
