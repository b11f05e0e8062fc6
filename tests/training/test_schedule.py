"""Rates, sizes and batches over a training."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.training.recipes import RECIPES
from belvedere.training.schedule import (
    SIZE_MULTIPLE,
    BatchPlan,
    plan_batches,
    repeats_per_epoch,
    size_at,
    sizes_of,
    value_at,
)

RECIPE = replace(RECIPES["article"], epochs=3, batch_size=8)


def test_schedule_is_linear_between_points_and_constant_outside() -> None:
    plan = ((0.2, 1.0), (0.6, 3.0), (0.8, 0.0))
    places = 0, 0.2, 0.4, 0.6, 0.7, 0.8, 1
    assert [value_at(plan, place) for place in places] == pytest.approx([1, 1, 2, 3, 1.5, 0, 0])
    assert value_at(((0.0, 1.0),), 0.5) == 1


def test_image_sizes_are_multiples_of_the_stride() -> None:
    plan = ((0.0, 48.0), (1.0, 112.0))
    sizes = [size_at(plan, percent / 100) for percent in range(101)]
    assert (sizes[0], sizes[-1]) == (48, 112)
    assert sizes == sorted(sizes)
    assert {size % SIZE_MULTIPLE for size in sizes} == {0}
    assert size_at(((0.0, 0.0),), 0) == 2 * SIZE_MULTIPLE


@given(
    images=st.integers(2, 400),
    size=st.integers(2, 64),
    processes=st.integers(1, 4),
)
def test_every_image_is_in_one_batch_of_more_than_one(images: int, size: int, processes: int) -> None:
    steps = plan_batches(images, replace(RECIPE, batch_size=size), processes)
    rows = [row for first, behind in steps.bounds for row in range(first, behind)]
    assert rows == list(range(images))
    least = min(size, images, 2 * processes)
    assert all(least <= behind - first < size + 2 * processes for first, behind in steps.bounds)
    assert steps.total_steps == 3 * steps.steps_per_epoch
    assert steps.epochs == 3


@pytest.mark.parametrize(
    ("count", "sizes"), [(2, [2]), (8, [8]), (9, [9]), (10, [8, 2]), (17, [8, 9]), (25, [8, 8, 9])]
)
def test_batches_of_eight(count: int, sizes: list[int]) -> None:
    assert [behind - first for first, behind in plan_batches(count, RECIPE).bounds] == sizes


@pytest.mark.parametrize(("images", "repeats"), [(3, 800), (24, 100), (240, 10), (2_400, 1), (10_000, 1)])
def test_few_images_are_shown_several_times(images: int, repeats: int) -> None:
    recipe = replace(RECIPE, batch_size=8, epochs=3, min_steps=900)
    assert repeats_per_epoch(images, recipe) == repeats
    if repeats > 1:
        assert plan_batches(images * repeats, recipe).total_steps == 900
    assert repeats_per_epoch(images, replace(recipe, min_steps=0)) == 1


@pytest.mark.parametrize(
    ("min_steps", "repeats"),
    [(0, 1), (1, 1), (375, 1), (562, 1), (563, 2), (750, 2), (937, 2), (938, 3), (1312, 3), (1313, 4)],
)
def test_repeats_are_rounded_to_the_nearest(min_steps: int, repeats: int) -> None:
    """1,000 images in batches of 8 are 125 steps an epoch, 375 in three."""
    recipe = replace(RECIPE, batch_size=8, epochs=3, min_steps=min_steps)
    assert repeats_per_epoch(1000, recipe) == repeats


@given(st.integers(1, 500), st.integers(2, 64), st.integers(1, 30), st.integers(0, 2000))
def test_steps_are_near_the_minimum(images: int, batch_size: int, epochs: int, min_steps: int) -> None:
    recipe = replace(RECIPE, batch_size=batch_size, epochs=epochs, min_steps=min_steps)
    repeats = repeats_per_epoch(images, recipe)
    seen, needed = epochs * repeats * images, min_steps * batch_size
    assert repeats == 1 or abs(seen - needed) <= epochs * images / 2
    assert seen >= needed - epochs * images / 2


def test_values_and_positions_of_a_schedule_go_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        value_at(((0.0, 1.0), (1.0,)), 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "size"), [(1, 32), (40, 32), (40.1, 48), (55.9, 48), (56.1, 64), (104, 96), (111, 112)]
)
def test_size_is_rounded_to_a_multiple_of_16(value: float, size: int) -> None:
    assert size_at(((0.0, value),), 0.3) == size


def test_sizes_of_a_schedule() -> None:
    assert sizes_of(((0.0, 48), (0.8, 96))) == {48, 64, 80, 96}
    assert sizes_of(((0.0, 48), (1.0, 60))) == {48, 64}  # 64 at the very end
    assert sizes_of(()) == set()


def test_images_seen_are_cumulative() -> None:
    steps = BatchPlan(((0, 8), (8, 16), (16, 25)), 7)
    assert [steps.images_seen(step) for step in range(8)] == [0, 8, 16, 25, 33, 41, 50, 58]
    assert (steps.steps_per_epoch, steps.epochs) == (3, 3)  # the third is not whole
