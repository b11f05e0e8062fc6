"""Training loop: steps, validation, checkpoints, and the selection of the best epoch."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from belvedere.errors import TrainingError
from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, log_loss
from belvedere.runtime.progress import Task
from belvedere.training.augment import augment, mixup_or_cutmix, sample_crops
from belvedere.training.balancing import class_weights, epoch_order
from belvedere.training.callbacks import CallbackRunner
from belvedere.training.checkpoint import State
from belvedere.training.custom_augment import Augment, apply_augment
from belvedere.training.data_loader import DataLoader
from belvedere.training.device import Device, Runtime
from belvedere.training.losses import linear_cka, mixed_loss, weighted_loss
from belvedere.training.networks.registry import Network
from belvedere.training.optimizers import OptimizerGroup
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import BatchPlan, size_at, value_at
from belvedere.types.evaluation import EpochMetrics

VALIDATION_BATCH = 128
SECONDS_BETWEEN_METRICS = 0.5  # beside the progress bar
SECONDS_BETWEEN_CHECKPOINTS = 120.0  # within an epoch; every epoch ends with one

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training."""

    history: tuple[EpochMetrics, ...]
    best_epoch: int  # 0 without a completed epoch
    weights: dict[str, Tensor]  # of the best epoch
    interrupted: bool
    stopped_early: bool = False  # by a callback
    interpolation: float | None = None  # fraction of the fine-tuned weights, the rest is the pretrained start


@dataclass(frozen=True)
class LoopConfig:
    """Recipe, batches and limits of a training loop."""

    recipe: Recipe
    batches: BatchPlan
    seed: int
    runtime: Runtime
    limit_seconds: float = float("inf")  # of training and validation together
    augment: Augment | None = None  # the user's, after that of the recipe


def run_loop(
    network: Network,
    config: LoopConfig,
    train: DataLoader,
    validation: DataLoader,
    on_checkpoint: Callable[[State], None] = lambda _: None,
    state: State | None = None,
    callbacks: CallbackRunner | None = None,
) -> FitResult:
    """Train a network and keep the weights of the epoch with the best validation metric.

    Ctrl-C ends the loop at once; the completed epochs count.

    Args:
        network: Initialized network; holds the weights of the last step afterwards.
        config: Recipe, batches, seed and limits.
        train: Training images.
        validation: Validation images.
        on_checkpoint: Called with the state after every epoch, and from time to time within a long one.
        state: State to resume from.
        callbacks: Called after every epoch; they may end the loop.
    """
    callbacks = callbacks or CallbackRunner()
    with _seeded(config.seed, config.runtime.device):
        trainer = Trainer(network, config, train, validation, on_checkpoint)
        if state is not None:
            trainer.restore(state)
        interrupted = stopped_early = False
        batches, progress = config.batches, config.runtime.progress
        with progress.task("Training", batches.images_seen(batches.total_steps)) as task:
            task.advance(batches.images_seen(trainer.state.step))
            try:
                stop = trainer.is_between_epochs and callbacks.should_stop()
                while not (stop or trainer.is_done):
                    trainer.train_epoch(task)
                    progress.log(_line(trainer.state.history[-1], batches.epochs))
                    callbacks.on_epoch_end(trainer.state.history[-1])
                    stop = callbacks.should_stop()
                stopped_early = stop and not trainer.is_done
            except KeyboardInterrupt:
                interrupted = True
    state = trainer.state
    return FitResult(tuple(state.history), state.best_epoch, trainer.best_weights, interrupted, stopped_early)


class _WithEmbedding(nn.Module):
    """A network that returns the embeddings, (N, D), beside the logits, (N, K)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.network.forward_embedding(pixels)
        return self.network.classify(embedding), embedding


class Trainer:
    """A network, its optimizers and its average at one step of a training."""

    def __init__(
        self,
        network: Network,
        config: LoopConfig,
        train: DataLoader,
        validation: DataLoader,
        on_checkpoint: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._device, self._distributed = config.runtime.device, config.runtime.distributed
        self._device.move_network(network)
        self.network, self._config, self._recipe = network, config, config.recipe
        learns_embedding = bool(config.recipe.distillation_embedding_weight)
        parallel = self._distributed.data_parallel(_WithEmbedding(network) if learns_embedding else network)
        self._forward = torch.compile(parallel) if config.recipe.compile else parallel
        self._train, self._validation, self._on_checkpoint = train, validation, on_checkpoint
        self._optimizers = OptimizerGroup(network, config.recipe)
        self._average = _averaged(network, config.recipe.ema_decay) if config.recipe.ema_decay else None
        self._order = np.random.default_rng(config.seed)  # of the images in each epoch
        # Alternating flip (Jordan 2024, https://arxiv.org/abs/2404.00498).
        self._mirrored = np.random.default_rng((config.seed, 1)).random(len(train)) < 0.5
        weights = class_weights(train.labels, network.classify.out_features, config.recipe.class_weighting)
        self._class_weights = None if weights is None else torch.from_numpy(weights).to(self._device.torch_device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=self._device.torch_device)  # loss, correct predictions
        self.best_weights: dict[str, Tensor] = {}
        self.state = State(total_steps=config.batches.total_steps, limit_seconds=config.limit_seconds)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is validated, or the time limit is reached."""
        state = self.state
        return self.is_between_epochs and (
            state.step >= self._config.batches.total_steps or self._is_over_time(state.seconds)
        )

    @property
    def is_between_epochs(self) -> bool:
        """Whether at least one epoch is completed, and none has begun since."""
        return bool(self.state.history) and self.state.epoch_images == 0

    def train_epoch(self, task: Task) -> None:
        """Train to the end of the epoch or of the time, validate, and write a checkpoint."""
        state, batches = self.state, self._config.batches
        epoch = state.step // batches.steps_per_epoch
        rows = self._draw_order()
        started = shown = saved = time.perf_counter()
        metrics = ""
        self.network.train()
        end = min((epoch + 1) * batches.steps_per_epoch, batches.total_steps)
        while state.step < end:
            first, stop = batches.bounds[state.step % batches.steps_per_epoch]
            self.training_step(rows[first:stop], epoch)
            state.step += 1
            state.epoch_images += stop - first
            now = time.perf_counter()
            if now - shown >= SECONDS_BETWEEN_METRICS:
                shown = now
                loss, accuracy = self._epoch_metrics()
                metrics = f"epoch {epoch + 1}/{batches.epochs} loss {loss:.3f} accuracy {accuracy:.1%}"
            task.advance(stop - first, metrics)
            state.epoch_seconds, started = state.epoch_seconds + now - started, now
            if self._is_over_time(state.seconds + state.epoch_seconds):
                break
            # Within an epoch, batch-norm statistics differ between processes: checkpoints are for one process only.
            single = self._distributed.world_size == 1
            if single and now - saved >= SECONDS_BETWEEN_CHECKPOINTS and state.step < end:
                saved = now
                self._checkpoint()
        self._end_epoch(epoch + 1)

    def _draw_order(self) -> NDArray[np.intp]:
        """Return the rows of the next epoch."""
        return epoch_order(self._order, self._train.labels, len(self._train), self._recipe.sampling)

    def _is_over_time(self, seconds: float) -> bool:
        limit = self._config.limit_seconds
        return limit != float("inf") and bool(self._distributed.broadcast(int(seconds >= limit)))

    def training_step(self, rows: NDArray[np.intp], epoch: int) -> None:
        """Train on one batch, which the processes share."""
        recipe, rank, world_size = self._recipe, self._distributed.rank, self._distributed.world_size
        fraction = self.state.step / self._config.batches.total_steps
        batch_size, rows = len(rows), rows[rank::world_size]
        images, labels = self._train.load_batch(rows)
        soft = self._train.load_soft_targets(rows, epoch)
        mix_weight = 1.0
        if not recipe.image_size_schedule:
            # As (n, 3, H, W) the bytes are channels_last already: no copy.
            pixels = self._augment(images.permute(0, 3, 1, 2).float())
        else:
            random = np.random.default_rng((self._config.seed, 2, self.state.step, rank))
            mirrored = (self._mirrored[rows] ^ bool(epoch % 2)) & recipe.alternating_flip
            size = (images.shape[1], images.shape[2])
            boxes = soft.boxes(mirrored, *size) if soft else sample_crops(mirrored, *size, recipe, random)
            target_size = size_at(recipe.image_size_schedule, fraction)
            pixels = self._augment(augment(images, boxes, target_size, recipe, random, self._device.precision))
            pixels, mix_weight = mixup_or_cutmix(pixels, recipe, random)
        with self._device.autocast():
            outputs = self._forward(pixels)
        logits, embedding = outputs if isinstance(outputs, tuple) else (outputs, None)
        targets = soft.targets if soft else self._train.load_targets(rows)
        smoothing = recipe.label_smoothing if targets is None else 0.0  # targets are smooth already
        target = labels if targets is None else targets
        if self._class_weights is None:
            loss = mixed_loss(logits.float(), target, mix_weight, smoothing)
        else:
            loss = weighted_loss(logits.float(), target, mix_weight, smoothing, labels, self._class_weights)
        teacher = soft.embeddings if soft else None
        if embedding is not None and teacher is not None and mix_weight == 1:  # that of a mixture is unknown
            similarity = linear_cka(embedding.float(), teacher)
            loss = loss + recipe.distillation_embedding_weight * (1 - similarity)
        # The mean of the gradients of shares of unequal size is that of the batch.
        torch.autograd.backward(loss if world_size == 1 else loss * (len(rows) * world_size / batch_size))
        self._optimizers.step(value_at(recipe.learning_rate_schedule, fraction))
        if self._average is not None and fraction >= recipe.ema_start:
            self._average.update_parameters(self.network)
        correct = (logits.detach().argmax(1) == labels).sum()
        self._sums += torch.stack([loss.detach().double(), correct / len(labels)]) * len(labels) * world_size

    def _augment(self, pixels: Tensor) -> Tensor:
        seed = (self._config.seed, 3, self.state.step, self._distributed.rank)
        return apply_augment(self._config.augment, pixels, seed)

    def _epoch_metrics(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the epoch so far."""
        loss, correct = self._sums.tolist()
        return loss / self.state.epoch_images, correct / self.state.epoch_images

    def _end_epoch(self, number: int) -> None:
        state, recipe = self.state, self._recipe
        factor = value_at(recipe.learning_rate_schedule, state.step / self._config.batches.total_steps)
        started = time.perf_counter()
        network = self._validated_network
        self._distributed.all_reduce_mean([self._sums, *_statistics(self.network)])
        if network is not self.network:
            self._distributed.all_reduce_mean(_statistics(network))
        found = validate(network, self._validation, self._config.runtime)
        metrics = (found.accuracy, -found.calibrated_loss)
        score = metrics if recipe.checkpoint_metric == "accuracy" else metrics[::-1]
        if math.isfinite(found.loss) and score > state.best:
            state.best, state.best_epoch, self.best_weights = score, number, copy_weights(network)
        speed = state.epoch_images / state.epoch_seconds
        training = (number, state.epoch_seconds, speed, factor * recipe.learning_rate, *self._epoch_metrics())
        state.history.append(EpochMetrics(*training, found.loss, found.accuracy, found.calibrated_loss))
        state.seconds += state.epoch_seconds + time.perf_counter() - started
        state.epoch_images, state.epoch_seconds = 0, 0.0
        self._sums.zero_()
        self._checkpoint()

    @property
    def _validated_network(self) -> Network:
        """Average of the weights as a network; before it has started, the network itself."""
        if self._average is None or not self._average.n_averaged:
            return self.network
        return cast(Network, self._average.module)

    def _checkpoint(self) -> None:
        groups = {
            "network": self.network.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "optimizers": self._optimizers.tensors(),
            "best": self.best_weights,
            "loop": {"random": torch.random.get_rng_state(), "sums": self._sums},
        }
        self.state.tensors = {
            f"{group}/{key}": value for group, values in groups.items() for key, value in values.items()
        }
        self._on_checkpoint(self.state)

    def restore(self, state: State) -> None:
        """Return to the state of a checkpoint."""
        groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in state.tensors.items():
            group, _, key = name.partition("/")
            groups[group][key] = value
        try:
            self.network.load_state_dict(groups["network"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(
                f"The checkpoint is of another network: {reason}. Set `overwrite` to start over."
            ) from error
        if self._average is not None:
            self._average.load_state_dict(groups["average"])
        self._optimizers.restore(groups["optimizers"])
        self.best_weights = groups["best"]
        torch.random.set_rng_state(groups["loop"]["random"])
        self._sums.copy_(groups["loop"]["sums"])
        self.state = state
        for _ in range(state.step // self._config.batches.steps_per_epoch):
            self._draw_order()


@dataclass(frozen=True)
class ValidationResult:
    """Metrics of a network on validation images."""

    loss: float  # mean cross-entropy, nats
    accuracy: float
    calibrated_loss: float  # loss after temperature scaling, as the model file has it


def validate(network: Network, loader: DataLoader, runtime: Runtime) -> ValidationResult:
    """Measure a network; the processes share the images."""
    logits, labels = predict_logits(network, loader, runtime), loader.labels
    temperature = fit_temperature(logits, labels)
    accuracy = float((logits.argmax(1) == labels).mean())
    return ValidationResult(log_loss(logits, labels), accuracy, log_loss(logits / temperature, labels))


def predict_logits(network: Network, loader: DataLoader, runtime: Runtime) -> NDArray[np.float32]:
    """Return the logits of all images of a loader, (N, K); the processes share the images."""
    network.eval()
    device, distributed = runtime.device, runtime.distributed
    logits = torch.zeros(len(loader), network.classify.out_features, device=device.torch_device)
    rows = np.arange(len(loader))[distributed.rank :: distributed.world_size]
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(rows), VALIDATION_BATCH):
            batch = rows[start : start + VALIDATION_BATCH]
            images, _ = loader.load_batch(batch)
            logits[torch.from_numpy(batch).to(logits.device)] = network(images.permute(0, 3, 1, 2).float()).float()
    distributed.all_reduce_mean([logits])
    total: NDArray[np.float32] = (logits * distributed.world_size).cpu().numpy()
    return total


def copy_weights(network: Network) -> dict[str, Tensor]:
    """Return a copy of the weights on the CPU."""
    return {name: weights.detach().to("cpu", copy=True).contiguous() for name, weights in network.state_dict().items()}


def _averaged(network: Network, decay: float) -> AveragedModel:
    """Return the exponential moving average (EMA) of weights and batch-norm statistics (Polyak and Juditsky 1992)."""

    def update(averages: Tensors, values: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:  # counters and indexes, which torch's own function would round down
            torch._foreach_copy_(averages, values)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def _statistics(network: Network) -> list[Tensor]:
    """Return the batch-norm statistics of a network: all that differs between processes."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


@contextmanager
def _seeded(seed: int, device: Device) -> Iterator[None]:
    """Seed torch's global generator, from which dropout draws, and restore it afterwards."""
    with torch.random.fork_rng(devices=[device.torch_device] if device.torch_device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _line(metrics: EpochMetrics, epochs: int) -> str:
    """Return losses and accuracies of an epoch in at most 80 columns."""
    return (
        f"epoch {metrics.epoch:{len(str(epochs))}d}/{epochs}  {metrics.seconds:5.1f} s  "
        f"{metrics.images_per_second:4.0f} images/s  loss {metrics.loss:.3f}  {metrics.accuracy:6.1%}  "
        f"validation {metrics.validation_loss:.3f}  {metrics.validation_accuracy:6.1%}"
    )
