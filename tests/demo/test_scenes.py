"""Synthetic images show the classes and areas that are recorded for them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.demo.dataset import GroundTruth, make_synthetic_dataset
from belvedere.demo.scenes.drawing import BACKGROUND, CLASS_NAMES, Canvas, choose_light
from belvedere.demo.scenes.scenes import _PAINTERS, Scene, draw_fjord, draw_scene
from belvedere.errors import OutputExistsError, UnknownNameError, UsageError
from belvedere.runtime.progress import Progress, Task

SEEDS = range(5)


@pytest.fixture(scope="module")
def practice_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GroundTruth]:
    folder = tmp_path_factory.mktemp("practice") / "set"
    return folder, make_synthetic_dataset(folder, train_per_class=5, test_per_class=2, seed=3)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_scene_is_labelled_with_the_class_of_the_largest_area(class_name: str) -> None:
    for seed in SEEDS:
        scene = draw_scene(class_name, seed)
        assert scene.label == class_name == max(scene.area_fractions, key=lambda name: scene.area_fractions[name])
        assert set(scene.area_fractions) <= set(CLASS_NAMES)
        assert all(fraction > 0 for fraction in scene.area_fractions.values())
        assert sum(scene.area_fractions.values()) <= 1 + 1e-9


@pytest.mark.parametrize("class_name", CLASS_NAMES)
@pytest.mark.parametrize("size", [64, 150, 200])
def test_images_have_the_requested_size(class_name: str, size: int) -> None:
    scene = draw_scene(class_name, 1, size)
    assert scene.pixels.shape == (size, size, 3)
    assert scene.pixels.dtype == np.uint8
    assert scene.pixels.std() > 10


def test_the_same_seed_draws_the_same_image_and_another_another() -> None:
    for class_name in CLASS_NAMES:
        first, again, other = (draw_scene(class_name, seed) for seed in (4, 4, 5))
        assert np.array_equal(first.pixels, again.pixels)
        assert first.area_fractions == again.area_fractions
        assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_shares_agree_with_the_class_map(class_name: str) -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(100)
    _PAINTERS[class_name](canvas, choose_light(rng), rng)
    assert canvas.labels.dtype == np.int8
    assert canvas.labels.min() >= BACKGROUND
    fractions = canvas.area_fractions()
    for index, name in enumerate(CLASS_NAMES):
        assert fractions.get(name, 0.0) == np.mean(canvas.labels == index)


def test_a_fjord_is_mostly_sea_with_mountain_and_forest() -> None:
    for seed in SEEDS:
        scene = draw_fjord(seed)
        assert scene.label == "sea" == max(scene.area_fractions, key=lambda name: scene.area_fractions[name])
        assert scene.area_fractions["mountain"] > 0.03
        assert scene.area_fractions["forest"] > 0.03


def test_an_unknown_class_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        draw_scene("glacer", 0)
    assert (caught.value.name, caught.value.suggestion) == ("glacer", "glacier")


def test_no_class_is_known_by_its_mean_color() -> None:
    def means(seeds: range) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([[draw_scene(name, s, 64).pixels.mean((0, 1)) for s in seeds] for name in CLASS_NAMES])

    centroids = means(range(100, 115)).mean(1)
    tested = means(range(200, 212))
    away = np.linalg.norm(tested[:, :, None] - centroids, axis=-1)  # (K, N, K)
    right = away.argmin(-1) == np.arange(len(CLASS_NAMES))[:, None]
    assert right.mean() < 0.6
    assert right.mean(1).max() < 0.95


def test_the_set_has_the_files_asked_for(practice_set: tuple[Path, GroundTruth]) -> None:
    folder, truth = practice_set
    for part, count in (("train", 5), ("test", 2)):
        assert sorted(path.name for path in (folder / part).iterdir()) == list(CLASS_NAMES)
        for name in CLASS_NAMES:
            assert len(list((folder / part / name).glob("*.jpg"))) == count
    assert (folder / "fjord.jpg").is_file()
    everything = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    assert set(truth.areas) | set(truth.unreadable) == everything


def test_truth_on_disk_is_the_truth_returned(practice_set: tuple[Path, GroundTruth]) -> None:
    folder, truth = practice_set
    written = json.loads((folder / "truth.json").read_text())
    assert written["areas"] == truth.areas
    assert [wrong["image"] for wrong in written["wrong_labels"]] == [wrong.image for wrong in truth.wrong_labels]
    assert [tuple(group) for group in written["duplicates"]] == list(truth.duplicates)
    assert written["unreadable"] == list(truth.unreadable)


def test_readable_images_show_their_recorded_areas(practice_set: tuple[Path, GroundTruth]) -> None:
    folder, truth = practice_set
    shown = {wrong.image: wrong.true for wrong in truth.wrong_labels}
    for image, fractions in truth.areas.items():
        with Image.open(folder / image) as opened:
            assert opened.convert("RGB").size == (150, 150)
        expected = "sea" if image == "fjord.jpg" else shown.get(image, image.split("/")[1])
        assert max(fractions, key=lambda name: fractions[name]) == expected


def test_wrong_labels_are_in_train_only_and_in_another_folder(practice_set: tuple[Path, GroundTruth]) -> None:
    _, truth = practice_set
    assert len(truth.wrong_labels) >= 3
    for wrong in truth.wrong_labels:
        part, given, _ = wrong.image.split("/")
        assert (part, given) == ("train", wrong.given)
        assert wrong.given != wrong.true


def test_duplicates_are_equal_in_bytes_and_of_three_kinds(practice_set: tuple[Path, GroundTruth]) -> None:
    folder, truth = practice_set
    kinds = set()
    for group in truth.duplicates:
        assert len({(folder / image).read_bytes() for image in group}) == 1
        parts, classes = {image.split("/")[0] for image in group}, {image.split("/")[1] for image in group}
        kinds.add((len(parts), len(classes)))
    assert kinds == {(1, 1), (1, 2), (2, 1)}
    contents = [path.read_bytes() for path in folder.rglob("*.jpg")]
    assert len(contents) - len(set(contents)) == sum(len(group) - 1 for group in truth.duplicates)


def test_the_unreadable_file_fails_to_decode(practice_set: tuple[Path, GroundTruth]) -> None:
    folder, truth = practice_set
    assert len(truth.unreadable) == 1
    assert truth.unreadable[0].startswith("train/")
    with Image.open(folder / truth.unreadable[0]) as opened, pytest.raises(OSError, match="truncated"):
        opened.load()


def test_the_same_seed_gives_the_same_bytes_and_progress_is_reported(
    practice_set: tuple[Path, GroundTruth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, truth = practice_set
    reported: list[int] = []
    monkeypatch.setattr(Task, "advance", lambda _self, images, _figures="": reported.append(images))
    again = make_synthetic_dataset(tmp_path / "set", train_per_class=5, test_per_class=2, seed=3, progress=Progress())
    assert again == truth
    assert sum(reported) == 6 * 7 + 1
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "set" / path.relative_to(folder)).read_bytes()


def test_what_is_there_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Scene(np.zeros((8, 8, 3), np.uint8), "sea", {"sea": 1.0})
    monkeypatch.setattr("belvedere.demo.dataset.draw_scene", lambda *_: plain)
    make_synthetic_dataset(tmp_path / "set", train_per_class=4, test_per_class=1)
    with pytest.raises(OutputExistsError):
        make_synthetic_dataset(tmp_path / "set", train_per_class=4, test_per_class=1)
    make_synthetic_dataset(tmp_path / "set", train_per_class=4, test_per_class=1, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(OutputExistsError) as caught:
        make_synthetic_dataset(tmp_path / "mine", overwrite=True)
    assert (caught.value.path, caught.value.can_overwrite) == (tmp_path / "mine", False)
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_too_few_images_for_the_faults_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="train_per_class=3"):
        make_synthetic_dataset(tmp_path / "set", train_per_class=3)
    assert not (tmp_path / "set").exists()
