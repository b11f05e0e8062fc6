"""Listing the images below folders."""

import os
from pathlib import Path

import pytest
from PIL import Image

from belvedere.images.listing import SkippedFiles, list_images
from conftest import write_image


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
    images = list_images(tmp_path)
    assert next(images) == tmp_path / "a/x.jpg"
    (tmp_path / "b/later.jpg").touch()
    assert next(images) == tmp_path / "b/later.jpg"


def test_other_files_are_counted_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("1.jpg", "2.HEIC_", "3.heic_", "a/4.txt", "a/b/5", ".hidden"):
        (tmp_path / name).touch()
    write_image(tmp_path / "a" / "image", "red")
    skipped = SkippedFiles()
    assert [path.name for path in list_images(tmp_path, skipped)] == ["1.jpg", "image"]
    assert str(skipped) == "4 files (2 .heic_, 1 .txt, 1 without suffix)"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"])
def test_images_without_a_suffix_are_known_by_their_content(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "image", kind)
    (tmp_path / "text").write_text("BMW is a car")
    assert [path.name for path in list_images(tmp_path)] == ["image"]


def test_many_suffixes_take_no_memory() -> None:
    skipped = SkippedFiles(f"a.{number}" for number in range(1000))
    assert str(skipped) == "1,000 files (1 .0, 1 .1, 1 .2, 1 .3, 1 .4, 1 .5, 994 others)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert list(list_images(tmp_path)) == []
