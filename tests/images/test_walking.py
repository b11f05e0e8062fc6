"""Folders walked in order, however many files they hold."""

import tracemalloc
from pathlib import Path

import pytest

from belvedere.images import listing
from belvedere.images.listing import list_pictures


def test_a_folder_that_is_sorted_in_pieces_comes_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number * 7919 % 1000:03}.jpg" for number in range(100)] + ["caf\udce9.png", "two\nlines.png", "b-a.jpg"]
    for folder in ("b", "b-c", ".hidden"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / "b.jpg").touch()
    (tmp_path / "notes.txt").touch()
    whole = list(list_pictures(tmp_path))
    assert whole == sorted(path for path in tmp_path.rglob("*.[jp][pn]g") if ".hidden" not in path.parts)
    assert len(whole) == 2 * len(names) + 1
    monkeypatch.setattr(listing, "NAMES_AT_ONCE", 7)
    assert list(list_pictures(tmp_path)) == whole


def test_memory_does_not_grow_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "NAMES_AT_ONCE", 4000)
    peaks = []
    for count in (4000, 24_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:0>150}.jpg").touch()
        tracemalloc.start()
        assert sum(1 for _ in list_pictures(folder)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.6 * peaks[0]  # six times as many names


def test_folders_are_walked_as_they_are_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
    pictures = list_pictures(tmp_path)
    assert next(pictures) == tmp_path / "a/x.jpg"
    (tmp_path / "b/later.jpg").touch()
    assert next(pictures) == tmp_path / "b/later.jpg"
