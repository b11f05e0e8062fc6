"""Corruptions of benchmarks/corruptions.py: hand-made cases, no change at 0, the more the stronger; and shift.py."""

import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import write_classes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULE: Mapping[str, Any] = runpy.run_path(str(BENCHMARKS / "corruptions.py"))
CORRUPTIONS = MODULE["CORRUPTIONS"]
PIXELS = np.random.default_rng(1).integers(20, 236, (6, 8, 3)).repeat(5, 0).repeat(5, 1).astype(np.uint8)
GRADIENT = np.stack([np.add.outer(np.arange(30), np.arange(40) * 2)] * 3, -1).astype(np.uint8)

SMOOTH = MODULE["to_uint8"](
    MODULE["smooth_noise"](60, 80, np.random.default_rng(2))[..., None].repeat(3, 2) * [0.9, 0.8, 0.3]
)


def change(kind: str, amount: float, pixels: np.ndarray = PIXELS, seed: int = 0) -> Any:
    return CORRUPTIONS[kind].apply(pixels, amount, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[:1, :1], np.zeros((7, 5, 3), np.uint8)])
def test_shape_and_type_stay(kind: str, pixels: np.ndarray) -> None:
    for amount in CORRUPTIONS[kind].amounts:
        changed = change(kind, amount, pixels)
        assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_amount_of_0_changes_nothing(kind: str) -> None:
    before = PIXELS.copy()
    assert np.array_equal(change(kind, 0), before)
    change(kind, CORRUPTIONS[kind].amounts[2])
    assert np.array_equal(PIXELS, before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_equal_seeds_give_equal_pixels_and_stronger_ones_differ_more(kind: str) -> None:
    pixels = {"stretch": GRADIENT, "zoom": GRADIENT}.get(kind, SMOOTH)
    distances = []
    for amount in CORRUPTIONS[kind].amounts:
        changed = change(kind, amount, pixels, seed=3)
        assert np.array_equal(changed, change(kind, amount, pixels, seed=3))
        distances.append(np.abs(changed - pixels.astype(float)).mean())
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("kind", ["gaussian noise", "shot noise", "motion blur", "fog", "zoom"])
def test_other_seeds_give_other_pixels(kind: str) -> None:
    amount = CORRUPTIONS[kind].amounts[1]
    assert not np.array_equal(change(kind, amount, seed=1), change(kind, amount, seed=2))


def test_moments_of_noise() -> None:
    gray = np.full((200, 200, 3), 102, np.uint8)  # 0.4
    gaussian = change("gaussian noise", 0.08, gray) / 255
    assert gaussian.mean() == pytest.approx(0.4, abs=0.002)
    assert gaussian.std() == pytest.approx(0.08, abs=0.002)
    shot = change("shot noise", 1 / 60, gray) / 255  # of 24 photons: a standard deviation of sqrt(24) / 60
    assert shot.mean() == pytest.approx(0.4, abs=0.002)
    assert shot.std() == pytest.approx(24**0.5 / 60, abs=0.002)


def test_blur_of_a_point() -> None:
    """A radius of 1 pixel: half of the rim counts, at distance 1; nothing beyond."""
    point = np.zeros((10, 10, 3), np.uint8)
    point[5, 5] = 250
    blurred = change("defocus", 0.1, point)[..., 0]
    assert blurred[5, 5] == round(250 * 1 / (1 + 4 * 0.5 + 4 * (1.5 - 2**0.5)))
    assert blurred[4, 5] == blurred[5, 6] == round(250 * 0.5 / (1 + 4 * 0.5 + 4 * (1.5 - 2**0.5)))
    assert not blurred[:4].any()
    assert not blurred[:, 7:].any()


def test_motion_blur_keeps_what_is_uniform_along_it() -> None:
    assert np.array_equal(change("motion blur", 0.1, np.full((9, 9, 3), 77, np.uint8)), np.full((9, 9, 3), 77))
    line = np.zeros((21, 21, 3), np.uint8)
    line[10] = 200
    assert change("motion blur", 0.1, line).max() < 200


@pytest.mark.parametrize(
    ("kind", "amount", "pixels", "expected"),
    [
        ("pixelate", 0.5, [[[0] * 3, [100] * 3], [[40] * 3, [60] * 3]], [[[50] * 3, [50] * 3], [[50] * 3, [50] * 3]]),
        ("contrast", 0.5, [[[0, 10, 20], [100, 10, 40]]], [[[25, 10, 25], [75, 10, 35]]]),
        ("brightness", 0.2, [[[100, 50, 0], [0, 0, 0], [255, 51, 0]]], [[[151, 76, 0], [51, 51, 51], [255, 51, 0]]]),
        ("gray", 1.0, [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], [[[76] * 3, [150] * 3, [29] * 3]]),
        ("gray", 0.5, [[[200, 100, 0]]], [[[159, 109, 59]]]),
    ],
)
def test_by_hand(kind: str, amount: float, pixels: list[object], expected: list[object]) -> None:
    assert change(kind, amount, np.array(pixels, np.uint8)).tolist() == expected


def test_fog_of_a_uniform_image_lies_between_both_ends() -> None:
    """(0.6 + amount * fog) * 0.6 / (0.6 + amount), with fog from 0 to 1."""
    fogged = change("fog", 1.4, np.full((40, 50, 3), 153, np.uint8))
    assert (fogged.min(), fogged.max()) == (round(255 * 0.6 * 0.6 / 2.0), 153)


@pytest.mark.parametrize(
    ("kind", "amount", "size"), [("stretch", 1.0, {(30, 20), (15, 40)}), ("zoom", 0.5, {(15, 20)})]
)
def test_stretch_and_zoom_show_a_part(
    monkeypatch: pytest.MonkeyPatch, kind: str, amount: float, size: set[tuple[int, int]]
) -> None:
    """Boxes lie in the image; the center stays the center of what is stretched."""
    boxes: list[tuple[float, ...]] = []
    resize: Callable[..., Image.Image] = Image.Image.resize

    def listen(image: Image.Image, *arguments: object, box: tuple[float, ...]) -> Image.Image:
        boxes.append(box)
        return resize(image, *arguments, box=box)

    monkeypatch.setattr(Image.Image, "resize", listen)
    for seed in range(20):
        change(kind, amount, GRADIENT, seed)
    assert {(round(lower - upper), round(right - left)) for left, upper, right, lower in boxes} == size
    assert all(0 <= left < right <= 40 and 0 <= upper < lower <= 30 for left, upper, right, lower in boxes)
    if kind == "stretch":
        assert {((left + right) / 2, (upper + lower) / 2) for left, upper, right, lower in boxes} == {(20, 15)}


def test_the_benchmark_prints_a_row_per_model(tiny_model: Path, tmp_path: Path) -> None:
    """The same images are corrupted in the same way, whichever are chosen."""
    data = write_classes(tmp_path / "whole", 3)
    other = tmp_path / "other"
    (other / "images").mkdir(parents=True)
    file = min(data.rglob("*.png"))
    (other / "images" / "a.png").write_bytes(file.read_bytes())
    (other / "labels.csv").write_text(f"image,labels\na.png,{file.parent.name}\n")
    command = [sys.executable, str(BENCHMARKS / "shift.py"), str(tiny_model), str(tiny_model), "--data", str(data)]
    outputs = []
    for number, name in ((4, "few"), (9, "all")):
        options = ["--images", str(number), "--drawn", "0", "--other", str(other), "--write", str(tmp_path / name)]
        outputs.append(subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout)
    assert "| model | clean (4) | other source (1) | corrupted | shift |" in outputs[0]
    assert all(f"\n| {kind} | " in outputs[1] for kind in CORRUPTIONS)
    few, whole = (
        {path.relative_to(folder): path for path in folder.rglob("*.png")}
        for folder in (tmp_path / "few", tmp_path / "all")
    )
    assert len(few) == 4 * 3 * len(CORRUPTIONS)
    assert all(few[name].read_bytes() == whole[name].read_bytes() for name in few)
