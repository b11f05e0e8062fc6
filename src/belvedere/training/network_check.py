"""Checks networks of plug-ins and users before a training, and adapts the recipe to them."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from belvedere.errors import TrainingError, UsageError
from belvedere.runtime.progress import Progress
from belvedere.runtime.registry import plugin_errors
from belvedere.training.input_size import accepts_size
from belvedere.training.networks import architecture_for
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.training.networks.wrapped import TOLERANCE, check_logits, random_pixels
from belvedere.training.onnx_export import export_graph
from belvedere.training.recipes import Recipe, Schedule
from belvedere.training.schedule import size_at, sizes_of


def prepare_network(recipe: Recipe, num_classes: int, seed: int, progress: Progress) -> Recipe:
    """Check the network of a recipe, unless it is Belvedere's or timm's, and adapt the recipe to it.

    Args:
        recipe: Names the network.
        num_classes: K.
        seed: Seed of the initial weights.
        progress: Tells what was adapted.

    Returns:
        The recipe without a whitened stem if the network has none, and with crops of one size if it accepts one only.

    Raises:
        PluginError: The network raises an exception.
        UsageError: It does not return logits, has nothing to train, or cannot be exported to ONNX.
    """
    spec = architecture_for(recipe)
    if not spec.is_plugin:
        return recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = spec.create(num_classes)
        _check_outputs(network, spec, num_classes)
        _check_training(network, spec, num_classes)
    _check_export(network, spec)
    if recipe.whitened_stem and type(network).init_whitening is Network.init_whitening:
        recipe = replace(recipe, whitened_stem=False)
    return replace(recipe, image_size_schedule=_adapt_schedule(recipe.image_size_schedule, network, spec, progress))


def _adapt_schedule(schedule: Schedule, network: Network, spec: ArchitectureSpec, progress: Progress) -> Schedule:
    """Return the schedule; for a network of one size, that size, or no crops if crops cannot have it."""
    sizes = sizes_of(schedule)
    if not sizes or (spec.any_size is not False and all(accepts_size(network, size) for size in sizes)):
        return schedule
    size = spec.preprocess.height
    fixed = ((0.0, float(size)),)
    fits = size_at(fixed, 0.0) == size
    how = "all crops have that size" if fits else "it is trained without crops"
    progress.log(f"{spec.name} accepts images of {size} x {size} pixels only: {how}.")
    return fixed if fits else ()


def _check_outputs(network: Network, spec: ArchitectureSpec, num_classes: int) -> None:
    """Check logits, embedding and feature map."""
    pixels = random_pixels(spec.preprocess)
    size = f"{spec.preprocess.height} x {spec.preprocess.width}"
    network.eval()
    with plugin_errors(f"The network {spec.name!r} with images of {size} pixels"), torch.no_grad():
        logits, embedding, maps = network(pixels), network.forward_embedding(pixels), network.feature_map(pixels)
    check_logits(logits, num_classes, spec.name)
    if not isinstance(embedding, Tensor) or embedding.ndim != 2:
        raise UsageError(f"`features` of the network {spec.name!r} must return embeddings of shape (N, D).")
    if maps.ndim != 4 or not torch.allclose(maps.mean((2, 3)), embedding, rtol=TOLERANCE, atol=TOLERANCE):
        raise UsageError(
            f"`feature_map` of the network {spec.name!r} must return (N, D, h, w) whose mean is the embedding."
        )


def _check_training(network: Network, spec: ArchitectureSpec, num_classes: int) -> None:
    """Check that a step of training gives gradients; on a copy, since batch norm counts images."""
    trained = copy.deepcopy(network).train()
    with plugin_errors(f"The network {spec.name!r} in training mode"):
        logits = trained(random_pixels(spec.preprocess))
        check_logits(logits, num_classes, spec.name)
        if logits.requires_grad:
            torch.autograd.backward(logits.square().sum())
    if not any(weights.grad is not None for weights in trained.parameters()):
        raise UsageError(f"The network {spec.name!r} has no parameter that can be trained. Set requires_grad of some.")


def _check_export(network: Network, spec: ArchitectureSpec) -> None:
    """Export the untrained network to ONNX and run it: better now than after the training."""
    size = spec.preprocess
    sample = np.random.default_rng(0).integers(0, 256, (2, size.height, size.width, 3), np.uint8)
    try:
        with plugin_errors(f"The export of the network {spec.name!r} to ONNX"):
            export_graph(copy.deepcopy(network), spec.preprocess, sample)
    except TrainingError as error:
        raise UsageError(
            f"The network {spec.name!r} cannot be exported to ONNX, so it is not trained. {error}"
        ) from error
