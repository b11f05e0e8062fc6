"""The training loop: batches to gradients to weights, step by step.

Knows optimisation, validation, and how to stop and go on; does not know files, photographs on disk or model files.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, log_loss
from belvedere.runtime.progress import Progress, Task
from belvedere.training.augment import mix, sample_crops, vary
from belvedere.training.checkpoint import State
from belvedere.training.data_loader import DataLoader
from belvedere.training.device import Hardware
from belvedere.training.distributed import Distributed
from belvedere.training.ema import EMA
from belvedere.training.networks.registry import Network
from belvedere.training.optimizers import OptimizerGroup
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import Steps, size_at, value_at
from belvedere.types.evaluation import EpochFigures

VALIDATION_BATCH = 128
SECONDS_BETWEEN_FIGURES = 0.5  # beside the bar
SECONDS_BETWEEN_CHECKPOINTS = 120.0  # within an epoch; at its end there is always one


@dataclass(frozen=True)
class Fit:
    """What training gave."""

    history: tuple[EpochFigures, ...]
    best_epoch: int  # 0 where no epoch was completed
    weights: dict[str, Tensor]  # of the best epoch
    interrupted: bool


@dataclass(frozen=True)
class Plan:
    """What shall be done, and with what."""

    recipe: Recipe
    steps: Steps
    seed: int
    hardware: Hardware
    ranks: Distributed
    limit_seconds: float = float("inf")  # of training and validation, after which it is ended


def fit(
    network: Network,
    plan: Plan,
    train: DataLoader,
    validation: DataLoader,
    *,
    progress: Progress,
    keep: Callable[[State], None],
    state: State | None = None,
) -> Fit:
    """Trains a network and keeps the epoch that is best on the validation photographs.

    Ctrl-C ends it at once; the epochs completed before count.

    Args:
        network: With fresh weights; holds the last step's afterwards.
        plan: How to train it, and where.
        train: Photographs to learn from.
        validation: Photographs to choose the epoch by, as the recipe says: lowest loss or highest accuracy.
        progress: Shows epoch, images/s, time left, loss and accuracy.
        keep: Called after every epoch, and now and then within a long one, with all that is needed to go on from there.
        state: Where to go on, as it was given to `keep`.

    Returns:
        History and best weights.
    """
    with _seeded(plan.seed, plan.hardware):
        training = Training(network, plan, train, validation, keep)
        if state is not None:
            training.restore(state)
        interrupted = False
        with progress.task("Training", plan.steps.images_seen(plan.steps.total)) as task:
            task.advance(plan.steps.images_seen(training.state.step))
            try:
                while not training.is_done:
                    training.train_epoch(task)
                    progress.say(_line(training.state.history[-1], plan.steps.epochs))
            except KeyboardInterrupt:
                interrupted = True
    state = training.state
    return Fit(tuple(state.history), state.best_epoch, training.best_weights, interrupted)


class Training:
    """A training at some step."""

    def __init__(
        self, network: Network, plan: Plan, train: DataLoader, validation: DataLoader, keep: Callable[[State], None]
    ) -> None:
        network.to(device=plan.hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        plan.ranks.share(network.state_dict().values())
        self.network, self._plan, self._recipe = network, plan, plan.recipe
        self._forward = torch.compile(network) if plan.recipe.compile else network
        self._train, self._validation, self._keep = train, validation, keep
        self._optimisers = OptimizerGroup(network, plan.recipe)
        self._average = EMA(network, plan.recipe.ema_decay)
        self._order = np.random.default_rng(plan.seed)  # of the photographs, an epoch after the other
        # Every second epoch shows a picture the other way round (Jordan 2024, https://arxiv.org/abs/2404.00498).
        self._mirrored = np.random.default_rng((plan.seed, 1)).random(len(train)) < 0.5
        self._sums = torch.zeros(2, dtype=torch.float64, device=plan.hardware.device)  # loss and correct answers
        self.best_weights: dict[str, Tensor] = {}
        self.state = State(total_steps=plan.steps.total, limit_seconds=plan.limit_seconds)

    @property
    def is_done(self) -> bool:
        """Whether the last step has been taken and validated, or the time is up."""
        state = self.state
        return (
            bool(state.history)
            and state.epoch_images == 0
            and (state.step >= self._plan.steps.total or self._is_late(state.seconds))
        )

    def train_epoch(self, task: Task) -> None:
        """Trains to the end of the epoch, of the training or of the time, validates, and keeps where it is."""
        state, steps = self.state, self._plan.steps
        epoch = state.step // steps.steps_per_epoch
        rows = self._order.permutation(len(self._train))
        started = shown = kept = time.perf_counter()
        figures = ""
        self.network.train()
        end = min((epoch + 1) * steps.steps_per_epoch, steps.total)
        while state.step < end:
            first, behind = steps.bounds[state.step % steps.steps_per_epoch]
            self.training_step(rows[first:behind], epoch)
            state.step += 1
            state.epoch_images += behind - first
            now = time.perf_counter()
            if now - shown >= SECONDS_BETWEEN_FIGURES:
                shown = now
                loss, accuracy = self._epoch_figures()
                figures = f"epoch {epoch + 1}/{steps.epochs} loss {loss:.3f} accuracy {accuracy:.3f}"
            task.advance(behind - first, figures)
            state.epoch_seconds, started = state.epoch_seconds + now - started, now
            if self._is_late(state.seconds + state.epoch_seconds):
                break
            # At its end an epoch is validated first; within it, several processes differ in what batch norm measures.
            if now - kept >= SECONDS_BETWEEN_CHECKPOINTS and state.step < end and self._plan.ranks.count == 1:
                kept = now
                self._checkpoint()
        self._end_epoch(epoch + 1)

    def _is_late(self, seconds: float) -> bool:
        limit = self._plan.limit_seconds
        return limit != float("inf") and bool(self._plan.ranks.agree(int(seconds >= limit)))

    def training_step(self, rows: NDArray[np.intp], epoch: int) -> None:
        """Trains on one batch, of which each process takes its part."""
        recipe, ranks, hardware = self._recipe, self._plan.ranks, self._plan.hardware
        share = self.state.step / self._plan.steps.total
        rows = rows[ranks.rank :: ranks.count]
        images, labels = self._train.take(rows)
        own_share, lesson = 1.0, self._train.lesson(rows, epoch)
        if not recipe.image_size_schedule:
            # Seen as (n, 3, H, W) these bytes are already channels_last: nothing is moved.
            pixels = images.permute(0, 3, 1, 2).float()
        else:
            random = np.random.default_rng((self._plan.seed, 2, self.state.step, ranks.rank))
            mirrored = (self._mirrored[rows] ^ bool(epoch % 2)) & recipe.alternating_flip
            size = (images.shape[1], images.shape[2])
            boxes = lesson.boxes(mirrored, *size) if lesson else sample_crops(mirrored, *size, recipe, random)
            pixels = vary(images, boxes, size_at(recipe.image_size_schedule, share), recipe, random, hardware.precision)
            pixels, own_share = mix(pixels, recipe, random)
        with hardware.autocast():
            logits = self._forward(pixels)
        targets = lesson.targets if lesson else self._train.targets(rows)
        smoothing = recipe.label_smoothing if targets is None else 0.0  # targets are smooth already
        loss = _loss(logits.float(), labels if targets is None else targets, own_share, smoothing)
        torch.autograd.backward(loss)
        ranks.average([weights.grad for weights in self.network.parameters() if weights.grad is not None])
        self._optimisers.step(value_at(recipe.learning_rate_schedule, share))
        if recipe.ema_decay and share >= recipe.ema_start:
            self._average.update()
        correct = (logits.detach().argmax(1) == labels).sum()
        self._sums += torch.stack([loss.detach().double(), correct / len(labels)]) * len(labels) * ranks.count

    def _epoch_figures(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far."""
        loss, correct = self._sums.tolist()
        return loss / self.state.epoch_images, correct / self.state.epoch_images

    def _end_epoch(self, number: int) -> None:
        state, rate = (
            self.state,
            value_at(self._recipe.learning_rate_schedule, self.state.step / self._plan.steps.total),
        )
        self._plan.ranks.average([self._sums, *self._statistics()])
        started = time.perf_counter()
        with self._average.applied():
            found = validate(self.network, self._validation, self._plan.hardware, self._plan.ranks)
            figures = (found.accuracy, -found.calibrated_loss)
            score = figures if self._recipe.checkpoint_metric == "accuracy" else figures[::-1]
            if math.isfinite(found.loss) and score > state.best:
                state.best, state.best_epoch, self.best_weights = score, number, copy_weights(self.network)
        speed = state.epoch_images / state.epoch_seconds
        learnt = (number, state.epoch_seconds, speed, rate * self._recipe.learning_rate, *self._epoch_figures())
        state.history.append(EpochFigures(*learnt, found.loss, found.accuracy))
        state.seconds += state.epoch_seconds + time.perf_counter() - started
        state.epoch_images, state.epoch_seconds = 0, 0.0
        self._sums.zero_()
        self._checkpoint()

    def _statistics(self) -> list[Tensor]:
        """What batch norm has measured, with its average: all in which the processes differ."""
        measured = {name: values for name, values in self.network.named_buffers() if values.is_floating_point()}
        averaged = [values for name, values in self._average.tensors.items() if name in measured]
        return [*measured.values(), *averaged]

    def _checkpoint(self) -> None:
        groups = {
            "network": self.network.state_dict(),
            "average": self._average.tensors,
            "optimizers": self._optimisers.tensors(),
            "best": self.best_weights,
            "loop": {"random": torch.random.get_rng_state(), "sums": self._sums},
        }
        self.state.tensors = {
            f"{group}/{key}": value for group, values in groups.items() for key, value in values.items()
        }
        self._keep(self.state)

    def restore(self, state: State) -> None:
        """Goes back to where a checkpoint was written."""
        groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in state.tensors.items():
            group, _, key = name.partition("/")
            groups[group][key] = value
        self.network.load_state_dict(groups["network"])
        self._average.restore(groups["average"])
        self._optimisers.restore(groups["optimizers"])
        self.best_weights = groups["best"]
        torch.random.set_rng_state(groups["loop"]["random"])
        self._sums.copy_(groups["loop"]["sums"])
        self.state = state
        for _ in range(state.step // self._plan.steps.steps_per_epoch):
            self._order.permutation(len(self._train))


@dataclass(frozen=True)
class Validation:
    """What a network is worth on photographs that it does not learn from."""

    loss: float  # mean cross-entropy, nats
    accuracy: float
    calibrated_loss: float  # the loss after the temperature that lowers it most, as the model file will have it


def validate(network: Network, part: DataLoader, hardware: Hardware, ranks: Distributed) -> Validation:
    """Measures a network; each process takes its part."""
    logits, labels = answer(network, part, hardware, ranks), part.labels
    temperature = fit_temperature(logits, labels)
    accuracy = float((logits.argmax(1) == labels).mean())
    return Validation(log_loss(logits, labels), accuracy, log_loss(logits / temperature, labels))


def answer(network: Network, part: DataLoader, hardware: Hardware, ranks: Distributed) -> NDArray[np.float32]:
    """Returns a network's logits, (N, K), for all pictures of a part; each process works out its share of them."""
    network.eval()
    logits = torch.zeros(len(part), network.classify.out_features, device=hardware.device)
    rows = np.arange(len(part))[ranks.rank :: ranks.count]
    with torch.inference_mode(), hardware.autocast():
        for start in range(0, len(rows), VALIDATION_BATCH):
            chosen = rows[start : start + VALIDATION_BATCH]
            images, _ = part.take(chosen)
            logits[torch.from_numpy(chosen).to(hardware.device)] = network(images.permute(0, 3, 1, 2).float()).float()
    ranks.average([logits])
    found: NDArray[np.float32] = (logits * ranks.count).cpu().numpy()
    return found


def _loss(logits: Tensor, targets: Tensor, own_share: float, smoothing: float) -> Tensor:
    """Cross-entropy to labels, (n,), or probabilities, (n, K); of a mixed batch, to those of both of its pictures."""
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    if own_share == 1:
        return loss
    other = nn.functional.cross_entropy(logits, targets.flip(0), label_smoothing=smoothing)
    return own_share * loss + (1 - own_share) * other


@contextmanager
def _seeded(seed: int, hardware: Hardware) -> Iterator[None]:
    """Dropout draws from torch's global generator: it is seeded for the time of the training, and put back."""
    with torch.random.fork_rng(devices=[hardware.device] if hardware.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def copy_weights(network: Network) -> dict[str, Tensor]:
    """Returns a copy of the weights on the CPU, which stays as it is while the network learns on."""
    return {name: weights.detach().to("cpu", copy=True).contiguous() for name, weights in network.state_dict().items()}


def _line(figures: EpochFigures, epochs: int) -> str:
    return (
        f"epoch {figures.epoch:3d}/{epochs}  {figures.seconds:6.1f} s  {figures.images_per_second:6.0f} images/s  "
        f"loss {figures.loss:.4f}  accuracy {figures.accuracy:.4f}  "
        f"validation loss {figures.validation_loss:.4f}  validation accuracy {figures.validation_accuracy:.4f}"
    )
