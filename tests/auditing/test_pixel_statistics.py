"""Statistics of pixels, computed by hand, and of each image alone."""

import numpy as np
import pytest

from belvedere.auditing.pixel_statistics import (
    blur_effect,
    colorfulness,
    high_frequency_ratio,
    light_statistics,
    measure_pixels,
)
from belvedere.images.gray import to_gray


def rows(*values: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Images with 12 equal rows each."""
    return np.stack([np.tile(np.array(row, np.float32), (12, 1)) for row in values])


def test_blur_is_the_fraction_of_the_gradients_that_stays_after_a_moving_average() -> None:
    step, ramp, flat = [0.0] * 20 + [9.0] * 20, list(map(float, range(40))), [5.0] * 40
    assert blur_effect(rows(step, ramp, flat)) == pytest.approx([1 / 9, 1, 0])
    assert blur_effect(rows(step).swapaxes(1, 2)) == pytest.approx([0])  # no gradient along the other side
    assert blur_effect(np.ones((2, 20, 9), np.float32)) == pytest.approx([0, 0])  # no wider than the average


def test_light_of_black_and_white_and_of_one_gray() -> None:
    found = light_statistics(rows([0.0, 255.0] * 8, [102.0] * 16))
    assert {name: value.tolist() for name, value in found.items()} == {
        "p5": pytest.approx([0, 102 / 255]),
        "p95": pytest.approx([1, 102 / 255]),
        "contrast": pytest.approx([0.5, 0]),
        "entropy": pytest.approx([1, 0]),
    }


def test_colorfulness_is_the_mean_range_of_the_channels() -> None:
    images = np.zeros((2, 2, 1, 3), np.uint8)
    images[0, 0, 0], images[1] = (51, 0, 20), 77
    assert colorfulness(images) == pytest.approx([0.1, 0])


def test_high_frequencies_are_compared_with_those_below() -> None:
    fine, coarse = (100 + 50 * np.cos(2 * np.pi * cycles * np.arange(40)) for cycles in (0.4, 0.2))
    found = high_frequency_ratio(np.stack([np.tile(wave.astype(np.float32), (40, 1)) for wave in (fine, coarse)]))
    assert found[0] > 2
    assert found[1] < -2
    assert high_frequency_ratio(np.ones((1, 31, 40), np.float32)).tolist() == [0]


def test_an_image_is_measured_alike_alone_and_among_others() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    together = measure_pixels(images, to_gray(images), images)
    alone = [measure_pixels(image[None], to_gray(image[None]), image[None])[0] for image in images]
    assert [each.keys() for each in together] == [each.keys() for each in alone]
    for one, other in zip(together, alone, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-5)
