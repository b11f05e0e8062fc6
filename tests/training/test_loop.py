"""The training loop: what it optimises, what it keeps, how it ends, and that it goes on exactly where it was."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from belvedere.runtime.progress import Progress, Task
from belvedere.training import loop
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.training.data_loader import DataLoader, Part
from belvedere.training.device import Hardware
from belvedere.training.distributed import Distributed
from belvedere.training.loop import Fit, Plan, Validation, fit, validate
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import count_steps

CPU = Hardware(torch.device("cpu"), torch.float32)
RECIPE = replace(
    RECIPES["article"], epochs=3, batch_size=8, learning_rate=0.03, l2_parameters=("features.conv2.weight",)
)
RICH = replace(
    RECIPES["quick"],
    epochs=3,
    min_steps=0,
    batch_size=8,
    image_size_schedule=((0, 16), (1, 48)),
    color_jitter=0.2,
    cutout_prob=0.3,
    mixup_prob=0.3,
    cutmix_prob=0.3,
    ema_decay=0.8,
    ema_start=0.3,
    weight_decay=0.1,
)


class Tiny(Network):
    """A network small enough to train in a blink, with dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv1", nn.Conv2d(3, 4, 3))
        self.features.add_module("norm", nn.BatchNorm2d(4))
        self.features.add_module("relu", nn.ReLU())
        self.features.add_module("conv2", nn.Conv2d(4, 4, 3))
        self.features.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.features.add_module("flatten", nn.Flatten())
        self.features.add_module("drop", nn.Dropout(0.2))
        self.classify = nn.Linear(4, 2)


def feeds(count: int = 52) -> tuple[DataLoader, DataLoader]:
    """Bright and dark pictures: learnt quickly."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int64)
    images = (random.integers(0, 40, (count, 8, 8, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    half = count // 2
    return DataLoader(Part(images[:half], labels[:half]), CPU), DataLoader(Part(images[half:], labels[half:]), CPU)


class Kept:
    """Every state that was kept, as a file holds it."""

    def __init__(self, folder: Path) -> None:
        self.files: list[Path] = []
        self._folder = folder

    def __call__(self, state: State) -> None:
        self.files.append(self._folder / f"{len(self.files)}.safetensors")
        write_checkpoint(state, self.files[-1])


def run(
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    kept: Kept | None = None,
    state: State | None = None,
    ranks: Distributed | None = None,
    limit_seconds: float = float("inf"),
) -> Fit:
    torch.manual_seed(1)
    train, validation = feeds()
    plan = Plan(recipe, count_steps(len(train), recipe), seed, CPU, ranks or Distributed(), limit_seconds)
    return fit(
        Tiny(),
        plan,
        train,
        validation,
        progress=progress or Progress(),
        keep=kept or (lambda _: None),
        state=state,
    )


def assert_same(first: Fit, other: Fit) -> None:
    """Bit for bit, but for the seconds."""

    def timeless(outcome: Fit) -> list[object]:
        return [replace(row, seconds=0.0, images_per_second=0.0) for row in outcome.history]

    assert timeless(first) == timeless(other)
    assert first.best_epoch == other.best_epoch
    assert first.weights.keys() == other.weights.keys()
    assert all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


@pytest.mark.parametrize("recipe", [RECIPE, replace(RICH, mixup_prob=0.0, cutmix_prob=0.0)], ids=["adam", "muon"])
def test_it_learns_and_keeps_the_best_epoch(recipe: Recipe, tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    outcome = run(replace(recipe, epochs=25), kept=kept)
    best = max(outcome.history, key=lambda row: (row.validation_accuracy, -row.validation_loss))
    assert outcome.best_epoch == best.epoch
    assert best.validation_accuracy > 0.9
    assert [row.epoch for row in outcome.history] == list(range(1, 26))
    assert len(kept.files) == 25
    network = Tiny()
    network.load_state_dict(outcome.weights)
    found = validate(network, feeds()[1], CPU, Distributed())
    assert (found.loss, found.accuracy) == pytest.approx((best.validation_loss, best.validation_accuracy))
    assert found.calibrated_loss <= found.loss + 1e-6


@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["adam", "muon"])
def test_the_same_seed_gives_the_same_weights_and_another_does_not(recipe: Recipe) -> None:
    first, again, other = run(recipe, seed=3), run(recipe, seed=3), run(recipe, seed=4)
    assert_same(first, again)
    assert not all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_training_leaves_torchs_random_state_alone() -> None:
    torch.manual_seed(1)
    Tiny()
    state = torch.random.get_rng_state()
    run()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["adam", "muon"])
def test_it_goes_on_from_any_step_as_if_nothing_had_been(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = run(recipe, kept=kept)
    states = [read_checkpoint(file) for file in kept.files]
    assert [state.step for state in states] == list(range(1, 13))  # 26 pictures: four batches an epoch
    assert [len(state.history) for state in states] == [step // 4 for step in range(1, 13)]
    for state in states:
        assert_same(run(recipe, state=state), whole)


def test_where_nothing_is_left_to_do_it_gives_what_was_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    whole = run(kept=kept)
    again = Kept(tmp_path)
    assert_same(run(state=read_checkpoint(kept.files[-1]), kept=again), whole)
    assert again.files == []


def test_an_unfinished_epoch_shows_what_it_has_taken_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar: what a training took up again has behind it counts as done, and in the end all of it is."""
    taken: list[int] = []

    class Counts(Progress):
        @contextmanager
        def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
            class Counting(Task):
                def advance(self, images: int, figures: str = "") -> None:
                    taken.append(images)

            yield Counting()
            assert sum(taken) == images == 3 * 26

    kept = Kept(tmp_path)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    run(kept=kept, progress=Counts())
    assert taken == [0, *[8, 8, 8, 2] * 3]
    taken.clear()
    run(state=read_checkpoint(kept.files[5]), progress=Counts())
    assert taken == [26 + 16, 8, 2, 8, 8, 8, 2]


def test_when_the_time_is_up_it_validates_and_ends(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    outcome = run(RICH, limit_seconds=0, kept=kept)
    assert [row.epoch for row in outcome.history] == [1]
    assert outcome.weights
    assert not outcome.interrupted
    [file] = kept.files
    state = read_checkpoint(file)
    assert (state.step, state.limit_seconds) == (1, 0)
    assert_same(run(RICH, limit_seconds=0, state=state), outcome)


def test_the_first_process_says_when_the_time_is_up() -> None:
    """Were each to look at its own clock, one could end while another waits for it."""

    class Led(Distributed):
        def agree(self, value: int) -> int:
            return 1

    assert len(run(limit_seconds=1e9, ranks=Led()).history) == 1


class EndsAfter(Progress):
    """Presses Ctrl-C when so many epochs are done."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.lines = epochs, 0

    def say(self, message: str) -> None:
        self.lines += message.startswith("epoch")
        if self.lines == self.epochs:
            raise KeyboardInterrupt


def test_control_c_keeps_what_was_completed() -> None:
    outcome = run(replace(RECIPE, epochs=50), progress=EndsAfter(2))
    assert outcome.interrupted
    assert len(outcome.history) == 2
    assert outcome.best_epoch in (1, 2)
    assert outcome.weights


def test_an_epoch_whose_loss_is_no_number_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are no numbers may be right by chance: they are the first class."""
    assert RECIPE.checkpoint_metric == "accuracy"
    runaway = Validation(math.nan, 0.9, math.nan)
    found = [runaway, Validation(0.7, 0.5, 0.7), runaway]
    monkeypatch.setattr(loop, "validate", lambda *_: found.pop(0))
    assert run().best_epoch == 2
    monkeypatch.setattr(loop, "validate", lambda *_: runaway)
    outcome = run()
    assert (outcome.best_epoch, outcome.weights, len(outcome.history)) == (0, {}, 3)
