import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.near_duplicates.alignment import high_pass
from belvedere.data.near_duplicates.shifts import find_shifted_pairs, shifted_correlation
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample


def scene(seed: int) -> Image.Image:
    few = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((120, 120), Image.Resampling.BICUBIC)


def read(folder: Path, images: list[Image.Image]) -> HashedSamples:
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return hash_samples([Sample(path, path.name, "a", None) for path in paths], Progress())


def pairs_of(contents: HashedSamples, sides: list[bool] | None = None) -> set[tuple[int, ...]]:
    return {tuple(sorted(pair)) for pair in find_shifted_pairs(contents, Progress(), sides).tolist()}


def test_shots_of_a_scene_are_pairs(tmp_path: Path) -> None:
    first, second = scene(0), scene(1)
    images = [
        first.crop((0, 0, 104, 104)),
        ImageEnhance.Brightness(first.crop((4, 3, 108, 107))).enhance(1.1),
        ImageOps.mirror(first.crop((2, 2, 106, 106))),
        second.crop((0, 0, 104, 104)),
        second.crop((3, 2, 107, 106)).resize((60, 60)),
        *(scene(seed).crop((0, 0, 104, 104)) for seed in range(2, 12)),
    ]
    assert pairs_of(read(tmp_path, images)) == {(0, 1), (0, 2), (1, 2), (3, 4)}


def test_only_pairs_across_sides(tmp_path: Path) -> None:
    images = [scene(0).crop((shift, 0, shift + 104, 104)) for shift in (0, 2, 4)]
    contents = read(tmp_path, images)
    assert pairs_of(contents, [True, True, False]) == {(0, 2), (1, 2)}
    assert pairs_of(contents, [True, True, True]) == set()


def test_unreadable_uniform_and_identical_images_are_in_no_pair(tmp_path: Path) -> None:
    contents = read(tmp_path, [scene(0), scene(0), Image.new("RGB", (50, 50)), Image.new("RGB", (40, 40))])
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = hash_samples([Sample(tmp_path / "bad.png", "bad.png", "a", None)], Progress())
    everything = HashedSamples(contents.samples + bad.samples, contents.hashes + bad.hashes)
    assert pairs_of(everything) == set()
    assert pairs_of(everything.select([0])) == set()
    assert pairs_of(everything.select([])) == set()


def test_correlation_is_that_of_the_overlap() -> None:
    random = np.random.default_rng(0)
    large: NDArray[np.float32] = random.normal(size=(3, 40, 40)).astype(np.float32)
    first, second = high_pass(large[:, :32, :32]), high_pass(large[:, 3:35, 5:37])
    assert (shifted_correlation(first, second) > 0.85).all()
    assert (shifted_correlation(first, np.roll(second, 1, 0)) < 0.3).all()
    np.testing.assert_allclose(shifted_correlation(first, first), 1, atol=1e-5)


def test_correlation_is_the_highest_of_all_shifts_computed_one_by_one() -> None:
    first, second = (high_pass(np.random.default_rng(seed).random((2, 32, 32), np.float32)) for seed in (1, 2))
    shifts = range(-5, 6)
    for one, other, found in zip(first, second, shifted_correlation(first, second), strict=True):
        values = []
        for down, across in itertools.product(shifts, shifts):
            a = one[max(0, down) : 32 + down, max(0, across) : 32 + across]
            b = other[max(0, -down) : 32 - down, max(0, -across) : 32 - across]
            values.append((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
        assert found == pytest.approx(max(values), abs=1e-5)
