"""Near duplicates: copies are found, and pages of one layout with other words are none."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from belvedere.auditing.image_statistics import read_statistics
from belvedere.data.array_cache import CachedArray
from belvedere.data.near_duplicates import search
from belvedere.data.near_duplicates.confirmation import (
    MAX_MISMATCH,
    detail_size,
    dominant_chroma,
    have_other_colors,
    local_mismatches,
    pyramid,
)
from belvedere.data.near_duplicates.descriptors import WHOLE, make_thumbnails
from belvedere.data.near_duplicates.search import Candidates, find_near_duplicates
from belvedere.images.gray import to_gray
from belvedere.images.resize import resize_image
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess
from textures import draw_texture

WORDS = ("alpha", "beta", "gamma", "delta", "total", "paid", "ship", "order", "claim", "name", "street", "amount")


def draw_page(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    page = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((8, 8, 248, 40), "#4060a0")
    for row in range(8):
        draw.text((12, 52 + 24 * row), " ".join(random.choice(WORDS, 4)), "black", ImageFont.load_default(13))
    return page


def read_thumbnails(paths: list[Path]) -> NDArray[np.uint8]:
    return np.stack([thumbnail for _, thumbnail in read_statistics(paths)])


def mismatch(first: Image.Image, second: Image.Image, *, mirrored: bool = False) -> float:
    images = [[each[None] for each in pyramid(np.asarray(image.convert("L")), 256)] for image in (first, second)]
    windows = np.array([WHOLE.window], np.float32)
    [found] = local_mismatches(images[0], images[1], windows, np.array([mirrored])).tolist()
    return float(found)


def test_one_other_word_is_a_mismatch_and_brightness_a_crop_and_a_mirror_are_none() -> None:
    page, other = draw_page(0), draw_page(0)
    ImageDraw.Draw(other).rectangle((12, 148, 110, 168), "white")
    ImageDraw.Draw(other).text((12, 148), "nothing else", "black", ImageFont.load_default(13))
    assert mismatch(page, page) < 0.001
    assert mismatch(page, page.point(lambda level: round(0.8 * level))) < 0.05
    assert mismatch(page, page.crop((3, 2, 252, 253)).resize((256, 256))) < MAX_MISMATCH
    assert mismatch(page.crop((3, 2, 252, 253)).resize((256, 256)), page) < MAX_MISMATCH
    assert mismatch(page, page.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored=True) < 0.001
    assert mismatch(page, other) > MAX_MISMATCH


def test_pairs_are_compared_alike_alone_and_together() -> None:
    """Some end at the first size, some are mirrored, and the larger view is the first or the second."""
    page, other = draw_page(0), draw_page(1)
    crop = page.crop((9, 6, 250, 247)).resize((256, 256))
    firsts = [page, page, crop, page.transpose(Image.Transpose.FLIP_LEFT_RIGHT), page]
    seconds = [other, crop, page, page, page]
    mirrored = [False, False, False, True, False]
    stacks = [
        [
            np.stack(level)
            for level in zip(*(pyramid(np.asarray(each.convert("L")), 256) for each in images), strict=True)
        ]
        for images in (firsts, seconds)
    ]
    windows = np.tile(np.array(WHOLE.window, np.float32), (5, 1))
    found = local_mismatches(stacks[0], stacks[1], windows, np.array(mirrored)).tolist()
    alone = [mismatch(*pair, mirrored=flag) for *pair, flag in zip(firsts, seconds, mirrored, strict=True)]
    assert found == pytest.approx(alone, abs=1e-3)
    assert [value <= MAX_MISMATCH for value in found] == [False, True, True, True, True]


@pytest.mark.parametrize(("side", "size"), [(20, 64), (64, 64), (90, 80), (150, 128), (500, 448), (4000, 512)])
def test_details_are_compared_at_the_shorter_side_in_whole_blocks(side: int, size: int) -> None:
    assert detail_size(side, side + 30) == detail_size(side + 30, side) == size


def test_copies_are_found_and_no_other_pages(tmp_path: Path) -> None:
    pages = [draw_page(number) for number in range(8)]
    pages[3].save(tmp_path / "8.jpg", quality=80)
    pages[5].resize((100, 100)).save(tmp_path / "a.png")  # compared at another size
    for number, page in enumerate(pages):
        page.save(tmp_path / f"{number}.png")
    Image.fromarray(draw_texture(1, moss=True)).save(tmp_path / "9.png")
    paths = sorted(tmp_path.iterdir())
    thumbnails = cast(CachedArray, read_thumbnails(paths))
    pairs = find_near_duplicates(paths, thumbnails, Progress())
    assert {(pair.first, pair.second) for pair in pairs} == {(3, 8), (5, 10)}


def test_pairs_are_aligned_if_they_are_similar_up_to_a_shift_or_have_a_high_cosine() -> None:
    random = np.random.default_rng(0)
    image, other = (np.kron(random.integers(0, 256, (20, 20)), np.ones((2, 2))) for _ in range(2))
    cases = [  # second image, cosine, aligned
        (image[4:36, 4:36], 0.83, True),
        (image[8:40, 2:34], 0.83, True),  # shifted by two halved pixels, and by one
        (image[4:36, 35:3:-1], 0.83, False),
        (other[4:36, 4:36], 0.83, False),
        (other[4:36, 4:36], 0.95, True),
    ]
    firsts = np.stack([image[4:36, 4:36] for _ in cases]).astype(np.float32)
    seconds = np.stack([case[0] for case in cases]).astype(np.float32)
    rows, cosines = np.arange(len(cases)), np.array([case[1] for case in cases], np.float32)
    candidates = Candidates(rows, rows, np.zeros_like(rows), cosines)
    assert search._may_be_alike(firsts, seconds, candidates).tolist() == [case[2] for case in cases]


def test_a_chunk_without_similar_pairs_is_empty() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32), np.uint8)
    candidates = Candidates(np.array([0, 1]), np.array([2, 3]), np.zeros(2, np.intp), np.full(2, 0.83, np.float32))
    rows, windows = search._compare_chunk(np.arange(2), candidates, cast(CachedArray, images))
    assert (rows.shape, windows.shape) == ((0,), (0, 4))


def draw_product(color: tuple[int, int, int]) -> Image.Image:
    """Return a bottle of one color on white."""
    image = Image.new("RGB", (150, 150), "white")
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((45, 50, 105, 140), 12, fill=color)
    draw.rectangle((65, 15, 85, 50), fill=color)
    draw.rectangle((50, 80, 100, 105), fill="white")
    return image


def test_products_of_other_colors_are_no_copies_and_darker_or_gray_ones_are(tmp_path: Path) -> None:
    red = draw_product((200, 40, 50))
    images = [red, draw_product((20, 90, 180)), red.point(lambda value: value * 0.8), red.convert("L")]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    thumbnails = read_thumbnails(paths)
    pairs = {
        (pair.first, pair.second) for pair in find_near_duplicates(paths, cast(CachedArray, thumbnails), Progress())
    }
    assert pairs >= {(0, 2), (0, 3)} and (0, 1) not in pairs


def test_dominant_chroma_by_hand() -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:, :32] = (228, 128, 128)  # luminance 157.9
    np.testing.assert_allclose(dominant_chroma(pixels), [70.1, -29.9], atol=2)
    assert np.linalg.norm(dominant_chroma(np.full((64, 64, 3), 90, np.uint8))) < 1e-3


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        ((20, 0), (0, 20), True),
        ((20, 0), (14, 14), False),
        ((20, 0), (-14.9, 0), False),  # nearly gray
        ((20, 0), (-15, 0), True),
        ((20, 0), (15, 25.9), False),  # 60 degrees at most
        ((20, 0), (15, 26.1), True),
    ],
)
def test_colors_differ_from_60_degrees(first: tuple[float, float], second: tuple[float, float], other: bool) -> None:
    assert have_other_colors(np.array(first, np.float32), np.array(second, np.float32)) == other


@pytest.mark.parametrize(("height", "width"), [(128, 96), (32, 32), (20, 50), (1, 128)])
def test_thumbnails_are_scaled_as_pillow_does(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3)).astype(np.uint8)
    found = make_thumbnails(to_gray(images))
    assert found.shape == (3, 32, 32)
    assert found.dtype == np.uint8
    for image, thumbnail in zip(images, found, strict=True):
        expected = to_gray(resize_image(image, Preprocess(32, 32)))
        assert np.abs(expected - thumbnail).max() < 2  # Pillow rounds rows and columns
