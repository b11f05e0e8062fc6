"""Random changes of the images of a batch."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from belvedere.training.augment import (
    MEAN,
    CropBoxes,
    augment,
    crop_resize,
    crop_resize_batched,
    crop_resize_each,
    mixup_or_cutmix,
    resize,
    resize_batch,
    sample_crops,
)
from belvedere.training.recipes import RECIPES, Recipe
from crop_boxes import full_boxes

PLAIN = replace(RECIPES["quick"], crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), alternating_flip=False)
CROPS = replace(PLAIN, crop_scale=(0.1, 1.0), crop_ratio=(0.5, 2.0))
ALL = replace(CROPS, color_jitter=0.3, cutout_prob=0.5)


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8))


def box_at(top: float, left: float, height: float, width: float, mirrored: list[bool]) -> CropBoxes:
    """The same box in each image."""
    ones = np.ones(len(mirrored))
    return CropBoxes(top * ones, left * ones, height * ones, width * ones, np.array(mirrored))


def by_pillow(image: Tensor, side: int, box: tuple[float, float, float, float] | None = None) -> NDArray[np.float64]:
    """Channel by channel in float, without Pillow's rounding: (3, side, side)."""
    channels = [Image.fromarray(channel) for channel in image.numpy().astype(np.float32).transpose(2, 0, 1)]
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(channel.resize((side, side), bilinear, box)) for channel in channels])


CROP_FUNCTIONS = pytest.mark.parametrize("crop", [crop_resize_each, crop_resize_batched])
Crop = Callable[[Tensor, CropBoxes, int, torch.dtype], Tensor]


@pytest.mark.parametrize(("height", "width", "side"), [(48, 48, 32), (40, 70, 16), (20, 20, 48), (150, 150, 64)])
def test_the_whole_image_is_scaled_as_pillow_does(height: int, width: int, side: int) -> None:
    images = random_images(3, height, width)
    boxes = full_boxes(images)
    found, exact = (crop(images, boxes, side, torch.float32) for crop in (crop_resize_each, crop_resize_batched))
    assert torch.equal(resize_batch(images, side), found)
    assert torch.allclose(resize(images.float(), side), exact, atol=0.02)  # as on a GPU
    assert found.shape == exact.shape == (3, 3, side, side)
    for image, scaled, unrounded in zip(images, found, exact, strict=True):
        assert np.abs(by_pillow(image, side) - unrounded.numpy()).max() < 0.02
        assert np.abs(by_pillow(image, side) - scaled.numpy()).max() < 1.5  # rows and columns are each rounded


@pytest.mark.parametrize(("num_threads", "expected"), [(4, crop_resize_each), (5, crop_resize_batched)])
def test_crops_are_resized_one_by_one_with_few_threads(
    num_threads: int, expected: Crop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    images, box = random_images(2, 40, 60), box_at(6.5, 12.25, 24, 32, [False, True])
    found = crop_resize(images, box, 16, torch.float32)
    assert torch.equal(found, expected(images, box, 16, torch.float32))


@CROP_FUNCTIONS
def test_a_box_is_cut_where_it_lies(crop: Crop) -> None:
    images = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    images[0, 10:30, 4:24] = torch.tensor([200, 100, 50], dtype=torch.uint8)
    inside = crop(images, box_at(10, 4, 20, 20, [False]), 10, torch.float32)[0, :, 1:-1, 1:-1]
    assert torch.allclose(inside, torch.tensor([200.0, 100, 50])[:, None, None].expand_as(inside), atol=1e-3)


def test_matrix_products_cut_between_pixels() -> None:
    """Edges differ: Pillow sees only the box, we see what lies around it; inside both are the same."""
    random = random_images(1, 40, 60)
    box = box_at(6.5, 12.25, 24, 32, [False])
    found = crop_resize_batched(random, box, 16, torch.float32)[0, :, 2:-2, 2:-2].numpy()
    expected = by_pillow(random[0], 16, (12.25, 6.5, 44.25, 30.5))[:, 2:-2, 2:-2]
    assert np.abs(found - expected).max() < 0.02


def test_single_crops_lie_at_the_nearest_whole_pixels() -> None:
    random = random_images(1, 40, 60)
    found = crop_resize_each(random, box_at(6.4, 12.25, 24.2, 31.5, [False]), 16, torch.float32)
    assert torch.equal(found, resize_batch(random[:, 6:31, 12:44], 16))
    last = crop_resize_each(random, box_at(39.7, 59.4, 0.2, 0.2, [False]), 16, torch.float32)
    assert torch.equal(last, random[0, 39, 59].float().view(1, 3, 1, 1).expand(1, 3, 16, 16))  # never empty


@CROP_FUNCTIONS
def test_mirrored_is_the_mirror_image_and_of_the_chosen_only(crop: Crop) -> None:
    images = random_images(2, 30, 40)
    boxes, straight = (box_at(3, 7, 20, 24, mirrored) for mirrored in ([False, True], [False, False]))
    found, expected = (crop(images, chosen, 16, torch.float32) for chosen in (boxes, straight))
    assert torch.equal(found[0], expected[0])
    assert torch.allclose(found[1], expected[1].flip(2), atol=1e-4)
    assert not torch.allclose(found[1], expected[1], atol=1)


@CROP_FUNCTIONS
def test_bytes_are_exact_in_bfloat16(crop: Crop) -> None:
    images = random_images(2, 32, 32)
    found = crop(images, full_boxes(images), 32, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.float(), images.permute(0, 3, 1, 2).float())


@pytest.mark.parametrize(("height", "width"), [(150, 150), (40, 100), (100, 30)])
def test_boxes_lie_within_the_image_and_are_as_large_as_requested(height: int, width: int) -> None:
    boxes = sample_crops(np.zeros(2000, bool), height, width, CROPS, np.random.default_rng(0))
    assert boxes.top.min() >= 0
    assert boxes.left.min() >= 0
    assert (boxes.top + boxes.height).max() <= height + 1e-9
    assert (boxes.left + boxes.width).max() <= width + 1e-9
    areas = boxes.height * boxes.width / (height * width)
    assert areas.max() <= 1 + 1e-9
    assert areas.min() >= 0.1 / 2  # one that is too long for the image loses at most its ratio
    assert areas.mean() == pytest.approx(0.55, abs=0.05)
    ratios = boxes.width / boxes.height / (width / height)
    assert (ratios.min(), ratios.max()) == (pytest.approx(0.5, abs=0.02), pytest.approx(2, abs=0.06))


def test_without_chance_the_image_is_only_scaled() -> None:
    images = random_images(4, 32, 32)
    found = augment(images, full_boxes(images), 32, PLAIN, np.random.default_rng(0), torch.float32)
    assert torch.allclose(found, images.permute(0, 3, 1, 2).float(), atol=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recipe", [PLAIN, CROPS, ALL], ids=["plain", "crops", "all"])
def test_what_comes_out_has_one_form(recipe: Recipe, precision: torch.dtype) -> None:
    images = random_images(5, 40, 48)
    before = images.clone()
    random = np.random.default_rng(0)
    boxes = sample_crops(np.ones(5, bool), 40, 48, recipe, random)
    found = augment(images, boxes, 32, recipe, random, precision)
    assert found.shape == (5, 3, 32, 32)
    assert found.dtype == precision
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.isfinite(found).all()
    assert torch.equal(images, before)


def test_the_generator_decides_it_all() -> None:
    images, mirrored = random_images(6, 40, 40), np.arange(6) % 2 == 0

    def draw(seed: int) -> Tensor:
        random = np.random.default_rng(seed)
        return augment(images, sample_crops(mirrored, 40, 40, ALL, random), 32, ALL, random, torch.float32)

    first, again, other = (draw(seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_colors_change_within_bounds_and_image_by_image() -> None:
    images = torch.full((200, 32, 32, 3), 115, dtype=torch.uint8)
    recipe = replace(PLAIN, color_jitter=0.5)
    found = augment(images, full_boxes(images), 32, recipe, np.random.default_rng(0), torch.float32)
    levels = found.mean((1, 2, 3))
    assert [float(levels.min()) - MEAN, float(levels.max()) - MEAN] == pytest.approx([-30, 30], abs=2)
    assert found.std((1, 2, 3)).max() < 1e-3  # a gray image stays of one gray


def test_a_fraction_of_the_images_gets_a_square() -> None:
    images = torch.full((1000, 16, 16, 3), 250, dtype=torch.uint8)
    recipe = replace(PLAIN, cutout_prob=0.3)
    found = augment(images, full_boxes(images), 32, recipe, np.random.default_rng(0), torch.float32)
    erased = (found == MEAN).all(1)
    sizes = erased.sum((1, 2))
    assert (sizes > 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert sizes.max() == 13 * 13  # 0.4 of the side
    assert sizes[sizes > 0].min() >= 7 * 7  # at a corner
    assert torch.allclose(found[~erased[:, None].expand_as(found)], torch.tensor(250.0), atol=1e-3)


def of_index(count: int = 4, side: int = 32) -> Tensor:
    """Each image is of one color: its number."""
    return torch.arange(float(count))[:, None, None, None].expand(count, 3, side, side).clone()


def test_a_batch_is_left_as_it_is_without_mixing() -> None:
    found, weight = mixup_or_cutmix(of_index(), PLAIN, np.random.default_rng(0))
    assert weight == 1
    assert torch.equal(found, of_index())


def test_a_mixture_counts_as_it_is_mixed() -> None:
    random = np.random.default_rng(0)
    recipe = replace(PLAIN, mixup_prob=0.999)
    for _ in range(20):
        found, weight = mixup_or_cutmix(of_index(), recipe, random)
        assert 0 <= weight <= 1
        expected = weight * of_index() + (1 - weight) * of_index().flip(0)
        assert torch.allclose(found, expected, atol=1e-5)


def test_a_pasted_rectangle_counts_by_its_area() -> None:
    random = np.random.default_rng(0)
    recipe = replace(PLAIN, cutmix_prob=0.999)
    for _ in range(50):
        found, weight = mixup_or_cutmix(of_index(), recipe, random)
        own = found == of_index()
        assert torch.equal(found[~own], of_index().flip(0)[~own])
        for image in own:
            assert image.float().mean().item() == pytest.approx(weight, abs=1e-6)
        pasted = (~own)[0, 0]
        rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
        assert pasted.sum() == rows * columns  # one rectangle


def test_so_many_batches_are_mixed_and_pasted() -> None:
    random = np.random.default_rng(0)
    recipe = replace(PLAIN, mixup_prob=0.3, cutmix_prob=0.2)
    ways = {"left": 0, "mixed": 0, "pasted": 0}
    for _ in range(1000):
        found, weight = mixup_or_cutmix(of_index(2, 16), recipe, random)
        if weight == 1 and torch.equal(found, of_index(2, 16)):
            ways["left"] += 1
        else:
            ways["pasted" if set(found.flatten().tolist()) <= {0.0, 1.0} else "mixed"] += 1
    assert ways["left"] / 1000 == pytest.approx(0.5, abs=0.08)  # a mixture or rectangle may be of nothing
    assert ways["pasted"] / 1000 == pytest.approx(0.2, abs=0.08)
    assert ways["mixed"] / 1000 == pytest.approx(0.3, abs=0.08)
