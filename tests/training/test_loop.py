"""Training loop: optimization, selection of the best epoch, limits, and exact resuming."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from belvedere.errors import StopTraining, TrainingError
from belvedere.runtime.progress import Progress, Task
from belvedere.training import loop
from belvedere.training.augment import CropBoxes, augment, sample_crops
from belvedere.training.callbacks import Callback, CallbackRunner
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.training.custom_augment import Augment, apply_augment
from belvedere.training.data_loader import ArrayDataset, DataLoader, SoftTargets
from belvedere.training.device import Device, Runtime
from belvedere.training.distributed import Distributed
from belvedere.training.loop import FitResult, LoopConfig, ValidationResult, run_loop, validate
from belvedere.training.losses import mixed_loss
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import plan_batches
from belvedere.types.evaluation import EpochMetrics

CPU = Device(torch.device("cpu"), torch.float32)
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
    """A small network with dropout and batch norm."""

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


def loaders(count: int = 52) -> tuple[DataLoader, DataLoader]:
    """Bright and dark images."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int64)
    images = (random.integers(0, 40, (count, 8, 8, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8)
    half = count // 2
    return DataLoader(ArrayDataset(images[:half], labels[:half]), CPU), DataLoader(
        ArrayDataset(images[half:], labels[half:]), CPU
    )


class Kept:
    """Writes every checkpoint to a file of its own."""

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
    kept: Callable[[State], None] = lambda _: None,
    state: State | None = None,
    distributed: Distributed | None = None,
    limit_seconds: float = float("inf"),
    data: tuple[DataLoader, DataLoader] | None = None,
    augment: Augment | None = None,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    torch.manual_seed(1)
    train, validation = data or loaders()
    runtime = Runtime(CPU, distributed or Distributed(), progress or Progress())
    config = LoopConfig(recipe, plan_batches(len(train), recipe), seed, runtime, limit_seconds, augment)
    return run_loop(Tiny(), config, train, validation, kept, state, CallbackRunner(callbacks))


def assert_same(first: FitResult, other: FitResult) -> None:
    """Bit for bit, but for the seconds."""

    def timeless(outcome: FitResult) -> list[object]:
        return [replace(row, seconds=0.0, images_per_second=0.0) for row in outcome.history]

    assert timeless(first) == timeless(other)
    assert first.best_epoch == other.best_epoch
    assert first.weights.keys() == other.weights.keys()
    assert all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


@pytest.mark.parametrize("recipe", [RECIPE, replace(RICH, mixup_prob=0.0, cutmix_prob=0.0)], ids=["adam", "muon"])
def test_the_best_epoch_is_kept(recipe: Recipe, tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    outcome = run(replace(recipe, epochs=25), kept=kept)
    best = max(outcome.history, key=lambda row: (row.validation_accuracy, -row.validation_loss))
    assert outcome.best_epoch == best.epoch
    assert best.validation_accuracy > 0.9
    assert [row.epoch for row in outcome.history] == list(range(1, 26))
    assert len(kept.files) == 25
    network = Tiny()
    network.load_state_dict(outcome.weights)
    found = validate(network, loaders()[1], Runtime(CPU))
    assert (found.loss, found.accuracy) == pytest.approx((best.validation_loss, best.validation_accuracy))
    assert found.calibrated_loss <= found.loss + 1e-6


@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["adam", "muon"])
def test_the_same_seed_gives_the_same_weights_and_another_does_not(recipe: Recipe) -> None:
    first, again, other = run(recipe, seed=3), run(recipe, seed=3), run(recipe, seed=4)
    assert_same(first, again)
    assert not all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_torchs_random_state_is_restored() -> None:
    torch.manual_seed(1)
    Tiny()
    state = torch.random.get_rng_state()
    run()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["adam", "muon"])
def test_resuming_from_any_step_gives_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = run(recipe, kept=kept)
    states = [read_checkpoint(file) for file in kept.files]
    assert [state.step for state in states] == list(range(1, 13))  # 26 images: four batches an epoch
    assert [len(state.history) for state in states] == [step // 4 for step in range(1, 13)]
    for state in states:
        assert_same(run(recipe, state=state), whole)


def test_a_finished_training_is_resumed_without_steps(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    whole = run(kept=kept)
    again = Kept(tmp_path)
    assert_same(run(state=read_checkpoint(kept.files[-1]), kept=again), whole)
    assert again.files == []


def test_progress_counts_the_images_before_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_time_limit_ends_with_a_validation(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    outcome = run(RICH, limit_seconds=0, kept=kept)
    assert [row.epoch for row in outcome.history] == [1]
    assert outcome.weights
    assert not outcome.interrupted
    [file] = kept.files
    state = read_checkpoint(file)
    assert (state.step, state.limit_seconds) == (1, 0)
    assert_same(run(RICH, limit_seconds=0, state=state), outcome)


def test_the_clock_of_the_main_process_counts() -> None:

    class Led(Distributed):
        def broadcast(self, value: int) -> int:
            return 1

    assert len(run(limit_seconds=1e9, distributed=Led()).history) == 1


class EndsAfter(Progress):
    """Raises KeyboardInterrupt after a number of epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.lines = epochs, 0

    def log(self, message: str) -> None:
        self.lines += message.startswith("epoch")
        if self.lines == self.epochs:
            raise KeyboardInterrupt


def test_the_average_of_the_weights_is_validated(tmp_path: Path) -> None:
    """EMA of weights and batch-norm statistics, from `ema_start` on; counters are copied."""
    recipe, kept = replace(RICH, ema_decay=0.5, ema_start=0.5, checkpoint_metric="calibrated_log_loss"), Kept(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        result = run(recipe, kept=kept)
    states = [read_checkpoint(file).tensors for file in kept.files]
    weights = [state["network/features.norm.running_mean"] for state in states]
    expected = weights[6]  # after the first half of 12 steps
    for values in weights[7:]:
        expected = expected.lerp(values, 0.5)
    final = states[-1]
    assert torch.allclose(final["average/module.features.norm.running_mean"], expected)
    assert int(final["average/module.features.norm.num_batches_tracked"]) == 12
    assert int(final["average/n_averaged"]) == 6
    if result.best_epoch == 3:
        assert torch.equal(
            result.weights["features.norm.running_mean"], final["average/module.features.norm.running_mean"]
        )


def test_control_c_keeps_the_completed_epochs() -> None:
    outcome = run(replace(RECIPE, epochs=50), progress=EndsAfter(2))
    assert outcome.interrupted
    assert len(outcome.history) == 2
    assert outcome.best_epoch in (1, 2)
    assert outcome.weights


def test_an_epoch_with_a_nan_loss_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RECIPE.checkpoint_metric == "accuracy"
    runaway = ValidationResult(math.nan, 0.9, math.nan)
    found = [runaway, ValidationResult(0.7, 0.5, 0.7), runaway]
    monkeypatch.setattr(loop, "validate", lambda *_: found.pop(0))
    assert run().best_epoch == 2
    monkeypatch.setattr(loop, "validate", lambda *_: runaway)
    outcome = run()
    assert (outcome.best_epoch, outcome.weights, len(outcome.history)) == (0, {}, 3)


# By hand


@pytest.mark.parametrize(
    ("metric", "found", "best"),
    [  # (accuracy, calibrated loss) of two epochs
        ("accuracy", [(0.8, 0.5), (0.8, 0.5)], 1),  # of equals the first
        ("accuracy", [(0.8, 0.5), (0.8, 0.4)], 2),
        ("accuracy", [(0.8, 0.5), (0.8, 0.6)], 1),
        ("accuracy", [(0.8, 0.5), (0.9, 0.9)], 2),
        ("accuracy", [(0.9, 0.9), (0.8, 0.1)], 1),
        ("calibrated_log_loss", [(0.8, 0.5), (0.8, 0.5)], 1),
        ("calibrated_log_loss", [(0.8, 0.5), (0.9, 0.5)], 2),
        ("calibrated_log_loss", [(0.8, 0.5), (0.7, 0.5)], 1),
        ("calibrated_log_loss", [(0.8, 0.5), (0.1, 0.4)], 2),
        ("calibrated_log_loss", [(0.1, 0.4), (0.9, 0.5)], 1),
    ],
)
def test_choice_of_the_checkpoint(
    metric: Literal["accuracy", "calibrated_log_loss"],
    found: list[tuple[float, float]],
    best: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [ValidationResult(1.0 + epoch, accuracy, loss) for epoch, (accuracy, loss) in enumerate(found)]
    monkeypatch.setattr(loop, "validate", lambda *_: rows.pop(0))
    states: list[dict[str, torch.Tensor]] = []

    def keep(state: State) -> None:
        states.append({name: tensor.clone() for name, tensor in state.tensors.items()})
        assert state.best == max(score(each) for each in found[: len(states)])

    def score(row: tuple[float, float]) -> tuple[float, float]:
        return (row[0], -row[1]) if metric == "accuracy" else (-row[1], row[0])

    outcome = run(replace(RECIPE, epochs=2, checkpoint_metric=metric), kept=keep)
    assert outcome.best_epoch == best
    assert [
        (row.validation_loss, row.validation_accuracy, row.calibrated_validation_loss) for row in outcome.history
    ] == [(1.0, *found[0]), (2.0, *found[1])]
    for name, weights in outcome.weights.items():
        assert torch.equal(weights, states[best - 1][f"network/{name}"])


@pytest.mark.parametrize(("start", "averaged"), [(0.0, 4), (0.25, 3), (0.3, 2), (0.5, 2), (0.75, 1), (0.76, 0)])
def test_average_starts_at_its_fraction_of_the_training(
    start: float, averaged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One epoch of four steps, at 0, 1/4, 1/2 and 3/4 of the training; the average begins with the weights it finds."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    steps: list[dict[str, torch.Tensor]] = []

    def keep(state: State) -> None:
        groups = {name: tensor.clone() for name, tensor in state.tensors.items() if name.startswith("network/")}
        steps.append({name.removeprefix("network/"): tensor for name, tensor in groups.items()})

    outcome = run(replace(RECIPE, epochs=1, ema_decay=0.75, ema_start=start), kept=keep)
    expected = steps[-averaged] if averaged else steps[-1]
    for weights in steps[len(steps) - averaged + 1 :] if averaged else []:
        expected = {name: torch.lerp(value.float(), weights[name].float(), 0.25) for name, value in expected.items()}
    assert len(steps) == 4
    for name, value in outcome.weights.items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-7), name


class Clock:
    """A clock that only the network moves: half a second a training step, a quarter a validation batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(loop, "time", self)
        forward = Tiny.forward

        def slow(network: Tiny, pixels: torch.Tensor) -> torch.Tensor:
            self.now += 0.5 if network.training else 0.25
            return forward(network, pixels)

        monkeypatch.setattr(Tiny, "forward", slow)

    def perf_counter(self) -> float:
        return self.now


def test_times_and_rates_of_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """26 images are four steps of half a second; validation counts in the whole, not in the epoch."""
    Clock(monkeypatch)
    states: list[tuple[int, float, int, float]] = []
    recipe = replace(RECIPE, epochs=2, learning_rate=0.5, learning_rate_schedule=((0.0, 1.0), (1.0, 0.2)))
    outcome = run(
        recipe, kept=lambda state: states.append((state.step, state.seconds, state.epoch_images, state.epoch_seconds))
    )
    assert [(row.seconds, row.images_per_second) for row in outcome.history] == [(2.0, 13.0)] * 2
    assert [row.learning_rate for row in outcome.history] == pytest.approx([0.5 * 0.6, 0.5 * 0.2])
    assert states == [(4, 2.25, 0, 0.0), (8, 4.5, 0, 0.0)]


@pytest.mark.parametrize(
    ("limit", "steps"),
    [(0.1, [1]), (0.5, [1]), (0.6, [2]), (1.5, [3]), (2.0, [4]), (2.25, [4]), (2.3, [4, 5]), (4.5, [4, 8])],
)
def test_time_limit_ends_training_at_the_step_that_reaches_it(
    limit: float, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    taken: list[int] = []
    run(limit_seconds=limit, kept=lambda state: taken.append(state.step))
    assert taken == steps


@pytest.mark.parametrize(
    ("interval", "steps"), [(0.5, [1, 2, 3, 4]), (0.6, [2, 4]), (1.0, [2, 4]), (1.5, [3, 4]), (2.0, [4])]
)
def test_checkpoints_within_an_epoch(interval: float, steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", interval)
    taken: list[tuple[int, int]] = []
    run(replace(RECIPE, epochs=1), kept=lambda state: taken.append((state.step, state.epoch_images)))
    assert taken == [(step, 0 if step == 4 else 8 * step) for step in steps]


def test_figures_beside_the_bar_are_means_over_the_epoch_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_METRICS", 1.0)
    shown: list[tuple[str, int, str, str]] = []

    class Shows(Progress):
        @contextmanager
        def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
            class Showing(Task):
                def advance(self, images: int, figures: str = "") -> None:
                    shown.append((description, images, unit, figures))

            yield Showing()
            assert images == 2 * 26

    batches = record(monkeypatch)
    outcome = run(replace(RECIPE, epochs=2), progress=Shows())
    assert [row[:3] for row in shown] == [("Training", each, "images") for each in (0, 8, 8, 8, 2, 8, 8, 8, 2)]

    def line(epoch: int, first: int, stop: int) -> str:
        loss, accuracy = means(batches[first:stop])
        return f"epoch {epoch}/2 loss {loss:.3f} accuracy {accuracy:.1%}"

    assert [row[3] for row in shown] == [
        *["", "", line(1, 0, 2), line(1, 0, 2), line(1, 0, 4)],
        *["", line(2, 4, 6), line(2, 4, 6), line(2, 4, 8)],
    ]
    for epoch, row in enumerate(outcome.history):
        assert (row.loss, row.accuracy) == pytest.approx(means(batches[4 * epoch : 4 * epoch + 4]))


Batch = tuple[torch.Tensor, torch.Tensor, float]  # logits, labels, loss


def record(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Record the training batches of `run`."""
    batches: list[Batch] = []
    loss = mixed_loss

    def recorded(logits: torch.Tensor, targets: torch.Tensor, *rest: float) -> torch.Tensor:
        found = loss(logits, targets, *rest)
        batches.append((logits.detach().clone(), targets.clone(), float(found.detach())))
        return found

    monkeypatch.setattr(loop, "mixed_loss", recorded)
    return batches


def means(batches: list[Batch]) -> tuple[float, float]:
    count = sum(len(labels) for _, labels, _ in batches)
    correct = sum(int((logits.argmax(1) == labels).sum()) for logits, labels, _ in batches)
    return sum(loss * len(labels) for _, labels, loss in batches) / count, correct / count


def test_the_images_that_are_mirrored_alternate_by_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def sample(mirrored: Any, *rest: Any) -> CropBoxes:
        drawn.append(int(mirrored.sum()))
        return sample_crops(mirrored, *rest)

    monkeypatch.setattr(loop, "sample_crops", sample)
    run(replace(RICH, batch_size=26))
    first, second, third = drawn
    assert first + second == 26
    assert first == third != second


def test_line_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    monkeypatch.setattr(loop, "validate", lambda *_: ValidationResult(0.12345, 0.75, 0.1))
    lines: list[str] = []

    class Lines(Progress):
        def log(self, message: str) -> None:
            lines.append(message)

    [row] = run(replace(RECIPE, epochs=1), progress=Lines()).history
    assert lines == [
        f"epoch 1/1    2.0 s    13 images/s  loss {row.loss:.3f}  {row.accuracy:6.1%}  validation 0.123   75.0%"
    ]


@pytest.mark.parametrize("soft", [False, True])
def test_labels_are_smoothed_and_soft_targets_are_not(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    smoothings: list[tuple[float, float]] = []

    def loss(logits: torch.Tensor, targets: torch.Tensor, weight: float, smoothing: float) -> torch.Tensor:
        assert targets.shape == ((len(logits), 2) if soft else (len(logits),))
        smoothings.append((weight, smoothing))
        return logits.sum()

    monkeypatch.setattr(loop, "mixed_loss", loss)
    train, validation = loaders()
    if soft:
        rows = np.arange(26)
        images, labels = train.load_batch(rows)
        targets = np.eye(2, dtype=np.float32)[labels.numpy()]
        train = DataLoader(ArrayDataset(images.numpy(), labels.numpy(), targets), CPU)
    run(replace(RECIPE, epochs=1, label_smoothing=0.2), data=(train, validation))
    assert smoothings == [(1.0, 0.0 if soft else 0.2)] * 4


def test_alternating_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the images, by the seed, are mirrored in the odd epochs, the others in the even ones."""
    plain = replace(
        RICH, epochs=2, color_jitter=0.0, cutout_prob=0.0, mixup_prob=0.0, cutmix_prob=0.0, crop_scale=(1.0, 1.0)
    )
    recipe = replace(plain, crop_ratio=(1.0, 1.0), image_size_schedule=((0, 32),), ema_decay=0.0)
    assert recipe.alternating_flip
    seen: list[torch.Tensor] = []
    forward = Tiny.forward

    def watched(network: Tiny, pixels: torch.Tensor) -> torch.Tensor:
        if network.training:
            seen.extend(pixels.detach().clone())
        return forward(network, pixels)

    monkeypatch.setattr(Tiny, "forward", watched)
    for flips in (True, False):
        seen.clear()
        run(replace(recipe, alternating_flip=flips), seed=5)
        order = np.random.default_rng(5)
        epochs = []
        for epoch in range(2):
            rows = order.permutation(26)
            epochs.append(torch.stack(seen[26 * epoch : 26 * epoch + 26])[np.argsort(rows)])
        first, second = epochs
        mirrored = np.random.default_rng((5, 1)).random(26) < 0.5
        assert torch.allclose(second, first.flip(3) if flips else first, atol=1e-3)
        images, _ = loaders()[0].load_batch(np.arange(26))
        left = images.float().permute(0, 3, 1, 2)[..., :4].mean((1, 2, 3))
        shown = first[..., :16].mean((1, 2, 3))
        expected = images.float().permute(0, 3, 1, 2)[..., 4:].mean((1, 2, 3)) if flips else left
        assert torch.allclose(shown[mirrored], expected[mirrored], atol=1)
        assert torch.allclose(shown[~mirrored], left[~mirrored], atol=1)


@pytest.mark.parametrize("batch", [5, 40, 128])
def test_validation_by_hand(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "VALIDATION_BATCH", batch)
    torch.manual_seed(0)
    network, (_, data) = Tiny().train(), loaders(80)
    images, labels = data.load_batch(np.arange(40))
    found = validate(network, data, Runtime(CPU))
    assert not network.training
    with torch.no_grad():
        logits = network(images.permute(0, 3, 1, 2).float())
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert found.accuracy == float((logits.argmax(1) == labels).double().mean())
    best = min(float(nn.functional.cross_entropy(logits / each, labels)) for each in np.logspace(-1, 1, 400))
    assert found.calibrated_loss == pytest.approx(best, abs=1e-3)
    assert loop.predict_logits(network, data, Runtime(CPU)) == pytest.approx(logits.numpy(), abs=1e-4)


def test_processes_share_the_images_to_validate() -> None:
    """Each of three predicts every third image; the mean over all, times three, is the whole."""

    class Third(Distributed):
        def all_reduce_mean(self, tensors: Iterable[torch.Tensor]) -> None:
            for tensor in tensors:
                tensor /= self.world_size

    torch.manual_seed(0)
    network, (_, data) = Tiny(), loaders()
    whole = loop.predict_logits(network, data, Runtime(CPU))
    outputs = [loop.predict_logits(network, data, Runtime(CPU, Third(rank, 3))) for rank in range(3)]
    assert sum(outputs) == pytest.approx(whole, abs=1e-5)
    for rank, output in enumerate(outputs):
        assert (np.flatnonzero(output.any(1)) % 3 == rank).all()


def test_weights_are_copied() -> None:
    network = Tiny()
    copied = loop.copy_weights(network)
    before = {name: tensor.clone() for name, tensor in copied.items()}
    with torch.no_grad():
        for weights in network.state_dict().values():
            weights += 1
    assert all(torch.equal(copied[name], before[name]) for name in copied)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in copied.values())


@pytest.mark.parametrize("soft", [False, True])
def test_a_step_weights_the_classes_of_the_training_images(soft: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 images of one class and 8 of the other: the weights are 2/3 and 2."""
    random, labels = np.random.default_rng(3), np.repeat([0, 1], [24, 8]).astype(np.int64)
    images = random.integers(0, 255, (32, 8, 8, 3)).astype(np.uint8)
    targets = np.where(labels[:, None] == [0, 1], np.float32(0.75), np.float32(0.25)) if soft else None
    train = DataLoader(ArrayDataset(images, labels, targets), CPU)
    seen: list[torch.Tensor] = []
    forward = Tiny.forward

    def watched(network: Tiny, pixels: torch.Tensor) -> torch.Tensor:
        logits = forward(network, pixels)
        if network.training:
            seen.append(logits.detach().clone())
        return logits

    monkeypatch.setattr(Tiny, "forward", watched)
    recipe = replace(RECIPE, epochs=1, batch_size=32, class_weighting="balanced", label_smoothing=0.5)
    [row] = run(recipe, data=(train, loaders()[1]), seed=4).history
    rows = np.random.default_rng(4).permutation(32)
    logarithms = torch.log_softmax(seen[0].double(), 1).numpy()
    right, wrong = (logarithms[np.arange(32), each] for each in (labels[rows], 1 - labels[rows]))
    weights = np.where(labels[rows] == 0, 2 / 3, 2)
    assert row.loss == pytest.approx(float(-(weights * (0.75 * right + 0.25 * wrong)).mean()), rel=1e-5)


def test_a_teacher_gives_crops_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crops of each image, each with its target, in turn."""
    random, labels = np.random.default_rng(3), (np.arange(8) % 2).astype(np.int64)
    images = random.integers(0, 255, (8, 8, 12, 3)).astype(np.uint8)
    weight = random.random((8, 2, 1), np.float32)
    crops = random.uniform(0.1, 0.5, (8, 2, 4)).astype(np.float32)
    soft = SoftTargets(crops, np.concatenate([weight, 1 - weight], 2))
    train = DataLoader(ArrayDataset(images, labels, soft_targets=soft), CPU)
    boxes: list[CropBoxes] = []

    def watched(pixels: torch.Tensor, given: CropBoxes, *rest: Any) -> torch.Tensor:
        boxes.append(given)
        return augment(pixels, given, *rest)

    def loss(logits: torch.Tensor, given: torch.Tensor, *_: float) -> torch.Tensor:
        targets.append(given)
        return logits.sum()

    targets: list[torch.Tensor] = []
    monkeypatch.setattr(loop, "augment", watched)
    monkeypatch.setattr(loop, "mixed_loss", loss)
    recipe = replace(RICH, epochs=4, batch_size=8, mixup_prob=0.0, cutmix_prob=0.0, label_smoothing=0.1)
    run(recipe, data=(train, loaders()[1]), seed=6)
    order = np.random.default_rng(6)
    for epoch in range(4):
        rows = order.permutation(8)
        view = (rows + epoch // 2) % 2
        assert np.allclose(boxes[epoch].top, crops[rows, view, 0] * 8)
        assert np.allclose(boxes[epoch].width, crops[rows, view, 3] * 12)
        assert np.array_equal(targets[epoch].numpy(), soft.targets[rows, view])


def test_the_users_augmentation_draws_from_seed_and_step() -> None:
    drawn: list[float] = []

    def draw(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn.append(float(torch.rand((), generator=generator)))
        return pixels

    run(replace(RECIPE, epochs=1), seed=9, augment=draw)
    steps, drawn[:] = list(drawn), []
    for step in range(len(steps)):
        apply_augment(draw, torch.zeros(1, 3, 4, 4), (9, 3, step, 0))
    assert steps == drawn
    assert len(set(steps)) == 4


@pytest.mark.parametrize(("epoch", "early"), [(1, True), (2, True), (3, False)])
def test_a_callback_receives_the_metrics_and_ends_the_loop(epoch: int, early: bool) -> None:
    class Stop(Callback):
        def on_epoch_end(self, metrics: EpochMetrics) -> None:
            received.append(metrics)
            if metrics.epoch == epoch:
                raise StopTraining("enough")

    received: list[EpochMetrics] = []
    outcome = run(callbacks=[Stop()])
    assert outcome.history == tuple(received)
    assert len(received) == epoch
    assert outcome.stopped_early is early
    assert not outcome.interrupted
    assert outcome.interpolation is None


def test_statistics_of_both_networks_are_averaged_over_the_processes() -> None:
    """The sums and the batch-norm statistics of the network, then those of the average, after every epoch."""

    class Recording(Distributed):
        def all_reduce_mean(self, tensors: Iterable[torch.Tensor]) -> None:
            shapes.append([tuple(tensor.shape) for tensor in tensors])

    shapes: list[list[tuple[int, ...]]] = []
    run(replace(RECIPE, epochs=1), distributed=Recording())
    statistics = [(4,), (4,)]  # mean and variance of the batch norm
    assert shapes == [[(2,), *statistics], [(26, 2)]]
    shapes.clear()
    run(replace(RECIPE, epochs=1, ema_decay=0.5, ema_start=0.0), distributed=Recording())
    assert shapes == [[(2,), *statistics], statistics, [(26, 2)]]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    run(replace(RECIPE, epochs=1), kept=kept)
    state = read_checkpoint(kept.files[0])
    assert state.total_steps == 4
    state.tensors = {f"{name}s" if "conv1" in name else name: tensor for name, tensor in state.tensors.items()}
    with pytest.raises(TrainingError) as raised:
        run(replace(RECIPE, epochs=1), state=state)
    assert str(raised.value.__cause__).split()[0] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_embeddings_of_a_teacher_add_to_the_loss_of_unmixed_batches() -> None:
    random = np.random.default_rng(5)
    images = random.integers(0, 255, (8, 8, 12, 3)).astype(np.uint8)
    crops, targets = np.tile(np.array([0, 0, 1, 1], np.float32), (8, 1, 1)), np.full((8, 1, 2), 0.5, np.float32)
    embeddings = random.normal(size=(8, 1, 3)).astype(np.float32)
    losses = {}
    for name, weight, mixup in (("alone", 0.0, 0.0), ("with", 0.5, 0.0), ("mixed", 0.5, 0.99), ("mix", 0.0, 0.99)):
        soft = SoftTargets(crops, targets, embeddings if weight else None)
        train = DataLoader(ArrayDataset(images, np.zeros(8, np.int64), soft_targets=soft), CPU)
        recipe = replace(
            RICH, epochs=1, batch_size=8, mixup_prob=mixup, cutmix_prob=0.0, distillation_embedding_weight=weight
        )
        losses[name] = run(recipe, data=(train, loaders()[1]), seed=6).history[0].loss
    assert losses["alone"] < losses["with"] < losses["alone"] + 0.5  # CKA is between 0 and 1
    assert losses["mixed"] == losses["mix"]
