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
        read_class_list(tmp_path, {"0", "1"})
