"""Build and fit a network: the stages of a training between its data and its outputs."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from belvedere.data.sampling import evenly_spaced
from belvedere.errors import TrainingError
from belvedere.evaluation.run_folder import write_history
from belvedere.runtime.files import write_bytes
from belvedere.training.augment import resize_batch
from belvedere.training.callbacks import CallbackRunner, early_stopping
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.training.custom_augment import Augment
from belvedere.training.data_loader import ArrayLike, DataLoader
from belvedere.training.device import Runtime
from belvedere.training.freezing import freeze_blocks
from belvedere.training.loop import FitResult, LoopConfig, copy_weights, run_loop
from belvedere.training.networks import Network, architecture_for
from belvedere.training.pretrained_weights import Weights
from belvedere.training.recipes import Recipe
from belvedere.training.run_folder import CHECKPOINT
from belvedere.training.schedule import plan_batches, repeats_per_epoch, size_at
from belvedere.training.start_from import StartRun, take_weights
from belvedere.training.time_budget import steps_in_time
from belvedere.training.training_data import TrainingData
from belvedere.training.transfer import build_from_probe, open_backbone
from belvedere.training.weight_interpolation import interpolate_weights

BEST = "best/"  # prefix of the best weights in a checkpoint
NUM_WHITENING_IMAGES = 512


@dataclass(frozen=True)
class FitPlan:
    """Settings of a fit."""

    recipe: Recipe
    seed: int
    runtime: Runtime
    folder: Path | None = None  # for the checkpoint, from which the fit resumes, and for history and best weights
    deadline: float | None = None  # time by time.perf_counter(), instead of the recipe's epochs; None for no limit
    callbacks: CallbackRunner | None = None  # default: the early stopping of the recipe
    augment: Augment | None = None  # the user's, after that of the recipe


def build_network(
    recipe: Recipe,
    data: TrainingData,
    seed: int,
    runtime: Runtime,
    weights: Weights | None = None,
    start: StartRun | None = None,
) -> Network:
    """Build the network of a recipe: with fresh weights, or with pretrained `weights` and a linear probe as its head.

    With the run `start`, whose backbone `weights` are if the network is pretrained, its head is that of the run. The
    seed is for the fresh weights or the folds of the probe.

    Raises:
        UsageError: The recipe freezes more blocks than the network has, or the weights of the run do not fit.
        WeightsError: The weights are of another architecture.
    """
    if weights is not None and start is None:
        network = build_from_probe(recipe, data.labeled, data.class_names, weights, seed, runtime)
    elif weights is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = open_backbone(architecture_for(recipe), weights, len(data.class_names), recipe, runtime.progress)
        network.flip_tta = False
    else:
        network = initialize_network(recipe, len(data.class_names), seed, data.train.images)
    if start is not None:
        take_weights(network, start, data.class_names, runtime.progress)
    freeze_blocks(network, recipe.freeze, recipe.network)
    return network


def initialize_network(recipe: Recipe, num_classes: int, seed: int, images: ArrayLike) -> Network:
    """Return a network with fresh weights, on the CPU; `images` (N, H, W, 3) uint8 are for a whitened stem."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architecture_for(recipe).create(num_classes)
    if recipe.whitened_stem:
        size = size_at(recipe.image_size_schedule, 1.0) if recipe.image_size_schedule else None
        chunks = np.array_split(evenly_spaced(len(images), NUM_WHITENING_IMAGES), 16)  # to save memory
        network.init_whitening(torch.cat([resize_batch(torch.from_numpy(images[rows]), size) for rows in chunks]))
    return network


def fit(network: Network, data: TrainingData, plan: FitPlan) -> FitResult:
    """Fit a network, and load the weights of the epoch with the best validation metric.

    Fine-tuned weights are interpolated with the pretrained start. Ctrl-C ends the fit; completed epochs count. A
    checkpoint in the folder of the plan is resumed.

    Raises:
        KeyboardInterrupt: Interrupted before the first epoch was completed.
        TrainingError: The validation loss of every epoch is NaN, or the checkpoint is damaged.
    """
    recipe, runtime = plan.recipe, plan.runtime
    callbacks = plan.callbacks or CallbackRunner(early_stopping(recipe), runtime.distributed)
    start = copy_weights(network) if recipe.pretrained else None
    validation = DataLoader(data.validation, runtime.device)
    with runtime.progress.stage("fit"):
        train = DataLoader(data.train, runtime.device, repeats_per_epoch(len(data.train.labels), recipe))
        result = _run_or_resume(network, train, validation, plan, callbacks)
    if not result.history:
        interrupt = KeyboardInterrupt()
        interrupt.add_note("Training was interrupted before its first epoch was completed: there is no model to keep.")
        raise interrupt
    if not result.weights:
        raise TrainingError("The validation loss is NaN after every epoch. Lower the learning rates.")
    if result.interrupted or result.stopped_early:
        reason = "Interrupted" if result.interrupted else f"Stopped early, {callbacks.stop_reason}"
        runtime.progress.log(f"{reason}: keeping epoch {result.best_epoch} of {len(result.history)} completed.")
    if start is not None:
        fraction, weights = interpolate_weights(network, start, result.weights, validation, runtime)
        result = replace(result, weights=weights, interpolation=fraction)
        runtime.progress.log(f"Weights: {fraction:.0%} of the way from the start to epoch {result.best_epoch}.")
    network.load_state_dict(result.weights)
    network.flip_tta = recipe.flip_tta  # off during the fit, where it would double the time of validation
    return result


def _run_or_resume(
    network: Network, train: DataLoader, validation: DataLoader, plan: FitPlan, callbacks: CallbackRunner
) -> FitResult:
    checkpoint = None if plan.folder is None else plan.folder / CHECKPOINT
    state = read_checkpoint(checkpoint) if checkpoint is not None and checkpoint.exists() else None
    config = _loop_config(network, train, validation, plan, state)

    def save(state: State) -> None:
        if plan.folder is None or not plan.runtime.distributed.is_main:
            return
        write_history(plan.folder / "history.csv", state.history)
        best = {name.removeprefix(BEST): values for name, values in state.tensors.items() if name.startswith(BEST)}
        if best:
            write_bytes(plan.folder / "weights.safetensors", safetensors.torch.save(best))
        write_checkpoint(state, plan.folder / CHECKPOINT)
        callbacks.on_checkpoint(plan.folder / CHECKPOINT)

    return run_loop(network, config, train, validation, save, state, callbacks)


def _loop_config(
    network: Network, train: DataLoader, validation: DataLoader, plan: FitPlan, state: State | None
) -> LoopConfig:
    batches = plan_batches(len(train), plan.recipe, plan.runtime.distributed.world_size)
    config = LoopConfig(plan.recipe, batches, plan.seed, plan.runtime, augment=plan.augment)
    if state is not None:
        plan.runtime.progress.log(f"Resuming after {state.step} of {state.total_steps} steps.")
        batches = replace(batches, total_steps=state.total_steps)
        return replace(config, batches=batches, limit_seconds=state.limit_seconds)
    if plan.deadline is None:
        return config
    left = max(0.0, plan.deadline - time.perf_counter())
    batches = steps_in_time(network, config, train, validation, left)
    return replace(config, batches=batches, limit_seconds=max(0.0, plan.deadline - time.perf_counter()))
