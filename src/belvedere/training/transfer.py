"""From pretrained weights to a classifier: embeddings once, a probe of them, and, if asked, fine-tuning from there.

Knows the order of these; does not know how a probe is fitted, or how a step is taken.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from belvedere.data.hashing import Contents
from belvedere.data.splits import DataSplit
from belvedere.errors import TrainingError
from belvedere.images.decode import DecodedImage, read_inputs
from belvedere.inference.embeddings import Embeddings, ModelEmbedder, read_embeddings, store_name
from belvedere.inference.model import Model
from belvedere.inference.postprocess import Outputs
from belvedere.inference.tags import multi_hot
from belvedere.inference.uncertainty.ood import OODScorer, score_outliers
from belvedere.inference.uncertainty.temperature_scaling import log_loss
from belvedere.runtime.environment import cache_folder
from belvedere.runtime.progress import Progress
from belvedere.training.distillation import multilabel_targets
from belvedere.training.embedders import NetworkEmbedder, SpatialEmbedder, described_name, onnx_name
from belvedere.training.fit_uncertainty import HeldOutOutputs, spatial_logits
from belvedere.training.linear_probe import Probe, fit_probe
from belvedere.training.loop import Fit, copy_weights
from belvedere.training.networks import PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.training.pretrained_weights import Weights, load_pretrained_weights
from belvedere.training.recipes import Recipe
from belvedere.training.trainer import (
    PARITY_PICTURES,
    Job,
    TrainingOutput,
    check_classes,
    evenly_spaced,
    learn,
    read_warnings,
)
from belvedere.types.evaluation import EpochFigures
from belvedere.types.model import Preprocess
from belvedere.types.prediction import Prediction

PLACES_OF = 400  # photographs of which every place is described
KEPT_ASIDE = 5  # every such photograph tells what true pictures score


def transfer(job: Job) -> TrainingOutput:
    """Starts from a pretrained network, and learns the photographs' classes on it.

    Raises:
        WeightsError: Its weights can't be had, or are another network's.
        KeyboardInterrupt: Fine-tuning was ended before its first epoch was complete.
        TrainingError: Photographs to learn from are missing, or training came to nothing.
    """
    recipe = job.recipe
    entry = architecture_for(recipe)
    weights = load_pretrained_weights(entry.repository, recipe.weights, recipe.weights_sha256, job.log, job.offline)
    network = open_backbone(entry, weights, len(job.dataset.class_names), recipe, job.log)
    base = {"weights": weights.source, "sha256": weights.sha256, "license": entry.license}
    if recipe.linear_probe_only:
        return replace(_learn_probe(job, network, entry, weights), base=base)
    network.flip_tta = False  # while it learns; `learn` sets it in the end
    _start_from_probe(replace(job, recipe=replace(recipe, flip_tta=False)), network, entry, weights)
    learnt = learn(job, network)
    return replace(learnt, base=base | learnt.base)


def open_backbone(
    entry: ArchitectureSpec, weights: Weights, classes: int, recipe: Recipe, progress: Progress
) -> PretrainedNetwork:
    """Makes a backbone's network with its weights, ready to describe pictures."""
    network = entry.create(classes)
    if not isinstance(network, PretrainedNetwork):
        raise TypeError(f"{entry.name} is no pretrained network.")
    if missing := network.take_weights(weights.tensors, weights.source):
        progress.say(f"{weights.source} ends before {missing[0]}: so does the network.")
    network.flip_tta = recipe.flip_tta
    return network.eval()


def predict_from_embeddings(
    division: DataSplit, model: Model, learnt: TrainingOutput, outliers: OODScorer | None, progress: Progress
) -> dict[str, Prediction]:
    """Answers for test photographs from the model file's embeddings of them, which the cache may hold already.

    Tags are left out of them: they would take evidence by place, which the cache does not hold.

    Returns:
        Answers by image, as the model file gives them but for the rounding of its last layer.
    """
    embedder = ModelEmbedder(model, onnx_name(learnt.embedding_key))
    found = read_embeddings(division.test_contents, embedder, progress)
    logits = torch.from_numpy(_answer(learnt.network, found.values))
    notes: dict[str, tuple[str, ...]] = {}
    for sample, note in found.remarked:
        notes[sample.image] = (*notes.get(sample.image, ()), note)
    names = [sample.image for sample in found.samples]
    probabilities = (logits / model.card.trust.temperature).softmax(1).numpy()
    score = None if outliers is None else score_outliers(outliers, found.values, logits.numpy()).astype(np.float32)
    outputs = Outputs(logits.numpy(), probabilities, found.values, outlier_score=score)
    answers = model.to_predictions(outputs, names, [notes.get(name, ()) for name in names])
    return dict(zip(names, answers, strict=True))


def cached_onnx_path(learnt: TrainingOutput) -> Path | None:
    """Returns the file that keeps the graph of a pretrained network, whose last layer alone differs between runs."""
    if not learnt.embedding_key:
        return None
    folder = store_name(onnx_name(learnt.embedding_key), learnt.preprocess)
    return cache_folder() / "embeddings" / folder / f"graph-{learnt.network.classify.out_features}.onnx"


def _describe(job: Job, contents: Contents, network: Network, entry: ArchitectureSpec, weights: Weights) -> Embeddings:
    """Embeddings of photographs; the first process works out what is missing, the others wait for it."""
    network.to(device=job.hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    name = f"{described_name(job.recipe, weights)}-{job.hardware.device.type}-{job.hardware.precision_name}"
    if not job.ranks.leads:
        job.ranks.wait()
    found = read_embeddings(contents, NetworkEmbedder(network, job.hardware, entry.preprocess, name), job.log)
    if job.ranks.leads:
        job.ranks.wait()
    return found


def _labels(job: Job, embeddings: Embeddings) -> NDArray[np.int64]:
    return np.array([job.dataset.class_names.index(sample.label) for sample in embeddings.samples], np.int64)


def _fit(job: Job, train: Embeddings, labels: NDArray[np.int64]) -> Probe:
    class_names = job.dataset.class_names
    check_classes(labels, class_names)
    shared = multilabel_targets(train.samples, class_names, 0.0)
    return fit_probe(train.values, labels, train.hashes, len(class_names), job.seed, shared)


def _take(network: Network, probe: Probe) -> None:
    with torch.no_grad():
        network.classify.weight.copy_(torch.from_numpy(probe.weight))
        network.classify.bias.copy_(torch.from_numpy(probe.bias))


def _learn_probe(job: Job, network: Network, entry: ArchitectureSpec, weights: Weights) -> TrainingOutput:
    started = time.perf_counter()
    train = _describe(job, job.division.train, network, entry, weights)
    held = _describe(job, job.division.validation, network, entry, weights)
    notes = job.division.notes + read_warnings(train, held)
    job.log.say_notes(notes)
    labels, held_labels = _labels(job, train), _labels(job, held)
    probe = _fit(job, train, labels)
    _take(network, probe)
    seconds = time.perf_counter() - started
    figures = _figures(_answer(network.cpu(), train.values), labels)
    shown = held if len(held_labels) else train
    evidence, present = _look_again(job, network, shown, entry, weights)
    if len(held_labels):
        answers = _answer(network, held.values)
        held_out = HeldOutOutputs(answers, held_labels, held.values, evidence, present, train.values, labels)
    else:
        held_out = _hold_out(probe, train, labels, evidence, present)
    held_figures = _figures(held_out.logits, held_out.labels)
    row = EpochFigures(1, seconds, len(labels) / seconds, 0.0, *figures, *held_figures)  # a probe has no rate
    unseen = f", on photographs it had not seen {row.validation_accuracy:.4f}" if len(held_out.labels) else ""
    job.log.say(f"Probe with penalty {probe.penalty:.2g}: accuracy {row.accuracy:.4f}{unseen}")
    counts = {"train": len(labels), "validation": len(held_labels), "test": len(job.division.test)}
    samples = _pictures(train, entry.preprocess)
    fit = Fit((row,), 1, copy_weights(network), interrupted=False)
    return TrainingOutput(
        network, fit, counts, samples, notes, entry.preprocess, held_out, described_name(job.recipe, weights)
    )


def _start_from_probe(job: Job, network: PretrainedNetwork, entry: ArchitectureSpec, weights: Weights) -> None:
    """Gives a network the probe of the photographs to learn from, so that its first steps do not undo what it knows."""
    train = _describe(job, job.division.train, network, entry, weights)
    _take(network, _fit(job, train, _labels(job, train)))


def _answer(network: Network, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of embeddings."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = network.classify(torch.from_numpy(values)).numpy()
    return logits


def _figures(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Mean cross-entropy, nats, and accuracy; not a number where there is nothing to tell them by."""
    if not len(labels):
        return float("nan"), float("nan")
    return log_loss(logits, labels), float((logits.argmax(1) == labels).mean())


def _hold_out(
    probe: Probe,
    train: Embeddings,
    labels: NDArray[np.int64],
    evidence: NDArray[np.float32],
    present: NDArray[np.bool_],
) -> HeldOutOutputs:
    """What probes say of photographs they had not seen; every fifth of these is not counted as learnt from."""
    logits = np.full((len(labels), present.shape[1]), np.nan, np.float32) if probe.held_out is None else probe.held_out
    told = ~np.isnan(logits[:, 0])
    aside = told & (np.arange(len(labels)) % KEPT_ASIDE == 0)
    if len(np.unique(labels[~aside])) < len(np.unique(labels)):
        aside[:] = False  # a class would be left without any
    return HeldOutOutputs(
        logits[told],
        labels[told],
        train.values[told],
        evidence,
        present,
        train.values[~aside],
        labels[~aside],
        aside[told],
    )


def _look_again(
    job: Job, network: Network, shown: Embeddings, entry: ArchitectureSpec, weights: Weights
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Evidence by place of some photographs, and their labels; what is seen at each place is kept in the cache."""
    rows = evenly_spaced(len(shown.samples), min(PLACES_OF, len(shown.samples)))
    some = Contents(tuple(shown.samples[row] for row in rows), tuple(shown.hashes[row] for row in rows), ())
    network.to(device=job.hardware.device)
    name = f"{described_name(job.recipe, weights)}-places-{job.hardware.device.type}-{job.hardware.precision_name}"
    embedder = SpatialEmbedder(network, job.hardware, entry.preprocess, name)
    seen = read_embeddings(some, embedder, job.log)
    network.cpu()
    places = torch.from_numpy(seen.values).view(-1, *embedder.shape)
    with torch.inference_mode():
        evidence: NDArray[np.float32] = spatial_logits(network, places).numpy()
    return evidence, multi_hot(seen.samples, job.dataset.class_names)


def _pictures(embeddings: Embeddings, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Some photographs, to compare the model file on."""
    chosen = [embeddings.samples[row].path for row in evenly_spaced(len(embeddings.samples), PARITY_PICTURES)]
    read = [found.pixels for found in read_inputs(chosen, preprocess) if isinstance(found, DecodedImage)]
    if not read:
        raise TrainingError("The photographs have been moved or deleted while they were learnt from. Start again.")
    return np.stack(read)
