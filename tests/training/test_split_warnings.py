from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.data import image_cache
from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import HashedSamples
from belvedere.data.splits import DataSplit, split_dataset
from belvedere.images.decode import DecodedImage, read_input
from belvedere.runtime.environment import CACHE_DIR_ENV
from belvedere.runtime.progress import Progress
from belvedere.training.device import Runtime, choose_device
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.split_warnings import split_warnings
from belvedere.training.training_data import NO_IMAGES, input_sizes, load_training_data
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

NAMES = ("a", "b", "c")
QUICK = RECIPES["quick"]


def part(counts: Mapping[str, int], split: str | None = None) -> HashedSamples:
    names = [f"{label}{number}-{split}" for label, size in counts.items() for number in range(size)]
    samples = tuple(Sample(Path(name), name, name[0], split) for name in names)  # no such files: no near duplicates
    return HashedSamples(samples, tuple(names))


def messages(split: DataSplit, recipe: Recipe = QUICK, num_folds: int | None = None) -> list[str]:
    return [each.message for each in split_warnings(split, NAMES, recipe, num_folds, Progress())]


def make_split(train: Mapping[str, int], validation: HashedSamples, test: HashedSamples) -> DataSplit:
    return DataSplit(part(train), validation, test.samples, test, (), "")


def test_small_classes_are_in_one_warning() -> None:
    split = make_split({"a": 30, "b": 9, "c": 20}, part({"a": 3, "b": 1}), part({"a": 5, "c": 1}, "test"))
    (message,) = messages(split)
    assert "2 classes" in message
    assert "'b' (9 for training)" in message  # the dataset names the test split, which load_dataset reports
    assert "'c' (20 for training, none for validation)" in message
    assert "'a'" not in message
    assert "`recipe` to 'probe'" in message
    assert "`folds`" in message
    (message,) = messages(split, RECIPES["probe"], num_folds=5)
    assert "'probe'" not in message
    assert "`folds`" not in message


def test_large_classes_are_silent() -> None:
    counts = {"a": 100, "b": 10, "c": 10}
    assert messages(make_split(counts, part(dict.fromkeys(NAMES, 1)), part(dict.fromkeys(NAMES, 1)))) == []
    assert messages(make_split(counts, NO_IMAGES, NO_IMAGES)) == []


def test_imbalance_is_named_with_its_key() -> None:
    split = make_split({"a": 111, "b": 11, "c": 12}, NO_IMAGES, NO_IMAGES)
    (message,) = messages(split)
    assert "'a' has 111" in message
    assert "'b' (11)" in message
    assert "'c'" not in message
    assert "`class_weighting=balanced`" in message
    for corrected in (replace(QUICK, class_weighting="balanced"), replace(QUICK, sampling="balanced")):
        assert messages(split, corrected) == []


@pytest.fixture
def bursts(tmp_path: Path) -> Path:
    for seed in range(8):
        few = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        scene = Image.fromarray(few).resize((120, 120), Image.Resampling.BICUBIC)
        folder = tmp_path / ("cat" if seed % 2 else "dog") / f"{seed}"
        folder.mkdir(parents=True)
        for shift in range(10):
            scene.crop((shift, 0, shift + 100, 100)).save(folder / f"{shift}.png")
    return tmp_path


def test_near_duplicates_across_a_drawn_split(bursts: Path) -> None:
    dataset = load_dataset(bursts)
    for group_by, num_folds, found in (
        (None, None, True),
        ("folder", None, False),
        ("near-duplicates", None, False),
        (None, 3, True),
        ("folder", 3, False),
    ):
        split = split_dataset(dataset, QUICK.split_fractions, 0, Progress(), group_by=group_by)
        warnings = split_warnings(split, dataset.class_names, QUICK, num_folds, Progress())
        near = [each for each in warnings if "near duplicates" in each.message]
        assert bool(near) == found
        if near and not num_folds:
            held_out = {sample.name for sample in split.test + split.validation.samples}
            assert set(near[0].names) <= held_out
            assert len(near[0].names) > len(held_out) / 2


@pytest.mark.parametrize("recipe", ["quick", "article", "probe", "large"])
def test_images_are_decoded_once_for_the_search_and_the_training(
    bursts: Path, recipe: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[Path, bool]] = []
    read = image_cache.read_verified

    def watched(key: str, path: Path, sizes: Sequence[Preprocess], *, draft: bool) -> list[DecodedImage] | str:
        decoded.append((path, draft))
        return read(key, path, sizes, draft=draft)

    monkeypatch.setenv(CACHE_DIR_ENV, str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(image_cache, "read_verified", watched)
    if recipe == "large":
        monkeypatch.setattr("belvedere.training.split_warnings.LARGE_IMAGE", 100)
    dataset, chosen = load_dataset(bursts), RECIPES.get(recipe, QUICK)
    split = split_dataset(dataset, chosen.split_fractions, 0, Progress())
    split_warnings(split, dataset.class_names, chosen, None, Progress())
    only_thumbnails = recipe in ("probe", "large")
    assert sorted(decoded) == sorted((sample.path, only_thumbnails) for sample in dataset.samples)
    if only_thumbnails:
        return
    decoded.clear()
    data = load_training_data(split, chosen, dataset.class_names, Runtime(choose_device("cpu")))
    assert decoded == []
    for images, samples, size in zip(
        (data.train.images, data.validation.images),
        (split.train.samples, split.validation.samples),
        input_sizes(chosen),
        strict=True,
    ):
        np.testing.assert_array_equal(images[np.array([3])][0], read_input(samples[3].path, size).pixels)


def test_groups_and_warnings_come_from_the_same_thumbnails(bursts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_dataset(bursts)
    split = split_dataset(dataset, QUICK.split_fractions, 0, Progress(), group_by="near-duplicates")
    decoded: list[Path] = []
    monkeypatch.setattr(image_cache, "read_verified", lambda _, path, *__, **___: decoded.append(path))
    split_warnings(split, dataset.class_names, QUICK, None, Progress())
    assert decoded == []


def test_given_splits_are_not_searched(bursts: Path) -> None:
    dataset = load_dataset(bursts)
    samples = tuple(replace(sample, split="test" if sample.path.stem == "0" else "train") for sample in dataset.samples)
    named = replace(dataset, samples=samples)
    split = split_dataset(named, RECIPES["probe"].split_fractions, 0, Progress())
    assert not any(
        "near duplicates" in each.message
        for each in split_warnings(split, dataset.class_names, QUICK, None, Progress())
    )


def test_images_of_one_layout_are_no_near_duplicates(tmp_path: Path) -> None:
    """Half of the images resemble one another: one warning names them, without the advice to group them."""
    for seed in range(60):
        few = np.random.default_rng(0 if seed % 2 else seed + 1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        image = Image.fromarray(few).resize((100, 100), Image.Resampling.BICUBIC)
        image.putpixel((seed, 0), (seed, 0, 0))
        folder = tmp_path / ("cat" if seed % 3 else "dog")
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{seed}.png")
    dataset = load_dataset(tmp_path)
    split = split_dataset(dataset, QUICK.split_fractions, 0, Progress())
    found = [each.message for each in split_warnings(split, dataset.class_names, QUICK, None, Progress())]
    assert len(found) == 1  # only the nearest neighbors are compared, so that not all 30 have to be in it
    assert 20 <= int(found[0].split()[0]) <= 30
    assert "near duplicates" not in found[0]
