"""The command demo; tests/demo/test_demo.py tests what it does."""

from pathlib import Path

import pytest

from command_line import assert_one_line, belvedere


def test_an_existing_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear Ana")
    assert_one_line(belvedere("demo", "--out", "mine", "--overwrite", cwd=tmp_path), 2, "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "Dear Ana"


@pytest.mark.parametrize("seed", ["-1", "4294967296", "x"])
def test_a_wrong_seed_is_one_line(tmp_path: Path, seed: str) -> None:
    assert_one_line(belvedere("demo", "--seed", seed, cwd=tmp_path), 2, seed)
    assert list(tmp_path.iterdir()) == []
