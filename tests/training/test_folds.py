"""Cross-validation of a recipe: folds without leaks, out-of-fold predictions of all images, and the final model."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import DatasetError, UsageError
from belvedere.evaluation.metrics import compute_metrics
from belvedere.evaluation.run_folder import read_predictions
from belvedere.runtime.progress import Progress
from belvedere.training.folds import draw_fold_splits, summarize_folds
from belvedere.training.recipes import RECIPES
from belvedere.training.run import Run
from belvedere.training.train import train
from belvedere.types.evaluation import Evaluation
from conftest import CLASS_NAMES, make_prediction, write_classes, write_image


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_classes(tmp_path_factory.mktemp("images"), 12)
    for number in range(3):  # copies
        shutil.copy(folder / "red" / f"{number}.png", folder / "red" / f"copy-{number}.png")
    write_image(folder.parent / "elsewhere.png", "red")
    return folder


def pool(folder: Path) -> HashedSamples:
    return hash_samples(load_dataset(folder).samples, Progress())


@pytest.mark.parametrize("recipe", ["quick", "probe"])
def test_folds_cover_all_images_and_keep_copies_together(recipe: str, images: Path) -> None:
    contents = pool(images)
    folds = draw_fold_splits(contents, 4, RECIPES[recipe], 0)
    assert Counter(sample.name for fold in folds for sample in fold.test) == Counter(
        sample.name for sample in contents.samples
    )
    for fold in folds:
        parts = [set(part.hashes) for part in (fold.train, fold.validation, fold.hashed_test)]
        assert not parts[0] & parts[2]
        assert not parts[1] & (parts[0] | parts[2])
        assert bool(parts[1]) == (recipe == "quick")
        assert {sample.label for sample in fold.train.samples} == {"blue", "green", "red"}


def test_groups_are_in_one_fold(images: Path) -> None:
    contents = pool(images)
    samples = tuple(replace(each, group=f"{int(each.path.stem[-1]) // 2}") for each in contents.samples)
    grouped = replace(contents, samples=samples)
    folds = draw_fold_splits(grouped, 3, RECIPES["quick"], 0)
    assert sum(len(fold.test) for fold in folds) == len(samples)
    for fold in folds:
        parts = [{each.group for each in part.samples} for part in (fold.train, fold.validation, fold.hashed_test)]
        assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
    one = replace(contents, samples=tuple(replace(each, group=each.label) for each in samples))
    with pytest.raises(DatasetError, match="'blue'"):
        draw_fold_splits(one, 3, RECIPES["quick"], 0)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, 5)
    with pytest.raises(DatasetError):
        draw_fold_splits(pool(tmp_path), 16, RECIPES["probe"], 0)
    for number in range(1, 5):
        (tmp_path / "red" / f"{number}.png").write_bytes((tmp_path / "red" / "0.png").read_bytes())
    with pytest.raises(DatasetError, match="'red'"):
        draw_fold_splits(pool(tmp_path), 3, RECIPES["probe"], 0)


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(images, out=tmp_path_factory.mktemp("runs") / "run", recipe="quick", epochs=2, batch_size=8, folds=3)


def test_all_images_are_predicted_out_of_fold(run: Run, images: Path) -> None:
    stored = read_predictions(run.folder)
    assert [each.image for each in stored.predictions] == [sample.name for sample in load_dataset(images).samples]
    assert run.evaluation.num_images == 39
    assert run.evaluation.split == "out_of_fold"
    metrics = json.loads((run.folder / "metrics.json").read_text())
    folds = metrics["cross_validation"]["accuracy"]["folds"]
    assert len(folds) == 3
    assert metrics["cross_validation"]["accuracy"]["mean"] == pytest.approx(np.mean(folds))
    assert "3-fold cross-validation" in (run.folder / "report.html").read_text()


def test_the_model_is_trained_on_all_images_but_those_for_validation(run: Run) -> None:
    numbers = run.load().card.provenance.num_images
    assert numbers["test"] == 0
    assert numbers["train"] + numbers["validation"] == 39


def test_mean_and_standard_deviation() -> None:
    def evaluate(*right: bool) -> Evaluation:
        predictions = [make_prediction(str(n), "blue" if each else "red", 1, 0, 0) for n, each in enumerate(right)]
        return compute_metrics(predictions, CLASS_NAMES, split="out_of_fold")

    summary = summarize_folds([evaluate(True, True), evaluate(True, False)])
    assert summary.accuracy.folds == (1.0, 0.5)
    assert summary.accuracy.mean == 0.75
    assert summary.accuracy.std == pytest.approx(0.5 / 2**0.5)


@pytest.mark.parametrize(
    "arguments",
    [{"folds": 1}, {"folds": 99}, {"folds": 3, "max_minutes": 1}, {"folds": 3, "resume": True}],
)
def test_what_excludes_folds_is_refused(arguments: dict[str, int], images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        train(images, out=tmp_path / "run", recipe="quick", **arguments)  # type: ignore[arg-type]


def test_test_images_of_the_dataset_are_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path / "images" / "train", 8)
    for name in ("blue", "green", "red"):
        write_image(tmp_path / "images" / "test" / name / "x.png", name, 500)
    run = train(tmp_path / "images", out=tmp_path / "run", recipe="quick", epochs=1, batch_size=8, folds=2)
    assert run.evaluation.num_images == 24
    assert "3 test images left out" in (run.folder / "report.html").read_text()
