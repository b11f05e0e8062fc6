"""Number of steps that fit into a time, by measured steps on this machine."""

import copy
import dataclasses
import time

import numpy as np
import torch

from belvedere.training.data_loader import DataLoader
from belvedere.training.loop import LoopConfig, Trainer, validate
from belvedere.training.networks.registry import Network
from belvedere.training.schedule import NUM_SAMPLES, BatchPlan, size_at
from belvedere.types.data import DataWarning

TIMED_STEPS = 3  # per image size; the first one, which compiles kernels, is not counted
SAFETY_FACTOR = 0.95  # the speed of a machine varies


def steps_in_time(
    network: Network, config: LoopConfig, train: DataLoader, validation: DataLoader, seconds: float
) -> BatchPlan:
    """Return the batches of `config` with as many steps, at least 1, as fit into a time with the validations.

    The steps are measured on a copy of the network.
    """
    start = time.perf_counter()
    batches, schedule = config.batches, config.recipe.image_size_schedule
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(copy.deepcopy(network), config, train, validation)
        steps = [int(fraction * (batches.total_steps - 1)) for fraction in np.linspace(0, 1, NUM_SAMPLES)]
        sizes = [size_at(schedule, step / batches.total_steps) if schedule else 0 for step in steps]
        seconds_by_size = {size: _time_step(trainer, config, steps[sizes.index(size)]) for size in sorted(set(sizes))}
        validation_start = time.perf_counter()
        validate(trainer.network, validation, config.runtime)
        validation_seconds = time.perf_counter() - validation_start
    step_seconds = sum(seconds_by_size[size] for size in sizes) / len(sizes)
    step_seconds += validation_seconds / batches.steps_per_epoch
    left = seconds * SAFETY_FACTOR - (time.perf_counter() - start)
    total_steps = config.runtime.distributed.broadcast(max(1, int(left / step_seconds)))
    epochs = total_steps / batches.steps_per_epoch
    config.runtime.progress.log(f"{epochs:.1f} epochs fit into the {seconds:.0f} s left for training.")
    if epochs < 1:
        problem = f"{seconds:.0f} s are too short to train on each image once, so the model hardly learns"
        config.runtime.progress.log_warnings([DataWarning(f"{problem}. Give more `max_minutes`.")])
    return dataclasses.replace(batches, total_steps=total_steps)


def _time_step(trainer: Trainer, config: LoopConfig, step: int) -> float:
    """Return the mean seconds of a training step at a position of the training."""
    rows = np.arange(*config.batches.bounds[0])
    trainer.state.step = step
    total = 0.0
    for number in range(TIMED_STEPS):
        start = time.perf_counter()
        trainer.training_step(rows, 0)
        if config.runtime.device.torch_device.type == "cuda":
            torch.cuda.synchronize()
        total += (time.perf_counter() - start) * (number > 0)
    return total / (TIMED_STEPS - 1)
