"""Trainings that start from a run: weights, classes, splits, and what is refused."""

import csv
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import timm
import torch
from PIL import Image

from belvedere.data.dataset import load_dataset
from belvedere.errors import OutputExistsError, UsageError
from belvedere.runtime.progress import Progress
from belvedere.training.embedders import embedding_key
from belvedere.training.pretrained_weights import Weights
from belvedere.training.recipes import RECIPES
from belvedere.training.run import Run
from belvedere.training.start_from import StartRun, read_start
from belvedere.training.train import train

COLORS = {"blue": (60, 80, 160), "green": (60, 160, 70), "red": (160, 80, 60)}
BACKBONE = "test_vit.r160_in1k"


def draw(folder: Path, names: tuple[str, ...], each: int, seed: int = 0) -> Path:
    for name in names:
        random = np.random.default_rng((seed, *name.encode()))
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            pixels = np.clip(np.array(COLORS[name]) + random.normal(0, 40, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{seed}-{number}.png")
    return folder


def head(run: Path) -> dict[str, list[float]]:
    """Rows of the head with the bias, by class."""
    tensors = safetensors.numpy.load_file(run / "weights.safetensors")
    names = tomllib.loads((run / "config.toml").read_text())["run"]["class_names"]
    rows = np.concatenate([tensors["classify.weight"], tensors["classify.bias"][:, None]], 1)
    return dict(zip(names, rows.tolist(), strict=True))


def splits(run: Path) -> dict[str, str]:
    with (run / "splits.csv").open() as rows:
        return {row["sha256"]: row["split"] for row in csv.DictReader(rows)}


class Log(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("images"), ("blue", "red"), 24)


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(images, out=tmp_path_factory.mktemp("runs") / "first", recipe="quick", epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def more(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("more") / "images"
    shutil.copytree(images, folder)
    draw(folder, ("green",), 20)
    return draw(folder, ("blue", "red"), 10, seed=1)


@pytest.fixture(scope="module")
def grown(run: Run, more: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Log]:
    log = Log()
    # With rates of almost 0, the weights stay where they start.
    rates: dict[str, Any] = {"learning_rate": 1e-30, "muon_learning_rate": 1e-30}
    out = tmp_path_factory.mktemp("runs") / "second"
    return train(more, out=out, start_from=run.folder, epochs=1, progress=log, **rates), log


def test_weights_are_taken_and_the_head_grows(run: Run, grown: tuple[Run, Log]) -> None:
    second, log = grown
    before, after = (safetensors.numpy.load_file(each.folder / "weights.safetensors") for each in (run, second))
    assert all(
        np.array_equal(before[name], after[name])
        for name in before
        if not name.startswith("classify.") and "running" not in name and "num_batches" not in name
    )
    rows, old = head(second.folder), head(run.folder)
    assert rows.keys() == {"blue", "green", "red"}
    assert (rows["blue"], rows["red"]) == (old["blue"], old["red"])
    assert rows["green"] not in (old["blue"], old["red"])
    [line] = [each for each in log.lines if each.startswith("Started from")]
    assert f"{len(before)} of {len(before)} tensors" in line
    assert "2 kept, 1 new (green), 0 dropped" in line


def test_recipe_and_origin_are_those_of_the_run(run: Run, grown: tuple[Run, Log]) -> None:
    second, _ = grown
    config = tomllib.loads((second.folder / "config.toml").read_text())
    assert config["recipe"]["name"] == "quick"
    assert config["recipe"]["batch_size"] == 16
    start = read_start(run.folder)
    assert config["run"]["start_from_sha256"] == start.sha256
    assert second.load().card.provenance.pretrained_from == {"run": f"first, SHA-256 {start.sha256}"}
    assert start.sha256 in (second.folder / "report.html").read_text()


def test_images_that_the_run_held_out_stay_held_out(run: Run, grown: tuple[Run, Log]) -> None:
    before, after = splits(run.folder), splits(grown[0].folder)
    assert len(before) == 48
    assert len(after) == 88
    assert before.items() <= after.items()
    new = [split for key, split in after.items() if key not in before]
    assert {new.count(split) > 0 for split in ("train", "val", "test")} == {True}


def test_images_that_the_run_was_trained_on_are_counted_if_they_are_held_out(
    run: Run, images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "images" / "train")
    trained = {key for key, split in splits(run.folder).items() if split == "train"}
    shutil.copytree(images, tmp_path / "images" / "test")
    second = train(tmp_path / "images", out=tmp_path / "run", start_from=run.folder, epochs=1)
    assert f"{len(trained)} test images" in (second.folder / "report.html").read_text()


def test_groups_are_those_of_the_run(tmp_path: Path) -> None:
    images = draw(tmp_path / "images", ("blue", "red"), 24)
    for file in list(images.glob("*/*.*")):
        folder = file.parent / f"{int(file.stem.split('-')[-1]) % 6}"
        folder.mkdir(exist_ok=True)
        file.rename(folder / file.name)
    dataset = load_dataset(images, layout="classes")
    first = train(dataset, out=tmp_path / "first", recipe="quick", epochs=1, batch_size=16, group_by="folder")
    start = read_start(first.folder)
    assert start.group_by == "folder"
    assert tomllib.loads((first.folder / "config.toml").read_text())["run"]["group_by"] == "folder"
    tested = {Path(each.image).parent for each in first.evaluation.predictions}
    assert first.evaluation.num_images == 4 * len(tested)


def test_classes_are_dropped(run: Run, tmp_path: Path) -> None:
    log = Log()
    draw(tmp_path / "images", ("red", "green"), 12)
    second = train(
        tmp_path / "images", out=tmp_path / "run", start_from=run.folder / "model.onnx", epochs=1, progress=log
    )
    assert second.evaluation.class_names == ("green", "red")
    assert any("1 kept, 1 new (green), 1 dropped (blue)" in line for line in log.lines)


def test_frozen_blocks_stay(run: Run, images: Path, tmp_path: Path) -> None:
    second = train(images, out=tmp_path / "run", start_from=run.folder, epochs=1, freeze=2)
    before, after = (safetensors.numpy.load_file(each.folder / "weights.safetensors") for each in (run, second))
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name for name in before if name.startswith(("features.stem", "features.norm", "features.stage1_1"))} <= same
    assert "features.stage3_1.conv1.weight" not in same


def test_a_run_without_weights_is_refused(run: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    shutil.copy(run.folder / "model.onnx", tmp_path / "only")
    for start in (tmp_path / "only", tmp_path / "only" / "model.onnx", tmp_path / "missing", images):
        with pytest.raises(UsageError):
            train(images, out=tmp_path / "run", start_from=start)
    shutil.copytree(run.folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError):
        train(images, out=tmp_path / "run", start_from=tmp_path / "damaged")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes", [{"recipe": "article"}, {"recipe": "probe"}, {"recipe": "probe", "weights": "x.safetensors"}]
)
def test_a_network_that_does_not_fit_is_refused(
    changes: dict[str, Any], run: Run, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        train(images, out=tmp_path / "run", start_from=run.folder, **changes)


def test_a_run_is_not_replaced_by_the_training_that_starts_from_it(run: Run, images: Path) -> None:
    before = (run.folder / "weights.safetensors").read_bytes()
    with pytest.raises(OutputExistsError):
        train(images, out=run.folder, start_from=run.folder, overwrite=True, epochs=1)
    assert (run.folder / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('class_names = [\n    "blue",\n    "red",\n]', 'class_names = ["blue", "red", "green"]'),
        ('class_names = [\n    "blue",\n    "red",\n]', 'class_names = "br"'),
        ("seed = 0", "seed = 0\ngroup_by = 5"),
    ],
)
def test_a_run_whose_settings_do_not_fit_its_weights_is_refused(old: str, new: str, run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(UsageError):
        read_start(tmp_path / "run")


def test_freeze_needs_trained_weights(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        train(images, out=tmp_path / "run", recipe="quick", freeze=1)


def test_a_run_without_splits_gives_a_warning(run: Run, images: Path, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "old")
    (tmp_path / "old" / "splits.csv").unlink()
    second = train(images, out=tmp_path / "run", start_from=tmp_path / "old", epochs=1)
    assert "no splits.csv" in (second.folder / "report.html").read_text()


def test_the_backbone_of_a_run_is_named_by_its_tensors() -> None:
    """Under its name embeddings are cached; what the model card says may be wrong."""
    genuine = Weights({"w": torch.ones(2)}, "timm/network", "a" * 64)
    card = {"weights": genuine.source, "sha256": genuine.sha256}

    def key(value: float, sha256: str) -> str:
        tensors = {"features.backbone.model.w": torch.full((2,), value), "classify.bias": torch.zeros(2)}
        run = StartRun(Path("run"), RECIPES["probe"], ("a", "b"), tensors, sha256, {}, card)
        return embedding_key(run.recipe, run.backbone())

    assert key(0.0, "b" * 64) != embedding_key(RECIPES["probe"], genuine)
    assert key(0.0, "b" * 64) != key(1.0, "b" * 64)
    assert key(1.0, "b" * 64) == key(1.0, "c" * 64)  # runs with another head


def test_pretrained_networks_and_probes_go_on(images: Path, more: Path, tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        safetensors.torch.save_model(timm.create_model(BACKBONE), str(file))
    size: dict[str, Any] = {"image_size": 32, "network": BACKBONE}
    first = train(images, out=tmp_path / "probe", recipe="probe", weights=file, **size)
    log = Log()
    second = train(more, out=tmp_path / "again", start_from=first.folder, progress=log)
    assert second.evaluation.class_names == ("blue", "green", "red")
    assert any("fitted again" in line for line in log.lines)
    assert second.load().card.provenance.pretrained_from.keys() == {"weights", "sha256", "license", "run"}
    tuned = train(more, out=tmp_path / "tuned", start_from=second.folder, recipe="finetune", epochs=1, freeze=2, **size)
    config = json.loads((tuned.folder / "metrics.json").read_text())
    assert config["recipe"] == "finetune"
    before, after = (safetensors.numpy.load_file(each.folder / "weights.safetensors") for each in (second, tuned))
    name = "features.backbone.model.blocks.0.mlp.fc1.weight"
    assert np.array_equal(before[name], after[name])
