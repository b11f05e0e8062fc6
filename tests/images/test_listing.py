"""Listing the images below folders."""

from pathlib import Path

from belvedere.images.listing import list_images


def test_images_are_listed_in_sorted_order(tmp_path: Path) -> None:
    names = [f"{number * 7919 % 1000:03}.jpg" for number in range(100)] + ["caf\udce9.png", "two\nlines.png", "b-a.jpg"]
    for folder in ("b", "b-c", ".hidden"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / "b.jpg").touch()
    (tmp_path / "notes.txt").touch()
    whole = list(list_images(tmp_path))
    assert whole == sorted(path for path in tmp_path.rglob("*.[jp][pn]g") if ".hidden" not in path.parts)
    assert len(whole) == 2 * len(names) + 1


def test_folders_are_walked_as_they_are_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
    pictures = list_images(tmp_path)
    assert next(pictures) == tmp_path / "a/x.jpg"
    (tmp_path / "b/later.jpg").touch()
    assert next(pictures) == tmp_path / "b/later.jpg"
