"""Distillation, unlabeled images, and interpolated weights."""

import errno
import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from belvedere.data.hashing import HashedSamples
from belvedere.errors import UsageError
from belvedere.inference.model import load_model
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.runtime.progress import Progress
from belvedere.training import distillation
from belvedere.training.augment import CropBoxes
from belvedere.training.data_loader import ArrayDataset, DataLoader, SoftTargetBatch, SoftTargets
from belvedere.training.device import Device, Runtime
from belvedere.training.distillation import Teacher, TeacherCropEmbedder, list_unlabeled, load_teacher
from belvedere.training.loop import LoopConfig, Trainer
from belvedere.training.networks import CompactNetwork, PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import Network
from belvedere.training.recipe_config import choose_recipe, to_toml
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import plan_batches
from belvedere.training.train import train
from belvedere.training.weight_interpolation import interpolate_weights
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess
from conftest import write_image
from crop_boxes import full_boxes

CPU = Device(torch.device("cpu"), torch.float32)
NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def taught_by(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model distinguishes red from blue."""
    folder, random = tmp_path_factory.mktemp("teacher"), np.random.default_rng(2)
    for name, color in {"blue": (40, 60, 200), "red": (200, 60, 40)}.items():
        (folder / "images" / name).mkdir(parents=True)
        for index in range(20):
            pixels = np.array(color) + random.integers(-40, 40, (40, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name / f"{index}.png")
    return train(folder / "images", out=folder / "run", recipe="quick", epochs=1).folder


def write_run(folder: Path, recipe: Recipe, network: Network | None = None) -> Path:
    """Write the files of a run that a teacher is read from."""
    folder.mkdir(exist_ok=True)
    names = 'class_names = ["blue", "red"]'
    (folder / "config.toml").write_text(f"[run]\n{names}\n\n{to_toml(recipe)}")
    weights = (network or architecture_for(recipe).create(2)).state_dict()
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(weights))
    return folder


def open_teacher(run: Path, **changes: object) -> Teacher:
    recipe = replace(RECIPES["quick"], teacher=str(run), **changes)  # type: ignore[arg-type]
    teacher = load_teacher(recipe, ("blue", "red"), CPU)
    assert teacher is not None
    return teacher


def test_a_teacher_predicts_crops_as_it_predicts_images(taught_by: Path) -> None:
    teacher = open_teacher(taught_by)
    assert teacher.image_size == 112
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3)).astype(np.uint8))
    images[:, :, :150] = torch.tensor([255, 0, 0], dtype=torch.uint8)  # red on the left
    zeros, half = np.zeros(2), np.full(2, 150.0)
    left, _ = teacher.predict(images, CropBoxes(zeros, zeros, half * 2, half - 2, np.array([False, True])))
    assert torch.allclose(left[0], left[1], atol=1e-5)  # all of it is red: the mirror image is the same
    expected = load_model(taught_by).forward(np.tile(np.array([255, 0, 0], np.uint8), (1, 112, 112, 1))).logits
    assert left[0].log().diff().item() == pytest.approx(float(np.diff(expected[0])[0]), abs=1e-2)


def test_labels_and_predictions_are_mixed(taught_by: Path) -> None:
    teacher = open_teacher(taught_by, distillation_alpha=0.6, label_smoothing=0.1, teacher_image_size=64)
    [red, blue] = (taught_by.parent / "images" / name / "0.png" for name in ("red", "blue"))
    keys = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in (red, blue))
    contents = HashedSamples((Sample(red, "red", "red", "train"), Sample(blue, "blue", "", "train")), keys, ())
    source, labels = Preprocess(40, 40), np.array([1, -1])
    found = teacher.make_soft_targets(contents, source, 3, labels, None, Progress())
    assert (found.crops.shape, found.targets.shape) == ((2, 3, 4), (2, 3, 2))
    images = torch.from_numpy(np.stack([np.array(Image.open(path)) for path in (red, blue)]))
    for view in range(3):
        top, left, height, width = 40 * found.crops[:, view].T.astype(np.float64)
        predicted = teacher.predict(images, CropBoxes(top, left, height, width, np.zeros(2, bool)))[0].numpy()
        assert found.targets[0, view] == pytest.approx(0.6 * predicted[0] + 0.4 * np.array([0.05, 0.95]), abs=1e-5)
        assert found.targets[1, view] == pytest.approx(predicted[1], abs=1e-5)  # without a label, the answer is all
    assert len(np.unique(found.crops[0], axis=0)) == 3
    both = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)  # every label of an image counts
    again = teacher.make_soft_targets(contents, source, 3, labels, both, Progress())
    assert np.array_equal(again.crops, found.crops)
    assert again.targets[0] - found.targets[0] == pytest.approx(0.4 * np.array([[0.45, -0.45]] * 3), abs=1e-5)
    assert load_teacher(RECIPES["quick"], NAMES, CPU) is None


def test_embeddings_of_the_crops_are_stored_only_if_they_have_a_weight(taught_by: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype(np.uint8)
    plain, rich = (open_teacher(taught_by, distillation_embedding_weight=weight) for weight in (0.0, 0.5))
    without, both = (TeacherCropEmbedder(teacher, Preprocess(40, 40), 2) for teacher in (plain, rich))
    assert without.name != both.name
    assert (without.embedding_dim, both.embedding_dim) == (2 * 6, 2 * (6 + 128))
    rows, longer = without.embed(images).reshape(2, 2, -1), both.embed(images).reshape(2, 2, -1)
    assert np.array_equal(rows, longer[..., :6])
    top, left, height, width = 40 * longer[:, 1, :4].T.astype(np.float64)
    _, expected = rich.predict(torch.from_numpy(images), CropBoxes(top, left, height, width, np.zeros(2, bool)))
    assert longer[:, 1, 6:] == pytest.approx(expected.numpy(), abs=1e-4)


def test_crops_take_turns_and_each_is_mirrored_once() -> None:
    crops = np.arange(4 * 2 * 4, dtype=np.float32).reshape(4, 2, 4)
    targets = np.random.default_rng(0).random((4, 2, 3)).astype(np.float32)
    part = ArrayDataset(
        np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), soft_targets=SoftTargets(crops, targets, targets)
    )
    rows = np.array([0, 1, 4])
    for repeats, turns in ((1, [(0, 1), (0, 1), (1, 0), (1, 0), (0, 1)]), (2, [(0, 1, 1)] * 3)):
        loader = DataLoader(part, CPU, repeats)
        for epoch, views in enumerate(turns):
            batch = loader.load_soft_targets(rows[: len(views)], epoch)
            assert batch is not None
            shown = [0, 1, 0][: len(views)]  # the third is row 0 again, by its other crop
            assert np.array_equal(batch.crops, crops[shown, views])
            assert np.array_equal(batch.targets.numpy(), targets[shown, views])
            assert batch.embeddings is not None
            assert np.array_equal(batch.embeddings.numpy(), targets[shown, views])
    boxes = SoftTargetBatch(np.array([[0.25, 0.5, 0.5, 0.125]], np.float32), torch.zeros(1, 3)).boxes(
        np.array([True]), 40, 80
    )
    assert np.concatenate([boxes.top, boxes.left, boxes.height, boxes.width]).tolist() == [10, 40, 20, 10]
    assert boxes.mirrored.all()


def test_whole_images_have_one_prediction(taught_by: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype(np.uint8)
    plain: dict[str, object] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    for changes in (plain, {"image_size_schedule": ()}):
        teacher = open_teacher(taught_by, **changes)
        assert teacher.count_crops(600, None) == 1
        rows = TeacherCropEmbedder(teacher, Preprocess(40, 40), 1).embed(images)
        assert rows[:, :4].tolist() == [[0, 0, 1, 1]] * 2


def test_no_more_crops_are_predicted_than_are_shown(taught_by: Path) -> None:
    assert open_teacher(taught_by, epochs=3, min_steps=0).count_crops(600, None) == 2
    assert open_teacher(taught_by, epochs=30, min_steps=0).count_crops(600, None) == 8
    assert open_teacher(taught_by, epochs=2, min_steps=30, batch_size=128).count_crops(600, None) == 3


def test_the_teacher_takes_at_most_half_of_the_time(taught_by: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = open_teacher(taught_by, epochs=30)
    monkeypatch.setattr(distillation, "time_embedding", lambda *_: 0.01)
    assert teacher.count_crops(600, 40.0) == 3  # 6 s for one crop of each
    with pytest.raises(UsageError, match=r"\b6 s\b.* 9 s\b"):
        teacher.count_crops(600, 9.0)


def test_an_invalid_teacher_is_refused(taught_by: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(str(tiny_model))):
        open_teacher(tiny_model)
    with pytest.raises(UsageError, match=r": blue, red\. .*: blue, green, red\."):
        load_teacher(replace(RECIPES["quick"], teacher=str(taught_by)), NAMES, CPU)
    broken = tmp_path / "run"
    shutil.copytree(taught_by, broken)
    (broken / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=rf"{re.escape(str(broken))} .*[Hh]eader"):
        open_teacher(broken)
    rigid = write_run(tmp_path / "article", RECIPES["article"])
    with pytest.raises(UsageError, match=r" 32 x 32 pixels: .*teacher_image_size"):
        open_teacher(rigid, teacher_image_size=32)


def test_a_teacher_whose_backbone_lacks_its_last_layers(tmp_path: Path) -> None:
    recipe = choose_recipe("probe", network="efficientnet_b0.ra_in1k", image_size=64)
    network = architecture_for(recipe).create(2)
    assert isinstance(network, PretrainedNetwork)
    weights = network.backbone.state_dict()
    network.load_backbone_weights(
        {key: value for key, value in weights.items() if not key.startswith(("conv_head", "bn2"))}, ""
    )
    teacher = open_teacher(write_run(tmp_path, recipe, network), teacher_image_size=64)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8))
    expected = network.eval()(images.permute(0, 3, 1, 2).float()).softmax(1)
    assert torch.allclose(teacher.predict(images, full_boxes(images))[0], expected, atol=1e-3)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f" {re.escape(str(tmp_path))}\\."):
        list_unlabeled(str(tmp_path), Progress())
    with pytest.raises(UsageError, match=f"none: {os.strerror(errno.ENOENT)}"):
        list_unlabeled(str(tmp_path / "none"), Progress())


def test_result_folders_are_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "more" / "0.png", "blue")
    write_image(tmp_path / "run" / "figures" / "confusion-counts.png", "red")
    (tmp_path / "run" / MARKER_FILE).touch()
    assert [sample.path.name for sample in list_unlabeled(str(tmp_path), Progress()).samples] == ["0.png"]
    (tmp_path / MARKER_FILE).touch()  # as in a corrected copy of a data set, which is named as it is
    assert [sample.path.name for sample in list_unlabeled(str(tmp_path), Progress()).samples] == ["0.png"]


def test_a_step_follows_the_targets_and_not_the_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3)).astype(np.uint8)
    labels, targets = np.zeros(16, np.int64), np.tile(np.array([[0, 1]], np.float32), (16, 1))
    recipe = replace(
        RECIPES["quick"], batch_size=16, epochs=12, min_steps=0, whitened_stem=False, image_size_schedule=((0.0, 48),)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CompactNetwork(2, widths=(8, 8, 8), blocks=(1, 1, 1))
    config = LoopConfig(recipe, plan_batches(16, recipe), 0, Runtime(CPU))
    part = ArrayDataset(images, labels, targets)
    trainer = Trainer(network, config, DataLoader(part, CPU), DataLoader(part, CPU))
    for step in range(12):
        trainer.training_step(np.arange(16), step)
        trainer.state.step += 1
    network.eval()
    with torch.inference_mode():
        answers = network(torch.from_numpy(images).permute(0, 3, 1, 2).float()).argmax(1)
    assert (answers == 1).all()


class OneNumber(Network):
    """Two logits: a number and its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Flatten()
        self.classify = nn.Linear(3, 2, bias=False)


@pytest.mark.parametrize(("end", "weight"), [(2.0, 1.0), (-2.0, 0.25), (-9.0, 0.0)])
def test_the_best_between_a_start_and_an_end_is_chosen(end: float, weight: float) -> None:
    """The start is right; an end that goes on is taken whole, one that is wrong only as far as it does no harm."""
    network = OneNumber()

    def weights(value: float) -> dict[str, torch.Tensor]:
        return {"classify.weight": torch.tensor([[value] * 3, [-value] * 3]) / 765}

    images = np.full((4, 1, 1, 3), 255, np.uint8)
    labels = np.array([0, 0, 0, 1]) if end == -2.0 else np.zeros(4, np.int64)
    validation = DataLoader(ArrayDataset(images, labels), CPU)
    found, chosen = interpolate_weights(network, weights(1.0), weights(end), validation, Runtime(CPU))
    assert found == weight
    expected = weights(1.0)["classify.weight"].lerp(weights(end)["classify.weight"], weight)
    assert torch.allclose(chosen["classify.weight"], expected)
