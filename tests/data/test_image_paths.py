from pathlib import Path

import pytest

from belvedere.data.image_paths import ImagePaths
from belvedere.errors import DatasetError


def test_names_in_two_folders_that_give_one_file_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    images = ImagePaths(tmp_path)
    same = [images.find(name, "line 2") for name in ("cat/1.jpg", "cat/1.jpg", r"cat\1.jpg", "cat/1")]
    assert same == [tmp_path / "1.jpg"] * 4
    with pytest.raises(DatasetError, match=r"'cat/1.jpg' and 'dog/1.jpg'"):
        images.find("dog/1.jpg", "line 6")


@pytest.mark.parametrize("first", ["a/1.jpg", r"a\1.jpg"])
def test_a_name_that_is_found_whole_keeps_the_folders_of_the_others(first: str, tmp_path: Path) -> None:
    for name in ("a/1.jpg", "2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = ImagePaths(tmp_path)
    assert images.find(first, "line 2") == tmp_path / "a" / "1.jpg"
    assert images.find("b/2.jpg", "line 3") == tmp_path / "b" / "2.jpg"
    assert [warning.names for warning in images.check()][-1] == ("b/2.jpg (line 3)",)


def test_a_name_that_is_found_whole_does_not_forget_how_many_folders_the_others_lose(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).touch()
    images = ImagePaths(tmp_path)
    names = ("home/1.jpg", "2", "home/3.jpg")
    assert [images.find(name, "line") for name in names] == [tmp_path / f"{number}.jpg" for number in (1, 2, 3)]
