import numpy as np
import pytest

from belvedere.images.heatmap import overlay, softmax_over_classes, without_padding
from belvedere.types.model import Preprocess


def test_activation_is_shown_at_its_position() -> None:
    pixels = np.full((60, 90, 3), 120, np.uint8)
    evidence = np.zeros((2, 3), np.float32)
    evidence[1, 2] = 1

    shown = overlay(pixels, evidence)

    assert shown.shape == pixels.shape
    assert shown.dtype == np.uint8
    strong, weak = shown[50, 80].astype(int), shown[5, 5].astype(int)
    assert strong[0] - strong[2] > 80  # warm
    assert np.ptp(weak) < 20  # gray


# Gray of 120: the strongest evidence is 3/4 (255, 240, 120); evidence of 0.4 is 1/7 of the way from the second color,
# (190, 30, 90), to the third, (255, 130, 30), with the opacity 0.3, over a gray between 0.8 * 120 and 120.
@pytest.mark.parametrize(
    ("pixel", "evidence", "expected"),
    [
        ((120, 120, 120), 1.0, (221, 210, 120)),
        ((120, 120, 120), 0.4, (137, 91, 102)),
        ((120, 120, 120), 0.0, (104, 104, 104)),  # 96 + 0.35 * 24
        ((200, 100, 0), 0.0, (122, 87, 52)),  # 80 + 0.35 * (120, 20, -80)
        ((200, 100, 0), 1.0, (241, 205, 90)),
        ((200, 100, 0), 7.0, (241, 205, 90)),  # more than 1 is 1
        ((200, 100, 0), -7.0, (122, 87, 52)),
    ],
)
def test_colors_of_the_overlay(pixel: tuple[int, int, int], evidence: float, expected: tuple[int, int, int]) -> None:
    pixels = np.tile(np.array(pixel, np.uint8), (6, 9, 1))
    shown = overlay(pixels, np.full((2, 3), evidence, np.float32))
    assert (shown == expected).all()


def test_softmax_over_classes_sums_to_1_at_each_position() -> None:
    evidence = np.random.default_rng(0).normal(0, 5, (4, 3, 2)).astype(np.float32)

    probabilities = softmax_over_classes(evidence)

    assert probabilities.shape == evidence.shape
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)
    assert (probabilities.argmax(0) == evidence.argmax(0)).all()


def test_padding_of_a_letterboxed_image_is_cut_off() -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, 2:6, 4:] = 1  # the right half of an image that is twice as wide as high
    maps[1] = 1 - maps[0]
    cut = without_padding(maps, 50, 100, Preprocess(32, 32, "letterbox"))
    assert cut.shape == (2, 4, 8)
    assert (cut[0] == np.repeat([0.0, 1.0], 4)).all()
    assert (cut.sum(0) == 1).all()


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_other_rules_have_no_padding(resize: str) -> None:
    maps = np.zeros((2, 8, 8), np.float32)
    assert without_padding(maps, 50, 100, Preprocess(32, 32, resize)) is maps


def test_padding_thinner_than_a_position_is_cut_off() -> None:
    maps = np.arange(8, dtype=np.float32)[None, :, None].repeat(8, 2)
    cut = without_padding(maps, 90, 100, Preprocess(100, 100, "letterbox"))
    assert cut.shape == (1, 7, 8)
    assert cut[0, :, 0] == pytest.approx(cut[0, ::-1, 0][::-1])
    assert cut[0, 0, 0] > 0
    assert cut[0, -1, 0] < 7
