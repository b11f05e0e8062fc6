"""Manifests: what differs from them is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from belvedere.fetching.manifest import (
    ListedImage,
    Manifest,
    compare_with_manifest,
    list_pixels,
    read_manifest,
    write_manifest,
)
from belvedere.fetching.registry import read_registry
from belvedere.images.decode import DECODER_VERSION
from belvedere.runtime.progress import Progress
from conftest import write_classes, write_image

IMAGES = tuple(
    ListedImage(split, label, f"{split}{label}{number}", f"{split[:2]}{label}{number}")
    for split in ("train", "test")
    for label in ("sea", "ice")
    for number in range(3)
)
WHOLE = Manifest(IMAGES, {"train": 6, "test": 6})


def differences(found: list[ListedImage], manifest: Manifest = WHOLE) -> dict[str, tuple[str, ...]]:
    compared = compare_with_manifest(found, manifest)
    assert compared.num_listed == len(manifest.images)
    names = ("missing", "extra", "other_label", "other_split", "other_pixels", "unlisted", "unreadable")
    found_names = {name: getattr(compared, name) for name in names}
    return {name: value for name, value in found_names.items() if value}


def test_the_same_images_under_other_names() -> None:
    found = [replace(image, stem=str(number)) for number, image in enumerate(reversed(IMAGES))]
    assert differences(found) == {}
    assert compare_with_manifest(found, WHOLE).num_same == 12


def test_missing_and_extra_images() -> None:
    extra = ListedImage("train", "sea", "new", "new")
    assert differences([*IMAGES[1:], extra]) == {"missing": (str(IMAGES[0]),), "extra": (str(extra),)}
    assert compare_with_manifest([*IMAGES[1:], extra], WHOLE).num_same == 11


def test_another_label_and_another_split() -> None:
    relabeled, moved = replace(IMAGES[0], label="ice"), replace(IMAGES[1], split="test")
    assert differences([relabeled, moved, *IMAGES[2:]]) == {
        "other_label": (f"{relabeled} (listed as sea)",),
        "other_split": (f"{moved} (listed in train)",),
    }


def test_images_that_were_encoded_again() -> None:
    found = [replace(image, pixel_hash=f"new{image.pixel_hash}") for image in IMAGES]
    assert differences(found) == {"other_pixels": tuple(map(str, IMAGES))}
    found[0] = replace(found[0], label="ice")
    assert differences(found)["other_label"] == (f"{found[0]} (listed as sea)",)
    assert len(differences(found)["other_pixels"]) == 12


def test_unreadable_images() -> None:
    damaged = replace(IMAGES[0], pixel_hash="")
    assert differences([damaged, *IMAGES[1:]]) == {"unreadable": (str(damaged),)}


def test_images_of_a_split_that_is_listed_in_part() -> None:
    extra = ListedImage("test", "sea", "new", "new")
    assert differences([*IMAGES, extra], Manifest(IMAGES, {"train": 6, "test": 7})) == {"unlisted": (str(extra),)}


def test_identical_images_with_different_labels() -> None:
    """As in the Intel scenes: each of them counts."""
    twins = (ListedImage("train", "sea", "1", "same"), ListedImage("train", "ice", "2", "same"))
    manifest = Manifest(twins, {"train": 2})
    assert differences(list(twins), manifest) == {}
    assert differences([twins[0]], manifest) == {"missing": (str(twins[1]),)}
    assert differences([twins[0], twins[0]], manifest) == {"other_label": ("train/sea/1 (listed as ice)",)}


def test_warnings_count_and_name() -> None:
    compared = compare_with_manifest(IMAGES[2:], WHOLE)
    [warning] = compared.warnings()
    assert warning.message.startswith("2 images missing")
    assert warning.names == compared.missing


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = ListedImage("train", "sea ice", "a b [1]", "hash")
    manifest = Manifest((*IMAGES, odd), {"train": 7, "test": 9})
    write_manifest(tmp_path / "manifest.txt", manifest)
    read = read_manifest(tmp_path / "manifest.txt")
    assert sorted(map(repr, read.images)) == sorted(map(repr, manifest.images))
    assert read.num_images == manifest.num_images
    assert [read.is_whole(split) for split in ("train", "test", "val")] == [True, False, True]


def test_pixels_are_compared_and_not_files(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2)
    write_image(tmp_path / "unlabeled" / "1.png", "red")
    first = {str(image): image.pixel_hash for image in list_pixels(tmp_path, ("train", "test"), Progress())}
    assert len(first) == len(set(first.values())) == 6
    for path in [*tmp_path.rglob("train/*/*.png")]:
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert first == {str(image): image.pixel_hash for image in list_pixels(tmp_path, ("train",), Progress())}
    next(tmp_path.rglob("*.bmp")).write_bytes(b"BM\0")
    assert [image.pixel_hash for image in list_pixels(tmp_path, ("train",), Progress())].count("") == 1


@pytest.mark.parametrize("known", read_registry().values(), ids=lambda known: known.name)
def test_the_manifests_of_the_registry(known: object) -> None:
    path = getattr(known, "manifest")  # noqa: B009
    assert f"\ndecoder {DECODER_VERSION}\n" in path.read_text("utf-8"), "run tools/make_manifest.py"
    assert path.stat().st_size < 300_000


def test_the_manifest_of_the_intel_scenes() -> None:
    path = read_registry()["intel-scenes"].manifest
    assert path is not None
    manifest = read_manifest(path)
    assert manifest.num_images == {"train": 14_034, "test": 3000}
    assert manifest.is_whole("train")
    assert sum(image.split == "test" for image in manifest.images) == 1502
    assert len({image.label for image in manifest.images}) == 6
    assert len({image.stem for image in manifest.images}) == len(manifest.images)
    assert all(len(image.pixel_hash) == 8 for image in manifest.images)
