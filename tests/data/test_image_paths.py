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
