"""Weak slices: found where the accuracy is lower, and not found where it is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.evaluation.weak_slices.attributes import ImageAttributes, read_attributes
from belvedere.evaluation.weak_slices.candidates import attribute_families, cluster_family
from belvedere.evaluation.weak_slices.find import find_weak_slices
from belvedere.evaluation.weak_slices.search import find_weakest
from belvedere.types.prediction import Prediction

NUM = 400
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, NUM)
BRIGHTNESS = RANDOM.uniform(60, 200, NUM)
BRIGHTNESS[:60] = RANDOM.uniform(5, 20, 60)  # dark images
IS_DARK = np.arange(NUM) < 60
ACCURACY = np.where(IS_DARK, 0.5, 0.93)


def make(
    correct: np.ndarray, row: Callable[[int], ImageAttributes], labels: np.ndarray = LABELS
) -> tuple[list[Prediction], dict[str, ImageAttributes]]:
    names = [f"/images/{k}.jpg" for k in range(len(correct))]
    predictions = [
        Prediction(name, str(label if right else label + 1), 0.9, label=str(label))
        for name, label, right in zip(names, labels, correct, strict=True)
    ]
    return predictions, {name: row(k) for k, name in enumerate(names)}


def test_dark_images_are_found_and_named() -> None:
    correct = np.random.default_rng(1).random(NUM) < ACCURACY
    found = find_weak_slices(*make(correct, lambda k: ImageAttributes({"brightness": BRIGHTNESS[k]}, {})))
    assert len(found) == 1
    assert found[0].attribute == "brightness"
    assert found[0].num_images == 60
    assert set(found[0].images) == {f"/images/{k}.jpg" for k in range(60)}
    limit = int(found[0].description.removeprefix("images darker than ").removesuffix(" of 255"))
    assert 20 < limit < BRIGHTNESS[60:].min()
    assert found[0].accuracy == correct[:60].mean()
    assert found[0].ci_low < found[0].accuracy < found[0].ci_high < found[0].accuracy_elsewhere
    assert found[0].p_value <= 0.04
    first = found[0].images[0]
    assert not correct[int(Path(first).stem)]


def test_nothing_is_found_where_accuracy_does_not_depend_on_attributes() -> None:
    reported = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = random.random((NUM, 5))
        rows = [ImageAttributes({f"brightness{i}": value for i, value in enumerate(row)}, {}) for row in values]
        reported += bool(
            (found := find_weakest(attribute_families(rows), random.random(NUM) < 0.9, LABELS, 0.0, seed))
            and found.p_value <= 0.05
        )
    assert reported <= 3  # expected: 1


def test_a_class_that_is_dark_and_difficult_is_no_slice() -> None:
    labels = np.where(IS_DARK, 0, 1 + LABELS % 2)
    correct = np.random.default_rng(2).random(NUM) < ACCURACY
    assert not find_weak_slices(*make(correct, lambda k: ImageAttributes({"brightness": BRIGHTNESS[k]}, {}), labels))


@pytest.mark.parametrize(
    ("name", "value", "other", "description"),
    [
        ("camera", "Acme X", "Other", "images by the camera Acme X"),
        ("size", "64 x 48", "150 x 150", "images of 64 x 48 pixels"),
        ("month", "12", "6", "images taken in December"),
        ("hour", "0:00 to 5:59", "12:00 to 17:59", "images taken from 0:00 to 5:59 o'clock"),
    ],
)
def test_categories_are_named(name: str, value: str, other: str, description: str) -> None:
    correct = np.random.default_rng(3).random(NUM) < ACCURACY
    found = find_weak_slices(*make(correct, lambda k: ImageAttributes({}, {name: value if IS_DARK[k] else other})))
    assert [(each.description, each.num_images) for each in found] == [(description, 60)]


def test_rare_categories_count_together_against_the_frequent_one() -> None:
    correct = np.random.default_rng(4).random(NUM) < ACCURACY
    found = find_weak_slices(
        *make(correct, lambda k: ImageAttributes({}, {"size": f"{k} x 9" if IS_DARK[k] else "150 x 150"}))
    )
    assert [(each.description, each.num_images) for each in found] == [("images not of 150 x 150 pixels", 60)]


def test_a_cluster_is_found_where_the_confidence_says_nothing() -> None:
    random = np.random.default_rng(5)
    correct = random.random(NUM) < np.where(IS_DARK, 0.3, 0.95)
    points = random.normal(0, 0.1, (NUM, 8)) + np.eye(8)[np.where(IS_DARK, 0, 1 + np.arange(NUM) % 7)]
    found = find_weak_slices(*make(correct, lambda k: ImageAttributes({}, {}, points[k].astype(np.float32))))
    assert found
    assert found[0].attribute == "cluster"
    assert {int(Path(name).stem) for name in found[0].images} <= set(range(60))


def test_clusters_are_few_where_images_are_few() -> None:
    assert not [
        each for each in cluster_family(np.zeros((30, 4), np.float32)).candidates if each.stop - each.start < 20
    ]


def test_attributes_of_a_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Acme", "X", 6  # turned by 90 degrees
    exif.get_ifd(0x8769)[0x9003] = "2024:12:31 23:10:00"
    file = tmp_path / "image.jpg"
    Image.new("RGB", (40, 30), (200, 0, 0)).save(file, quality=60, exif=exif)
    found = read_attributes(file, belvedere.read_image(file))
    assert found.categories == {
        "camera": "Acme X",
        "color": "color",
        "format": "JPEG",
        "hour": "18:00 to 23:59",
        "month": "12",
        "size": "30 x 40",
    }
    assert found.numbers["jpeg_quality"] == 60
    assert found.numbers["shorter_side"] == 30
    assert found.numbers["brightness"] == pytest.approx(60, abs=1)
    assert found.numbers["colorfulness"] == pytest.approx(200, abs=2)


def test_blur_lowers_the_sharpness_and_darkness_does_not() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    blurred = np.asarray(Image.fromarray(noise).resize((16, 16)).resize((64, 64)))
    sharp, soft, dark = (read_attributes(b"", each).numbers["sharpness"] for each in (noise, blurred, noise // 4))
    assert soft < sharp / 4
    assert dark == pytest.approx(sharp, rel=0.05)
