"""The training loop: batches to gradients to weights, an epoch at a time.

Knows optimisation, validation and how to stop; does not know files, photographs on disk or model files.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from belvedere.errors import find_named
from belvedere.progress import Progress, Task
from belvedere.records import EpochFigures
from belvedere.training.device import Hardware
from belvedere.training.networks.registry import Network
from belvedere.training.pixels import PixelFile
from belvedere.training.recipes import Recipe

VALIDATION_BATCH = 128


@dataclass(frozen=True)
class Part:
    """Photographs to learn from or to validate on: rows of one array of pixels."""

    images: PixelFile | NDArray[np.uint8]  # (N, H, W, 3), shared between the parts
    labels: NDArray[np.int64]  # (N,)
    rows: NDArray[np.intp]  # which of them belong to this part


@dataclass(frozen=True)
class Fit:
    """What training gave."""

    history: tuple[EpochFigures, ...]
    best_epoch: int  # 0 where no epoch was completed
    weights: dict[str, Tensor]  # of the best epoch
    interrupted: bool


def fit(
    network: Network,
    recipe: Recipe,
    train: Part,
    validation: Part,
    *,
    seed: int,
    hardware: Hardware,
    progress: Progress,
    on_epoch: Callable[[tuple[EpochFigures, ...], dict[str, Tensor] | None], None],
) -> Fit:
    """Trains a network and keeps the epoch that is best on the validation photographs.

    Ctrl-C ends it at once; the epochs completed before count.

    Args:
        network: With fresh weights; holds the last epoch's afterwards.
        recipe: How to train it.
        train: Photographs to learn from.
        validation: Photographs to choose the epoch by: highest accuracy, then lowest loss.
        seed: Of the order of the photographs and of dropout.
        hardware: Where to train, and in which precision.
        progress: Shows epoch, images/s, time left, loss and accuracy.
        on_epoch: Called after every epoch with the history so far, and the weights if they are the best so far.

    Returns:
        History and best weights.
    """
    network.to(device=hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _adam(network, recipe)
    order = np.random.default_rng(seed)
    history: list[EpochFigures] = []
    best = (-1.0, 0.0)
    best_epoch, best_weights, interrupted = 0, {}, False
    with _seeded(seed, hardware), progress.task("Training", recipe.epochs * len(train.rows)) as task:
        try:
            for epoch in range(1, recipe.epochs + 1):
                rows = order.permutation(train.rows)
                batches = _batches(train, rows, recipe.batch_size, hardware)
                start = time.perf_counter()
                loss, accuracy = _train_epoch(
                    network, optimiser, batches, hardware, task, f"epoch {epoch}/{recipe.epochs}"
                )
                seconds = time.perf_counter() - start
                found = validate(network, validation, hardware)
                score = (found[1], -found[0])
                if improved := score > best:
                    best, best_epoch, best_weights = score, epoch, _copy_weights(network)
                history.append(
                    EpochFigures(epoch, seconds, len(rows) / seconds, recipe.learning_rate, loss, accuracy, *found)
                )
                on_epoch(tuple(history), best_weights if improved else None)
                progress.say(_line(history[-1], recipe.epochs))
        except KeyboardInterrupt:
            interrupted = True
    return Fit(tuple(history), best_epoch, best_weights, interrupted)


def validate(network: Network, part: Part, hardware: Hardware) -> tuple[float, float]:
    """Measures a network.

    Returns:
        Mean cross-entropy in nats, and accuracy.
    """
    network.eval()
    loss, correct = 0.0, 0
    with torch.inference_mode(), hardware.autocast():
        for pixels, labels in _batches(part, part.rows, VALIDATION_BATCH, hardware):
            logits = network(pixels).float()
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
    return loss / len(part.rows), correct / len(part.rows)


def _train_epoch(
    network: Network,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    hardware: Hardware,
    task: Task,
    title: str,
) -> tuple[float, float]:
    """Trains on every batch once; returns mean loss and accuracy while training."""
    network.train()
    loss_sum, correct, done = 0.0, 0, 0
    for pixels, labels in batches:
        with hardware.autocast():
            logits = network(pixels)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        done += len(labels)
        loss_sum += float(loss.detach()) * len(labels)
        correct += int((logits.detach().argmax(1) == labels).sum())
        task.advance(len(labels), f"{title} loss {loss_sum / done:.3f} accuracy {correct / done:.3f}")
    return loss_sum / done, correct / done


def _batches(
    part: Part, rows: NDArray[np.intp], batch_size: int, hardware: Hardware
) -> Iterator[tuple[Tensor, Tensor]]:
    # One picture has no variance for batch norm to divide by: a single one left over joins the batch before it.
    stops = [*range(batch_size, len(rows) - 1, batch_size), len(rows)]
    for start, stop in pairwise([0, *stops]):
        chosen = rows[start:stop]
        images = torch.from_numpy(part.images[chosen]).to(hardware.device)  # (n, H, W, 3) uint8
        labels = torch.from_numpy(part.labels[chosen]).to(hardware.device)
        # Seen as (n, 3, H, W) these bytes are already channels_last: nothing is moved.
        yield images.permute(0, 3, 1, 2).float(), labels


def _adam(network: Network, recipe: Recipe) -> torch.optim.Adam:
    # The gradient of l2 * sum(w^2) is 2 * l2 * w, which is what Adam's own weight_decay adds to it.
    known = dict(network.named_parameters())
    for name in recipe.l2_kernels:
        find_named("parameter of the network to decay", name, known)
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weights in known.items():
        (decayed if name in recipe.l2_kernels else others).append(weights)
    groups: list[dict[str, Any]] = [{"params": others}, {"params": decayed, "weight_decay": 2 * recipe.l2}]
    return torch.optim.Adam(groups, lr=recipe.learning_rate, eps=recipe.adam_epsilon)


@contextmanager
def _seeded(seed: int, hardware: Hardware) -> Iterator[None]:
    """Dropout draws from torch's global generator: it is seeded for the time of the training, and put back."""
    with torch.random.fork_rng(devices=[hardware.device] if hardware.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _copy_weights(network: Network) -> dict[str, Tensor]:
    return {name: weights.detach().to("cpu", copy=True).contiguous() for name, weights in network.state_dict().items()}


def _line(figures: EpochFigures, epochs: int) -> str:
    return (
        f"epoch {figures.epoch:3d}/{epochs}  {figures.seconds:6.1f} s  {figures.images_per_second:6.0f} images/s  "
        f"loss {figures.loss:.4f}  accuracy {figures.accuracy:.4f}  "
        f"validation loss {figures.validation_loss:.4f}  validation accuracy {figures.validation_accuracy:.4f}"
    )
