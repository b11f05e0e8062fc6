"""How copies are recognised: descriptors, cells of neighbors, alignment, groups."""

import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from belvedere.auditing import image_statistics
from belvedere.auditing.duplicates.groups import group_duplicates, list_issues, unique_images
from belvedere.auditing.image_statistics import CheckScore, ImageStatistics, extension_fits, read_statistics
from belvedere.data.near_duplicates.alignment import align, high_pass, similarity, warp
from belvedere.data.near_duplicates.ann_index import MIN_INDEXED, InvertedFileIndex
from belvedere.data.near_duplicates.descriptors import VIEWS, WHOLE, describe
from belvedere.data.near_duplicates.search import DuplicatePair
from belvedere.images.formats import detect_format
from belvedere.types.audit import DuplicateGroup
from belvedere.types.data import Sample
from textures import draw_texture


def thumb(pixels: NDArray[np.uint8], side: int = 32) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L").resize((side, side), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("place", range(len(VIEWS)))
def test_a_view_of_an_image_is_near_the_copy_that_shows_it(place: int) -> None:
    view, pixels = VIEWS[place], draw_texture(1, moss=False, width=200, height=200)
    top, left, size = (round(200 * fraction) for fraction in (view.top, view.left, view.size))
    part = pixels[top : top + size, left : left + size]
    copy = thumb(part[:, ::-1] if view.mirrored else part)
    [seen], [whole] = describe(thumb(pixels)[None], view), describe(copy[None])
    [other] = describe(thumb(draw_texture(2, moss=False, width=200, height=200))[None])
    assert seen @ whole > 0.97
    assert seen @ other < 0.8


def test_brightness_and_contrast_do_not_count_and_a_plain_image_is_near_nothing() -> None:
    image = thumb(draw_texture(1, moss=False))
    [one], [other] = describe(image[None]), describe((image // 2 + 40)[None])
    assert one @ other > 0.99
    assert not describe(np.full((1, 32, 32), 77, np.uint8)).any()


@pytest.mark.parametrize("count", [300, MIN_INDEXED + 500])
def test_neighbors_are_found_in_cells_as_among_all(count: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (count, 12)).astype(np.float32)
    vectors[count // 2 :] = vectors[: count - count // 2] + random.normal(0, 0.15, (count - count // 2, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = np.arange(count)
    queried, found, cosines = InvertedFileIndex(vectors).search(vectors, own, 1, 0.9)
    everything = vectors @ vectors.T
    np.fill_diagonal(everything, -1)
    expected = {row: int(everything[row].argmax()) for row in own if everything[row].max() >= 0.9}
    got = dict(zip(queried.tolist(), found.tolist(), strict=True))
    right = sum(got.get(row) == place for row, place in expected.items())
    assert right >= 0.98 * len(expected)
    assert (cosines >= 0.9).all()
    assert not (queried == found).any()


@given(st.floats(0.86, 1.0), st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 50))
def test_a_window_is_found_again(size: float, across: float, down: float, seed: int) -> None:
    whole = thumb(draw_texture(seed, moss=True, width=96, height=96), 48)[None].astype(np.float32)
    room = 1 - size
    window = np.array([[size, size, across * room, down * room]], np.float32)
    part = warp(whole, window) * 0.7 + 20  # darker and flatter
    begin = np.array([[0.95, 0.95, 0, 0]], np.float32)
    found = align(whole, part, begin, 25)
    assert np.abs(found - window).max() < 0.04
    assert similarity(warp(whole, found), high_pass(part))[0] > 0.8


def test_other_images_are_not_alike() -> None:
    images = np.stack([thumb(draw_texture(seed, moss=False)) for seed in range(20)]).astype(np.float32)
    windows = np.tile(np.array(WHOLE.window, np.float32), (19, 1))
    found = align(images[:-1], images[1:], windows, 8)
    assert similarity(warp(images[:-1], found), high_pass(images[1:])).max() < 0.5


def sample(name: str, label: str = "a", part: str | None = "train") -> Sample:
    return Sample(Path(name), name, label, part)


def test_chains_of_copies_are_one_group_with_their_identical_files() -> None:
    samples = [sample("0"), sample("1", "b"), sample("2"), sample("3", part="test"), sample("4")]
    keys = ["p", "q", "r", "p", "s"]
    measures = [
        ImageStatistics(sha, format="JPEG", pixels_hash=key.encode(), width=1, height=1)
        for sha, key in zip(("u", "v", "w", "u", "x"), keys, strict=True)
    ]
    assert unique_images(measures) == [0, 1, 2, 4]
    groups = group_duplicates(samples, measures, [DuplicatePair(0, 1, 0.9), DuplicatePair(1, 2, 0.8)])
    near = next(group for group in groups if group.kind == "near_duplicate")
    assert near.images == ("0", "1", "2", "3")
    assert near.similarity == 0.8
    assert near.is_split_leak
    assert near.has_conflicting_labels
    same = next(group for group in groups if group.kind == "duplicate_file")
    assert same.images == ("0", "3")
    assert not same.has_conflicting_labels
    listed = {(issue.image, issue.issue_type) for issue in list_issues(groups)}
    assert ("1", "conflicting_labels") in listed
    assert ("3", "split_leak") in listed
    assert not any(image == "4" for image, _ in listed)


def equal(count: int, reason: str = "") -> list[ImageStatistics]:
    return [ImageStatistics("same", reason, pixels_hash=b"same", width=1, height=1)] * count


def test_images_of_no_split_are_to_train_on_where_there_are_splits() -> None:
    def find(*parts: str) -> list[DuplicateGroup]:
        samples = [sample(str(number), part=part or None) for number, part in enumerate(parts)]
        return list(
            group_duplicates(samples, [*equal(2), *(ImageStatistics(str(n)) for n in range(2, len(parts)))], [])
        )

    assert not find("", "train")[0].is_split_leak
    assert find("", "test")[0].is_split_leak
    assert find("", "test")[0].splits == ("train", "test")
    assert find("", "")[0].splits == (None, None)
    assert not find("", "", "test")[0].is_split_leak


def test_identical_files_that_are_no_images_are_no_copies() -> None:
    samples = [sample("0"), sample("1", "b", "test")]
    assert group_duplicates(samples, equal(2, "is no image"), []) == ()


def test_sets_of_labels_contradict_and_not_their_order() -> None:
    first, second = Sample(Path("0"), "0", "sea", "", ("mountain",)), Sample(Path("1"), "1", "mountain", "", ("sea",))
    [group] = group_duplicates([first, second], equal(2), [])
    assert not group.has_conflicting_labels
    assert {issue.issue_type for issue in list_issues([group])} == {"duplicate_file"}
    [group] = group_duplicates([first, sample("1", "sea", "")], equal(2), [])
    assert group.has_conflicting_labels
    assert "labeled sea, copy of 0 (mountain|sea)" in {issue.message for issue in list_issues([group])}


def test_a_placeholder_that_is_there_many_times_takes_no_time() -> None:
    count = 20_000
    samples = [sample(f"{number:05}", "a" if number < count - 4 else "b") for number in range(count)]
    start = time.process_time()
    issues = list(list_issues(group_duplicates(samples, equal(count), [])))
    assert time.process_time() - start < 10  # all pairs would take minutes
    assert len(issues) == 2 * count
    details = {(issue.image, issue.issue_type): issue.message for issue in issues}
    assert details["00001", "duplicate_file"] == "copy of 00000, 00002, 00003 and 19996 more"
    assert details["00001", "conflicting_labels"] == "labeled a, copy of 19996 (b), 19997 (b), 19998 (b) and 1 more"
    assert details["19999", "conflicting_labels"] == "labeled b, copy of 00000 (a), 00001 (a), 00002 (a) and 19993 more"


@pytest.mark.parametrize(
    ("content", "suffix", "kind", "fits"),
    [
        (b"\xff\xd8\xff\xe0", ".JPG", "JPEG", True),
        (b"\x89PNG\r\n", ".jpg", "PNG", False),
        (b"RIFF\x00\x00\x00\x00WEBP", ".webp", "WebP", True),
        (b"\x00\x00\x00\x1cftypavif", ".png", "AVIF", False),
        (b"P6 1 1", ".ppm", "PPM", True),
        (b"BM\x3a\0\0\0\0\0\0\0", ".dib", "BMP", True),
        (b"BMW is a car", ".txt", "", True),
    ],
)
def test_kinds_are_reported_by_their_first_bytes(content: bytes, suffix: str, kind: str, fits: bool) -> None:
    assert detect_format(content) == kind
    assert extension_fits(kind, suffix) is fits


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    [(statistics, thumbnail)] = read_statistics([tmp_path / "gone.jpg"])
    assert statistics.error == "no such file"
    assert not statistics.readable
    assert not thumbnail.any()


def test_images_are_measured_alike_alone_and_in_a_chunk(tmp_path: Path) -> None:
    """Of several shapes, an unreadable one among them, with a check of pixels."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    shapes = [(40, 50), (300, 20), (1, 1), (40, 50), (9, 400), (40, 50), (1, 1), (300, 20)]
    for path, shape in zip(paths, shapes, strict=False):
        Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)).save(path)
    paths[8].write_bytes(b"no image")
    paths.insert(2, paths.pop())
    functions = {"mean": lambda pixels: CheckScore(float(pixels.mean()))}
    together = list(image_statistics._read_chunk(paths, functions))
    alone = [each for path in paths for each in read_statistics([path], functions)]
    assert [(each.width, each.height) for each, _ in together][:4] == [(50, 40), (20, 300), (0, 0), (1, 1)]
    for (one, thumbnail), (other, same) in zip(together, alone, strict=True):
        assert np.array_equal(thumbnail, same)
        for field in fields(ImageStatistics):
            value, expected = getattr(one, field.name), getattr(other, field.name)
            assert value == (pytest.approx(expected, rel=1e-5) if isinstance(value, float) else expected)


def test_the_thumbnail_of_a_strip_keeps_the_detail_of_its_shorter_side(tmp_path: Path) -> None:
    rows = np.where(np.arange(200) // 10 % 2, 200, 50).astype(np.uint8)  # 20 bars
    Image.fromarray(np.broadcast_to(rows[:, None, None], (200, 2000, 3)).copy()).save(tmp_path / "strip.png")
    [(_, thumbnail)] = read_statistics([tmp_path / "strip.png"])
    assert thumbnail.std(0).min() > 20  # 8 if the shorter side had 13 pixels
