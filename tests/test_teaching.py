"""A teacher's answers beside the labels, and weights between a start and an end."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from belvedere.errors import UsageError
from belvedere.model import load
from belvedere.progress import Progress
from belvedere.records import Sample
from belvedere.splits import Contents
from belvedere.training.between import choose_between
from belvedere.training.device import Hardware
from belvedere.training.feed import Feed, Part
from belvedere.training.loop import Plan, Training
from belvedere.training.networks import CompactNetwork
from belvedere.training.networks.registry import Network
from belvedere.training.ranks import Ranks
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import count_steps
from belvedere.training.teaching import find_teacher, find_unlabelled
from conftest import write_picture

CPU = Hardware(torch.device("cpu"), torch.float32)
NAMES = ("blue", "green", "red")


def taught_by(model: Path, **changes: object) -> Recipe:
    return replace(RECIPES["quick"], teacher=str(model), **changes)  # type: ignore[arg-type]


def test_labels_and_answers_are_mixed(tiny_model: Path, tmp_path: Path) -> None:
    teacher = find_teacher(taught_by(tiny_model, teacher_share=0.6, label_smoothing=0.1), NAMES)
    assert teacher is not None
    paths = [write_picture(tmp_path / f"{name}.png", name) for name in ("red", "blue")]
    hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    contents = Contents(tuple(Sample(path, path.name, "green", "train") for path in paths), hashes, ())
    found = teacher.targets(contents, np.array([1, -1]), Progress())
    said = np.array([answer.probabilities for answer in load(tiny_model).predict(paths)])
    label = 0.9 * np.array([0, 1, 0]) + 0.1 / 3
    assert found[0] == pytest.approx(0.6 * said[0] + 0.4 * label, abs=1e-6)
    assert found[1] == pytest.approx(said[1], abs=1e-6)  # without a label, the answer is all
    assert find_teacher(RECIPES["quick"], NAMES) is None
    tagged = replace(contents, samples=(replace(contents.samples[0], also=("blue",)), contents.samples[1]))
    both = 0.9 * np.array([0.5, 0.5, 0]) + 0.1 / 3  # every label of a photograph counts
    assert teacher.targets(tagged, np.array([1, -1]), Progress())[0] == pytest.approx(
        0.6 * said[0] + 0.4 * both, abs=1e-6
    )


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There are no pictures in .*--unlabelled"):
        find_unlabelled(str(tmp_path), Progress())
    with pytest.raises(UsageError, match=r"Can't read the folder .*none"):
        find_unlabelled(str(tmp_path / "none"), Progress())


def test_a_step_follows_the_targets_and_not_the_labels() -> None:
    """All labels are the first class, and the teacher says the second: that is what is learnt."""
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3)).astype(np.uint8)
    labels, targets = np.zeros(16, np.int64), np.tile(np.array([[0, 1]], np.float32), (16, 1))
    recipe = replace(RECIPES["quick"], batch_size=16, epochs=12, least_steps=0, whiten=False, side_plan=((0.0, 48),))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CompactNetwork(2, widths=(8, 8, 8), blocks=(1, 1, 1))
    plan = Plan(recipe, count_steps(16, recipe), 0, CPU, Ranks())
    part = Part(images, labels, targets)
    training = Training(network, plan, Feed(part, CPU), Feed(part, CPU), lambda _: None)
    for step in range(12):
        training.take_step(np.arange(16), step)
        training.state.step += 1
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


@pytest.mark.parametrize(("end", "share"), [(2.0, 1.0), (-2.0, 0.25), (-9.0, 0.0)])
def test_the_best_between_a_start_and_an_end_is_chosen(end: float, share: float) -> None:
    """The start is right; an end that goes on is taken whole, one that is wrong only as far as it does no harm."""
    network = OneNumber()

    def weights(value: float) -> dict[str, torch.Tensor]:
        return {"classify.weight": torch.tensor([[value] * 3, [-value] * 3]) / 765}

    images = np.full((4, 1, 1, 3), 255, np.uint8)
    labels = np.array([0, 0, 0, 1]) if end == -2.0 else np.zeros(4, np.int64)
    validation = Feed(Part(images, labels), CPU)
    found, chosen = choose_between(network, weights(1.0), weights(end), validation, CPU, Ranks())
    assert found == share
    expected = weights(1.0)["classify.weight"].lerp(weights(end)["classify.weight"], share)
    assert torch.allclose(chosen["classify.weight"], expected)
