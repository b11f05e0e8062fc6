"""A training that is to end in time: how many steps it may have, by a measurement on this machine.

Knows how long steps take at the sizes of a plan; does not know what is learnt.
"""

import copy
import dataclasses
import time

import numpy as np
import torch

from belvedere.training.data_loader import DataLoader
from belvedere.training.loop import Plan, Training, validate
from belvedere.training.networks.registry import Network
from belvedere.training.schedule import Steps, size_at

TRIED = 3  # steps a size, of which the first, that sets things up, does not count
USED = 0.95  # of the time: machines are not even
PLACES = 50  # of the plan that are asked for their size


def steps_in_time(network: Network, plan: Plan, train: DataLoader, validation: DataLoader, seconds: float) -> Steps:
    """Counts the steps that fit into a time, with a validation after every epoch.

    Args:
        network: Stays as it is; a copy is tried.
        plan: How it would be trained.
        train: Photographs to learn from.
        validation: Photographs to choose the epoch by.
        seconds: For training and validation.

    Returns:
        At least one step.
    """
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        trial = Training(copy.deepcopy(network), plan, train, validation, lambda _: None)
        places = [int(share * (plan.steps.total - 1)) for share in np.linspace(0, 1, PLACES)]
        image_size_schedule = plan.recipe.image_size_schedule
        sides = [
            size_at(image_size_schedule, place / plan.steps.total) if image_size_schedule else 0 for place in places
        ]
        took = {side: _time_steps(trial, plan, places[sides.index(side)]) for side in sorted(set(sides))}
        validating = time.perf_counter()
        validate(trial.network, validation, plan.hardware, plan.ranks)
        an_epoch_more = time.perf_counter() - validating
    a_step = sum(took[side] for side in sides) / len(sides) + an_epoch_more / plan.steps.steps_per_epoch
    left = seconds * USED - (time.perf_counter() - start)
    return dataclasses.replace(plan.steps, total=plan.ranks.agree(max(1, int(left / a_step))))


def _time_steps(trial: Training, plan: Plan, place: int) -> float:
    """Seconds of a step at this place of the training."""
    first, behind = plan.steps.bounds[0]
    trial.state.step = place
    counted = 0.0
    for number in range(TRIED):
        start = time.perf_counter()
        trial.training_step(np.arange(first, behind), 0)
        if plan.hardware.device.type == "cuda":
            torch.cuda.synchronize()
        counted += (time.perf_counter() - start) * (number > 0)
    return counted / (TRIED - 1)
