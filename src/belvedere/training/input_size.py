"""Image size of a pretrained network: what it accepts, what the images need, and what the time allows."""

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from belvedere.data.sampling import evenly_spaced
from belvedere.data.splits import DataSplit
from belvedere.errors import InvalidImageError, UsageError
from belvedere.images.header import read_facts
from belvedere.runtime.progress import Progress
from belvedere.training.device import Device, Runtime
from belvedere.training.networks import PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.training.recipes import MAX_IMAGE_SIZE, Recipe
from belvedere.training.schedule import sizes_of
from belvedere.types.data import Sample

SMALLER_SIZES = (6 / 7, 5 / 7, 4 / 7, 3 / 7)  # of the network's own: 192, 160, 128 and 96 for 224 pixels
SIZE_MULTIPLE = 32  # pixels
TIMED_IMAGES = 32
MEASURED_IMAGES = 64  # whose sizes are read
ONNX_SLOWDOWN = 1.6  # time of a model file in float32 to that of training in bfloat16


def adapt_size_schedule(recipe: Recipe, progress: Progress) -> Recipe:
    """Scale the image size schedule of a fine-tuning to the network; drop it if the network accepts one size only.

    Raises:
        UsageError: The network cannot be used as a backbone.
    """
    if not recipe.pretrained or not recipe.image_size_schedule:
        return recipe
    spec = architecture_for(recipe)
    own = spec.preprocess.height
    scale = own / recipe.image_size_schedule[-1][1]
    schedule = tuple((at, min(max(1.0, size * scale), MAX_IMAGE_SIZE)) for at, size in recipe.image_size_schedule)
    network = spec.create(2).eval()
    if all(accepts_size(network, size) for size in sizes_of(schedule)):
        return replace(recipe, image_size_schedule=schedule)
    progress.log(f"{recipe.network} accepts images of {own} x {own} pixels only: it is trained without crops.")
    return replace(recipe, image_size_schedule=())


def accepts_size(network: Network, size: int) -> bool:
    """Return whether a network, in evaluation mode, accepts images of a size, pixels."""
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, size, size))
    except Exception:  # noqa: BLE001 - whatever a module raises for a size that it is not made for
        return False
    return True


def fit_size_to_images(recipe: Recipe, samples: Sequence[Sample]) -> Recipe:
    """Set 6/7 of the own size of a vision transformer, such as 192 pixels, if most of the images are no larger.

    Enlarged images take longer to embed, and a probe of a vision transformer classifies them no better; probes of
    convolutional networks do (docs/experiments.md). A recipe that sets an image size is returned unchanged.
    """
    if recipe.image_size is not None:
        return recipe
    size = _round(architecture_for(recipe).preprocess.height * SMALLER_SIZES[0])
    smaller = replace(recipe, image_size=size)
    if not 0 < median_longer_side(samples) <= size:
        return recipe
    try:
        network = architecture_for(smaller).create(2).eval()
    except UsageError:
        return recipe
    fits = isinstance(network, PretrainedNetwork) and network.is_vision_transformer and accepts_size(network, size)
    return smaller if fits else recipe


def median_longer_side(samples: Sequence[Sample]) -> float:
    """Return the median of the longer sides of some images, pixels, from their headers; 0 if none can be read."""
    sides = []
    for index in evenly_spaced(len(samples), min(MEASURED_IMAGES, len(samples))):
        with suppress(InvalidImageError):
            if header := read_facts(samples[index].path):
                sides.append(max(header.width, header.height))
    return statistics.median(sides) if sides else 0.0


def _round(size: float) -> int:
    return round(size / SIZE_MULTIPLE) * SIZE_MULTIPLE


def choose_image_size(recipe: Recipe, split: DataSplit, runtime: Runtime, deadline: float | None) -> Recipe:
    """Set the image size of a linear probe: what the images need, or the largest that the time allows.

    A recipe that sets an image size, or is not for a linear probe, is returned unchanged.

    Args:
        recipe: The recipe.
        split: The images.
        runtime: Device, processes and progress.
        deadline: Time by `time.perf_counter()` at which all images must be embedded; None: no limit.
    """
    if not recipe.linear_probe_only or recipe.image_size is not None:
        return recipe
    own, recipe = architecture_for(recipe).preprocess.height, fit_size_to_images(recipe, split.train.samples)
    largest = recipe.image_size or own
    if deadline is None:
        if largest < own:
            runtime.progress.log(f"Image size {largest} pixels instead of {own}: most images are no larger.")
        return recipe
    num_labeled = len(split.train.samples) + len(split.validation.samples)
    left, size, seconds = deadline - time.perf_counter(), largest, 0.0
    for candidate in (own, *(_round(own * factor) for factor in SMALLER_SIZES)):
        if candidate > largest:
            continue
        spec = architecture_for(replace(recipe, image_size=None if candidate == own else candidate))
        image_seconds = _time_size(spec, runtime.device)
        if image_seconds is None:
            continue
        size, seconds = candidate, (num_labeled + ONNX_SLOWDOWN * len(split.test)) * image_seconds
        if seconds < left:
            break
    size = runtime.distributed.broadcast(size)
    late = "" if seconds < left else f", more than the {left:.0f} s left"
    runtime.progress.log(f"Image size {size} pixels: embedding all images takes about {seconds:.0f} s{late}.")
    return replace(recipe, image_size=None if size == own else size)


def _time_size(spec: ArchitectureSpec, device: Device) -> float | None:
    """Return the seconds for an image at the size of a network; None if it does not accept the size."""
    try:
        network = spec.create(2).eval()
    except UsageError:
        return None
    device.move_network(network)
    return time_embedding(network, spec.preprocess.height, device)


def time_embedding(network: Network, size: int, device: Device) -> float:
    """Measure the seconds that a network on the device takes to embed one image of a size."""
    images = torch.zeros(TIMED_IMAGES, 3, size, size, device=device.torch_device)
    seconds = 0.0
    for _ in range(2):  # the first run compiles kernels
        start = time.perf_counter()
        with torch.inference_mode(), device.autocast():
            network.forward_embedding(images).cpu()
        seconds = time.perf_counter() - start
    return seconds / TIMED_IMAGES
