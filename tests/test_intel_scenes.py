"""Tests on the Intel scenes; the variable BELVEDERE_INTEL_SCENES names the folder with train/ and test/."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import duplicate_warnings, hash_samples
from belvedere.data.splits import stratified_group_split
from belvedere.evaluation.evaluate import evaluate
from belvedere.images.decode import JPEG_AGREEMENT, read_image
from belvedere.inference.model import load_model
from belvedere.inference.model_paths import BUNDLED
from belvedere.runtime.progress import Progress
from belvedere.training.train import train

FOLDER = os.environ.get("BELVEDERE_INTEL_SCENES")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="BELVEDERE_INTEL_SCENES is not set")
SCENES = ("buildings", "forest", "glacier", "mountain", "sea", "street")


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return load_dataset(Path(FOLDER or ""))


def test_classes_and_sizes(scenes: Dataset) -> None:
    assert scenes.class_names == SCENES
    counts = [sum(sample.label == name for sample in scenes.split("train")) for name in SCENES]
    assert counts == [2191, 2271, 2404, 2512, 2274, 2382]


def test_identical_images_are_found_and_stay_in_one_split(scenes: Dataset) -> None:
    contents = hash_samples(scenes.samples, Progress())
    assert contents.unreadable == ()
    leaks, conflicts, *_ = duplicate_warnings(contents)
    for warning, level in ((leaks, -3), (conflicts, -2)):  # the split's folder, the class's folder
        groups = [{Path(name).parts[level] for name in group.split(" = ")} for group in warning.names]
        assert groups
        assert all(len(folders) > 1 for folders in groups)
    assert len(conflicts.names) >= 10
    rest, held_out = stratified_group_split(contents.in_splits("train"), 0.1, seed=0)
    assert not set(rest.hashes) & set(held_out.hashes)
    assert len(held_out.samples) == pytest.approx(1403, abs=3)


def test_the_two_decoders_agree(scenes: Dataset) -> None:
    for sample in scenes.samples[::40]:
        content = sample.path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            slow = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(slow - read_image(content)).max() <= JPEG_AGREEMENT, sample.name


def test_the_bundled_model_has_the_accuracy_of_its_card(scenes: Dataset) -> None:
    model = load_model()
    assert model.class_names == SCENES
    assert BUNDLED.stat().st_size <= 4_000_000
    evaluation = evaluate(model, scenes)
    assert evaluation.num_images == 1502
    assert evaluation.accuracy >= 0.915
    card = " ".join(BUNDLED.with_suffix(".md").read_text(encoding="utf-8").split())
    assert f"accuracy {evaluation.accuracy:.4f}" in card


def test_the_article_recipe_learns_from_a_few_hundred(scenes: Dataset, tmp_path: Path) -> None:
    """With about 100 images per class and four epochs, far above the 17% of chance in any precision."""
    chosen = [sample for split, step in (("train", 24), ("test", 5)) for sample in scenes.split(split)[::step]]
    few = Dataset(scenes.source, scenes.class_names, tuple(chosen), ())
    run = train(few, out=tmp_path / "run", recipe="article", epochs=4)
    assert run.evaluation.num_images > 250
    assert run.evaluation.accuracy > 0.3
    assert run.evaluation.num_unreadable == 0
