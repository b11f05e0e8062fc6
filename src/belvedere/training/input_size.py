"""How large the pictures are that a pretrained network is shown: what it can take, and what there is time for.

Knows sizes and a stopwatch; does not know weights or what is learnt.
"""

import time
from dataclasses import replace

import numpy as np
import torch

from belvedere.data.splits import DataSplit
from belvedere.errors import UsageError
from belvedere.runtime.progress import Progress
from belvedere.training.device import Hardware
from belvedere.training.distributed import Distributed
from belvedere.training.networks import architecture_for
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.training.recipes import LARGEST_SIDE, Recipe
from belvedere.training.schedule import size_at

SMALLER = (6 / 7, 5 / 7, 4 / 7, 3 / 7)  # of a network's own side: of 224 pixels, 192, 160, 128 and 96
STEP = 32  # pixels, to which these are rounded
TIMED = 32  # pictures
FLOAT32 = 1.6  # times as long does a model file take, which computes in it, as training in bfloat16
PLACES = 50  # of a plan, that are asked for their size


def fit_plan(recipe: Recipe, progress: Progress) -> Recipe:
    """Makes the pictures of a fine-tuning grow to the network's own size; where it takes no others, they don't grow.

    Raises:
        UsageError: The network can't be stood on.
    """
    if not recipe.pretrained or not recipe.image_size_schedule:
        return recipe
    entry = architecture_for(recipe)
    own = entry.preprocess.height
    scale = own / recipe.image_size_schedule[-1][1]
    scaled = tuple((place, min(max(1.0, side * scale), LARGEST_SIDE)) for place, side in recipe.image_size_schedule)
    sides = {size_at(scaled, place) for place in np.linspace(0, 1, PLACES)}
    network = entry.create(2).eval()
    if all(_takes(network, side) for side in sides):
        return replace(recipe, image_size_schedule=scaled)
    progress.say(f"{recipe.network} takes pictures of {own} pixels a side only: it is trained on whole ones of these.")
    return replace(recipe, image_size_schedule=())


def _takes(network: Network, side: int) -> bool:
    try:
        with torch.inference_mode():
            network.embed(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True


def fit_side(
    recipe: Recipe, division: DataSplit, hardware: Hardware, ends: float | None, ranks: Distributed, progress: Progress
) -> Recipe:
    """Chooses the largest pictures that can all be described in time, for a probe that shall be there by then.

    Args:
        recipe: One that chooses a side itself, or is for anything but a probe, stays as it is.
        division: The photographs.
        hardware: Where they are described.
        ends: By time.perf_counter; None for no end.
        ranks: The processes that train together: the first one's clock counts.
        progress: Is told.
    """
    if ends is None or not recipe.linear_probe_only or recipe.image_size is not None:
        return recipe
    own = architecture_for(recipe).preprocess.height
    labeled = len(division.train.samples) + len(division.validation.samples)
    left, side, seconds = ends - time.perf_counter(), own, 0.0
    for tried in (own, *(round(own * share / STEP) * STEP for share in SMALLER)):
        entry = architecture_for(replace(recipe, image_size=None if tried == own else tried))
        each = _time_size(entry, hardware)
        if each is None:
            continue
        side, seconds = tried, (labeled + FLOAT32 * len(division.test)) * each
        if seconds < left:
            break
    side = ranks.agree(side)
    late = "" if seconds < left else f", more than the {left:.0f} s that are left"
    progress.say(f"Pictures of {side} pixels a side: to describe all of them takes about {seconds:.0f} s{late}.")
    return recipe if side == own else replace(recipe, image_size=side)


def _time_size(entry: ArchitectureSpec, hardware: Hardware) -> float | None:
    """Seconds that a network of this size takes for a picture; None where it can't take the size."""
    size = entry.preprocess.height
    try:
        network = entry.create(2).eval()
    except UsageError:
        return None
    network.to(device=hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return time_picture(network, size, hardware)


def time_picture(network: Network, side: int, hardware: Hardware) -> float:
    """Measures the seconds that a network, where it is to run, takes to describe a picture of a side."""
    pictures = torch.zeros(TIMED, 3, side, side, device=hardware.device)
    taken = 0.0
    for _ in range(2):  # the first sets things up
        start = time.perf_counter()
        with torch.inference_mode(), hardware.autocast():
            network.embed(pictures).cpu()
        taken = time.perf_counter() - start
    return taken / TIMED
