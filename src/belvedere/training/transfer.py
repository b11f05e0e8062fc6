"""Start from pretrained weights: embeddings, a linear probe, and the initial network of a fine-tuning."""

import time
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from belvedere.data.groups import group_names
from belvedere.data.hashing import HashedSamples
from belvedere.data.sampling import evenly_spaced
from belvedere.data.splits import DataSplit
from belvedere.errors import TrainingError
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import read_inputs
from belvedere.inference.embeddings import Embedder, Embeddings, ModelEmbedder, read_embeddings
from belvedere.inference.model import Model
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.tags import multi_hot
from belvedere.inference.uncertainty.ood import OODScorer, ood_scores
from belvedere.inference.uncertainty.temperature_scaling import log_loss
from belvedere.runtime.progress import Progress
from belvedere.training.balancing import probe_weights
from belvedere.training.device import Runtime
from belvedere.training.distillation import multilabel_targets
from belvedere.training.embedders import NetworkEmbedder, SpatialEmbedder, embedding_key, onnx_name
from belvedere.training.held_out import HeldOutOutputs, spatial_logits
from belvedere.training.linear_probe import Probe, fit_probe
from belvedere.training.loop import FitResult, copy_weights
from belvedere.training.networks import PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.training.pretrained_weights import Weights, load_pretrained_weights
from belvedere.training.recipes import Recipe
from belvedere.training.results import NUM_SAMPLE_IMAGES, TrainingOutput
from belvedere.training.training_data import check_classes, read_warnings
from belvedere.types.evaluation import EpochMetrics
from belvedere.types.model import Preprocess
from belvedere.types.prediction import Prediction

MAX_MAP_IMAGES = 400  # with features at every position
OOD_EVERY = 5  # every such image is left out of the reference embeddings of the OOD score


def load_weights(recipe: Recipe, progress: Progress, offline: bool) -> Weights:
    """Return the pretrained weights of a recipe, downloaded on first use.

    Raises:
        WeightsError: The weights cannot be downloaded or read, or have another hash.
    """
    repository = architecture_for(recipe).repository
    return load_pretrained_weights(repository, recipe.weights, recipe.weights_sha256, progress, offline)


def open_backbone(
    spec: ArchitectureSpec, weights: Weights, num_classes: int, recipe: Recipe, progress: Progress
) -> PretrainedNetwork:
    """Build a pretrained network in evaluation mode; its head is not trained.

    Raises:
        WeightsError: The weights are of another architecture.
    """
    network = spec.create(num_classes)
    if not isinstance(network, PretrainedNetwork):
        raise TypeError(f"{spec.name} is not a pretrained network.")
    if missing := network.load_backbone_weights(weights.tensors, weights.source):
        progress.log(f"{weights.source} has no {missing[0]}: the network ends before it.")
    network.flip_tta = recipe.flip_tta
    return network.eval()


def build_from_probe(
    recipe: Recipe, labeled: HashedSamples, class_names: tuple[str, ...], weights: Weights, seed: int, runtime: Runtime
) -> Network:
    """Build a pretrained network whose head is a linear probe of the training images."""
    spec = architecture_for(recipe)
    network = open_backbone(spec, weights, len(class_names), recipe, runtime.progress)
    network.flip_tta = False
    key = f"{embedding_key(replace(recipe, flip_tta=False), weights)}-{runtime.device.key}"
    train = _embed(labeled, _to_device(network, spec, key, runtime), runtime)
    _set_head(network, _fit_probe(train, class_names, seed, recipe))
    return network


def train_linear_probe(
    recipe: Recipe, split: DataSplit, class_names: tuple[str, ...], weights: Weights, seed: int, runtime: Runtime
) -> TrainingOutput:
    """Fit a linear probe on the cached embeddings of a frozen backbone; `seed` is for the folds.

    Raises:
        TrainingError: A class has no readable training image.
        WeightsError: The weights are of another architecture.
    """
    started = time.perf_counter()
    spec, key = architecture_for(recipe), embedding_key(recipe, weights)
    network = open_backbone(spec, weights, len(class_names), recipe, runtime.progress)
    embedder = _to_device(network, spec, f"{key}-{runtime.device.key}", runtime)
    train, validation = _embed(split.train, embedder, runtime), _embed(split.validation, embedder, runtime)
    warnings = split.warnings + read_warnings(train, validation)
    runtime.progress.log_warnings(warnings)
    probe = _fit_probe(train, class_names, seed, recipe)
    _set_head(network, probe)
    seconds = time.perf_counter() - started
    labels = _labels(train, class_names)
    map_key = f"{key}-positions-{runtime.device.key}"
    maps = _activation_maps(validation if validation.samples else train, class_names, embedder, map_key, runtime)
    held_out = _held_out(network, probe, train, validation, class_names, maps)
    metrics = (*_metrics(_head_logits(network, train.values), labels), *_metrics(held_out.logits, held_out.labels))
    row = EpochMetrics(1, seconds, len(labels) / seconds, 0.0, *metrics)  # a probe has no learning rate
    held_out_accuracy = f", {row.validation_accuracy:.1%} on held-out images" if len(held_out.labels) else ""
    runtime.progress.log(
        f"Linear probe with penalty {probe.penalty:.2g}: accuracy {row.accuracy:.1%}{held_out_accuracy}"
    )
    return TrainingOutput(
        network,
        FitResult((row,), 1, copy_weights(network), interrupted=False),
        held_out,
        spec.preprocess,
        _read_samples(train, spec.preprocess),
        {"train": len(labels), "validation": len(validation.samples), "test": len(split.test)},
        warnings,
        embedding_key=key,
    )


def predict_from_embeddings(
    split: DataSplit, model: Model, trained: TrainingOutput, ood_scorer: OODScorer | None, progress: Progress
) -> dict[str, Prediction]:
    """Predict for the test images from cached embeddings of the model file, without tags.

    Returns:
        Predictions by image, equal to those of the model file but for the rounding of its head.
    """
    embedder = ModelEmbedder(model, onnx_name(trained.embedding_key))
    embeddings = read_embeddings(split.hashed_test, embedder, progress)
    logits = torch.from_numpy(_head_logits(trained.network, embeddings.values))
    warnings: defaultdict[str, list[str]] = defaultdict(list)
    for sample, warning in embeddings.with_warnings:
        warnings[sample.name].append(warning)
    names = [sample.name for sample in embeddings.samples]
    probabilities = (logits / model.card.uncertainty.temperature).softmax(1).numpy()
    score = None
    if ood_scorer is not None:
        score = ood_scores(ood_scorer, embeddings.values, logits.numpy()).astype(np.float32)
    outputs = ModelOutputs(logits.numpy(), probabilities, embeddings.values, ood_score=score)
    predictions = model.to_predictions(outputs, names, [tuple(warnings[name]) for name in names])
    return dict(zip(names, predictions, strict=True))


def _to_device(network: Network, spec: ArchitectureSpec, name: str, runtime: Runtime) -> NetworkEmbedder:
    runtime.device.move_network(network)
    return NetworkEmbedder(network, runtime.device, spec.preprocess, name)


def _embed(contents: HashedSamples, embedder: Embedder, runtime: Runtime) -> Embeddings:
    with runtime.distributed.main_process_first():
        return read_embeddings(contents, embedder, runtime.progress)


def _labels(embeddings: Embeddings, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([class_names.index(sample.label) for sample in embeddings.samples], np.int64)


def _fit_probe(train: Embeddings, class_names: tuple[str, ...], seed: int, recipe: Recipe) -> Probe:
    labels = _labels(train, class_names)
    check_classes(labels, class_names)
    targets = multilabel_targets(train.samples, class_names, 0.0)
    weights = probe_weights(labels, len(class_names), recipe)
    groups = group_names(HashedSamples(train.samples, train.hashes))
    return fit_probe(train.values, labels, groups, len(class_names), seed, targets, weights)


def _set_head(network: Network, probe: Probe) -> None:
    with torch.no_grad():
        network.classify.weight.copy_(torch.from_numpy(probe.weight))
        network.classify.bias.copy_(torch.from_numpy(probe.bias))


def _head_logits(network: Network, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = network.classify(torch.from_numpy(embeddings)).numpy()
    return logits


def _metrics(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy, nats, and accuracy; NaN without labels."""
    if not len(labels):
        return float("nan"), float("nan")
    return log_loss(logits, labels), float((logits.argmax(1) == labels).mean())


def _held_out(
    network: Network,
    probe: Probe,
    train: Embeddings,
    validation: Embeddings,
    class_names: tuple[str, ...],
    maps: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> HeldOutOutputs:
    """Return outputs for the validation images; without any, those of the cross-validated probes."""
    labels = _labels(train, class_names)
    if validation.samples:
        logits, held_out_labels = _head_logits(network, validation.values), _labels(validation, class_names)
        return HeldOutOutputs(logits, held_out_labels, validation.values, *maps, train.values, labels)
    logits = np.full((len(labels), len(class_names)), np.nan, np.float32) if probe.held_out is None else probe.held_out
    known = ~np.isnan(logits[:, 0])
    ood_mask = known & (np.arange(len(labels)) % OOD_EVERY == 0)
    if len(np.unique(labels[~ood_mask])) < len(np.unique(labels)):
        ood_mask[:] = False  # every class needs reference embeddings
    return HeldOutOutputs(
        logits[known],
        labels[known],
        train.values[known],
        *maps,
        train.values[~ood_mask],
        labels[~ood_mask],
        ood_mask[known],
    )


def _activation_maps(
    shown: Embeddings, class_names: tuple[str, ...], embedder: NetworkEmbedder, key: str, runtime: Runtime
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return class activation maps of some images, and their labels as multi-hot rows; features are cached.

    The network is on the CPU afterwards.
    """
    rows = evenly_spaced(len(shown.samples), min(MAX_MAP_IMAGES, len(shown.samples)))
    contents = HashedSamples(shown.samples, shown.hashes).select(rows.tolist())
    spatial = SpatialEmbedder(embedder.network, embedder.device, embedder.preprocess, key)
    embeddings, shape = read_embeddings(contents, spatial, runtime.progress), spatial.shape
    embedder.network.cpu()
    with torch.inference_mode():
        maps = spatial_logits(embedder.network, torch.from_numpy(embeddings.values).view(-1, *shape))
    return maps.numpy(), multi_hot(embeddings.samples, class_names)


def _read_samples(embeddings: Embeddings, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return some images, to compare the model file on."""
    rows = evenly_spaced(len(embeddings.samples), NUM_SAMPLE_IMAGES)
    inputs = read_inputs([embeddings.samples[row].path for row in rows], preprocess)
    images = [image.pixels for image in inputs if isinstance(image, DecodedImage)]
    if not images:
        raise TrainingError("The images were moved or deleted during the training. Start again.")
    return np.stack(images)
