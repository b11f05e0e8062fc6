"""The main job: a folder of photographs in, a run folder with a measured model and its report out.

Knows the order of the steps and what a run folder holds; each step is another module's.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import safetensors.torch
import tomli_w
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.dataset import Dataset, read_folder
from belvedere.errors import DatasetError, TrainingError, UnreadableImage, UsageError, find_named
from belvedere.evaluate import evaluate_samples
from belvedere.images import read_image
from belvedere.model import MODEL_NAME, Model, load
from belvedere.progress import Progress
from belvedere.records import EpochFigures, Evaluation, ModelCard, Note, Provenance, Sample
from belvedere.results import Results, command_line, list_versions, unreadable_note, write_history, write_results
from belvedere.storage import new_folder, write_bytes, write_text
from belvedere.training.device import Hardware, choose_hardware
from belvedere.training.division import Division, divide
from belvedere.training.export import export_graph, write_model
from belvedere.training.finishing import in_peace
from belvedere.training.log import LoggedProgress
from belvedere.training.loop import Fit, Part, fit
from belvedere.training.memory import kept_blocks
from belvedere.training.networks import Network, find_network, list_layers
from belvedere.training.pixels import Pixels, read_pixels
from belvedere.training.recipes import DEFAULT_RECIPE, RECIPES, Recipe

PARITY_PICTURES = 32
MAX_SEED = 2**32
PART_TITLES = {"test": "Test photographs", "val": "Validation photographs"}
VERSIONS_OF = ("torch", "onnx", "onnxruntime", "numpy", "pillow", "simplejpeg")


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, object]  # the content of metrics.json

    def load(self) -> Model:
        """Opens the trained model."""
        return load(self.folder)


def train(
    photos: Dataset | Path | str,
    *,
    out: Path | str,
    recipe: Recipe | str = DEFAULT_RECIPE,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Trains a classifier, measures it and writes its run folder.

    The epoch is chosen on a validation part of the training photographs; the test part is only reported. Ctrl-C ends
    training early and keeps the best epoch so far.

    Args:
        photos: A folder or table of labelled photographs, or what `read_folder` made of one.
        out: The run folder. It appears when it is whole; until then the work is in `OUT.partial`.
        recipe: How to train: a name, or a recipe.
        epochs: Instead of the recipe's.
        seed: Of the division, the weights, the order and dropout.
        device: "auto", "cpu" or "cuda".
        overwrite: Whether an older folder of results there may be replaced.
        progress: Shows how far it is; nothing is shown without.

    Raises:
        UsageError: An argument can't be what was meant, or `out` may not be written.
        DatasetError: The photographs can't be learnt from.
        TrainingError: Training failed, or was ended before its first epoch was complete.
    """
    started = time.perf_counter()
    recipe = _choose_recipe(recipe, epochs, seed)
    hardware = choose_hardware(device)
    dataset = photos if isinstance(photos, Dataset) else read_folder(photos)
    with new_folder(Path(out), overwrite=overwrite, keep_if="history.csv") as folder:
        log = LoggedProgress(folder / "train.log", progress or Progress())
        log.say(f"Training by recipe {recipe.name!r} on {hardware.description}, seed {seed}, into {out}")
        job = _Job(folder, recipe, dataset, divide(dataset, recipe, seed, log), seed, hardware, log)
        config = _write_config(job)
        learnt = _learn(job)
        with in_peace(log):
            card = _write_model(job, learnt)
            tested, part = (job.division.test, "test") if job.division.test else (job.division.validation, "val")
            evaluation = evaluate_samples(load(folder), tested, log, part=part)
            log.say_notes(unreadable_note(evaluation))
            results = Results(
                title=str(out),
                evaluation=evaluation,
                card=card,
                notes=learnt.notes + unreadable_note(evaluation),
                samples={"Training photographs": job.division.train, PART_TITLES[part]: tested},
                command=command_line(),
                seconds_total=time.perf_counter() - started,
                history=learnt.fit.history,
                config=config,
            )
            metrics = write_results(folder, results)
            shutil.rmtree(folder / "checkpoint")
    return Run(Path(out), evaluation, metrics)


@dataclass(frozen=True)
class _Job:
    """What is to be done."""

    folder: Path
    recipe: Recipe
    dataset: Dataset
    division: Division
    seed: int
    hardware: Hardware
    log: LoggedProgress


@dataclass(frozen=True)
class _Learnt:
    """What training gave, not yet written."""

    network: Network  # with the best epoch's weights
    fit: Fit
    photographs: dict[str, int]  # part -> how many were used
    samples: NDArray[np.uint8]  # some of them, (n, H, W, 3), to compare the model file on
    notes: tuple[Note, ...]


def _choose_recipe(recipe: Recipe | str, epochs: int | None, seed: int) -> Recipe:
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"The seed must be a whole number from 0 to {MAX_SEED - 1}. Received: {seed}.")
    chosen = find_named("recipe", recipe, RECIPES) if isinstance(recipe, str) else recipe
    if epochs is not None:
        chosen = dataclasses.replace(chosen, epochs=epochs)
    if chosen.epochs < 1:
        raise UsageError(f"The number of epochs must be at least 1. Received: {chosen.epochs}.")
    return chosen


def _write_config(job: _Job) -> str:
    """Writes the effective values as config.toml and returns its text."""
    values = {
        "run": {
            "photographs": job.dataset.source,
            "class_names": list(job.dataset.class_names),
            "seed": job.seed,
            "device": job.hardware.device.type,
            "precision": job.hardware.precision_name,
        },
        "recipe": dataclasses.asdict(job.recipe),
    }
    text = tomli_w.dumps(values)
    write_text(job.folder / "config.toml", text)
    return text


def _learn(job: _Job) -> _Learnt:
    """Reads the photographs and trains on them; writes history.csv and weights.safetensors as it goes."""
    entry = find_network(job.recipe.network)
    _check_readable(job.division.test)
    checkpoint = job.folder / "checkpoint"
    checkpoint.mkdir()
    learnt_from = job.division.train + job.division.validation
    pixels = read_pixels(learnt_from, entry.preprocess, checkpoint / "pixels.uint8", job.log)
    notes = job.division.notes + _reading_notes(pixels)
    job.log.say_notes(notes)
    train_part, validation_part = _to_parts(pixels, job.dataset.class_names, set(job.division.validation))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = entry.create(len(job.dataset.class_names))

    def keep(history: tuple[EpochFigures, ...], best: dict[str, Tensor] | None) -> None:
        write_history(job.folder / "history.csv", history)
        if best is not None:
            write_bytes(job.folder / "weights.safetensors", safetensors.torch.save(best))

    with kept_blocks():
        outcome = fit(
            network,
            job.recipe,
            train_part,
            validation_part,
            seed=job.seed,
            hardware=job.hardware,
            progress=job.log,
            on_epoch=keep,
        )
    if not outcome.history:
        raise TrainingError("Training was ended before its first epoch was complete: there is no model to keep.")
    if outcome.interrupted:
        job.log.say(f"Ended early: epoch {outcome.best_epoch} of the {len(outcome.history)} completed is kept.")
    network.load_state_dict(outcome.weights)
    photographs = {
        "train": len(train_part.rows),
        "validation": len(validation_part.rows),
        "test": len(job.division.test),
    }
    spread = np.linspace(0, len(pixels.samples) - 1, PARITY_PICTURES).astype(int)  # over all the classes
    return _Learnt(network.cpu(), outcome, photographs, pixels.images[spread], notes)


def _write_model(job: _Job, learnt: _Learnt) -> ModelCard:
    """Writes model.onnx, compared with the network first, and returns its card."""
    # Again, although the best were written as they came: Ctrl-C may have come between an epoch and its writing.
    write_bytes(job.folder / "weights.safetensors", safetensors.torch.save(learnt.fit.weights))
    preprocess = find_network(job.recipe.network).preprocess
    exported = export_graph(learnt.network, preprocess, learnt.samples)
    job.log.say(f"The model file's answers differ from the network's by {exported.parity:.1e} at most.")
    provenance = Provenance(
        recipe=job.recipe.name,
        network=job.recipe.network,
        seed=job.seed,
        epochs=len(learnt.fit.history),
        best_epoch=learnt.fit.best_epoch,
        device=job.hardware.description,
        precision=job.hardware.precision_name,
        photographs=learnt.photographs,
        photographs_sha256=job.division.sha256,
        interrupted=learnt.fit.interrupted,
        seconds_train=sum(row.seconds for row in learnt.fit.history),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=list_versions(*VERSIONS_OF),
        parity=exported.parity,
    )
    layers = list_layers(learnt.network, preprocess)
    card = ModelCard(job.dataset.class_names, preprocess, layers, provenance)
    write_model(exported, card, job.folder / MODEL_NAME)
    return card


def _check_readable(test: Sequence[Sample]) -> None:
    """Refuses, before the work, a test part of which nothing can be measured."""
    reason = ""
    for sample in test:
        try:
            read_image(sample.path)
        except UnreadableImage as error:
            reason = reason or str(error)
        else:
            return
    if test:
        raise DatasetError(f"None of the {len(test)} test photographs can be read. The first: {reason}.")


def _reading_notes(pixels: Pixels) -> tuple[Note, ...]:
    notes = []
    if pixels.unreadable:
        named = tuple(f"{sample.image}: {reason}" for sample, reason in pixels.unreadable)
        notes.append(Note(f"{len(named)} left out: can't be read", named))
    if pixels.remarked:
        named = tuple(f"{sample.image}: {remark}" for sample, remark in pixels.remarked)
        notes.append(Note(f"{len(named)} photographs needed a decision to read", named))
    return tuple(notes)


def _to_parts(pixels: Pixels, class_names: Sequence[str], validation: set[Sample]) -> tuple[Part, Part]:
    """Sorts the rows that could be read into training and validation.

    Raises:
        TrainingError: A class has no readable photograph to learn from, or none at all is left to validate on.
    """
    labels = np.array([class_names.index(sample.label) for sample in pixels.samples])
    held = np.array([sample in validation for sample in pixels.samples])
    for index, name in enumerate(class_names):
        if not np.any(labels[~held] == index):
            raise TrainingError(
                f"No photograph of the class {name!r} can be read to learn from. Add some, or remove it."
            )
    if not held.any():
        raise TrainingError("None of the photographs kept back for validation can be read. Add more photographs.")
    rows = np.arange(len(labels))
    return Part(pixels.images, labels, rows[~held]), Part(pixels.images, labels, rows[held])
