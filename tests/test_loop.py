"""The training loop: what it optimises, what it keeps, and how it ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from belvedere.progress import Progress
from belvedere.records import EpochFigures
from belvedere.training.device import Hardware
from belvedere.training.loop import Fit, Part, _adam, _batches, fit, validate
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES

CPU = Hardware(torch.device("cpu"), torch.float32)
RECIPE = replace(RECIPES["article"], epochs=3, batch_size=8, l2_kernels=("features.0.weight",))


class Tiny(Network):
    """A network small enough to train in a blink."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)
        )
        self.classify = nn.Linear(4, 2)


def parts(count: int = 48) -> tuple[Part, Part]:
    """Bright and dark pictures: learnt quickly."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int64)
    images = (random.integers(0, 4, (count, 8, 8, 3)) + 4 * labels[:, None, None, None]).astype(np.uint8)
    rows = np.arange(count)
    return Part(images, labels, rows[: count // 2]), Part(images, labels, rows[count // 2 :])


def run(seed: int = 0, epochs: int = 3, progress: Progress | None = None, calls: list[object] | None = None) -> Fit:
    torch.manual_seed(1)
    train, validation = parts()

    def on_epoch(history: tuple[EpochFigures, ...], best: dict[str, Tensor] | None) -> None:
        if calls is not None:
            calls.append((len(history), best is not None))

    return fit(
        Tiny(),
        replace(RECIPE, epochs=epochs, learning_rate=0.03),
        train,
        validation,
        seed=seed,
        hardware=CPU,
        progress=progress or Progress(),
        on_epoch=on_epoch,
    )


def test_it_learns_and_keeps_the_best_epoch() -> None:
    calls: list[object] = []
    outcome = run(epochs=25, calls=calls)
    best = max(outcome.history, key=lambda row: (row.validation_accuracy, -row.validation_loss))
    assert outcome.best_epoch == best.epoch
    assert best.validation_accuracy > 0.9
    assert [row.epoch for row in outcome.history] == list(range(1, 26))
    assert len(calls) == 25
    network = Tiny()
    network.load_state_dict(outcome.weights)
    loss, accuracy = validate(network, parts()[1], CPU)
    assert (loss, accuracy) == pytest.approx((best.validation_loss, best.validation_accuracy))


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert not all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_training_leaves_torchs_random_state_alone() -> None:
    torch.manual_seed(1)
    Tiny()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    train, validation = parts()
    network = Tiny()
    torch.random.set_rng_state(state)
    fit(
        network,
        RECIPE,
        train,
        validation,
        seed=0,
        hardware=CPU,
        progress=Progress(),
        on_epoch=lambda *_: None,
    )
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17, 25])
def test_batches_hold_every_row_once_and_none_is_left_alone(count: int) -> None:
    train, _ = parts(60)
    rows = np.random.default_rng(0).permutation(count)
    labels = Part(train.images, np.arange(60), rows)
    batches = [batch.tolist() for _, batch in _batches(labels, rows, 8, CPU)]
    assert [row for batch in batches for row in batch] == rows.tolist()
    assert all(1 < len(batch) <= 9 for batch in batches) or count == 1


def test_weight_decay_is_keras_l2() -> None:
    """Keras adds 0.01 * sum(w^2) to the loss; only the fourth convolution's kernel has it."""
    torch.manual_seed(0)
    network = ArticleNetwork(3)
    optimiser = _adam(network, RECIPES["article"])
    decayed = {id(weights) for group in optimiser.param_groups if group["weight_decay"] for weights in group["params"]}
    kernel = dict(network.named_parameters())["features.conv4.weight"]
    assert decayed == {id(kernel)}
    penalty = 0.01 * kernel.square().sum()
    (gradient,) = torch.autograd.grad(penalty, kernel)
    [decay] = [group["weight_decay"] for group in optimiser.param_groups if group["weight_decay"]]
    assert torch.allclose(gradient, decay * kernel)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(network.parameters()))
    assert {(group["lr"], group["eps"]) for group in optimiser.param_groups} == {(0.001, 1e-7)}


class EndsAfter(Progress):
    """Presses Ctrl-C when so many epochs are done."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.lines = epochs, 0

    def say(self, message: str) -> None:
        self.lines += message.startswith("epoch")
        if self.lines == self.epochs:
            raise KeyboardInterrupt


def test_control_c_keeps_what_was_completed() -> None:
    outcome = run(epochs=50, progress=EndsAfter(2))
    assert outcome.interrupted
    assert len(outcome.history) == 2
    assert outcome.best_epoch in (1, 2)
    assert outcome.weights
