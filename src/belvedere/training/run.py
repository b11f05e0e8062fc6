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
from torch import Tensor

from belvedere.dataset import Dataset, read_folder
from belvedere.errors import TrainingError, UsageError
from belvedere.evaluate import evaluate_samples
from belvedere.model import MODEL_NAME, Model, load
from belvedere.progress import Progress
from belvedere.records import EpochFigures, Evaluation, ModelCard, Note, Provenance, Sample
from belvedere.results import Results, command_line, list_versions, unreadable_note, write_history, write_results
from belvedere.storage import check_free, new_folder, write_bytes, write_text
from belvedere.training.device import Hardware, choose_hardware
from belvedere.training.division import Division, divide
from belvedere.training.export import export_graph, write_model
from belvedere.training.log import LoggedProgress
from belvedere.training.loop import Fit, Part, fit
from belvedere.training.networks import find_network, list_layers
from belvedere.training.pixels import Pixels, read_pixels
from belvedere.training.recipes import DEFAULT_RECIPE, Recipe, find_recipe

PARITY_PICTURES = 32
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
    recipe = _choose_recipe(recipe, epochs)
    hardware = choose_hardware(device)
    check_free(Path(out), overwrite=overwrite)
    dataset = photos if isinstance(photos, Dataset) else read_folder(photos)
    with new_folder(Path(out), overwrite=overwrite, keep_if="history.csv") as folder:
        log = LoggedProgress(folder / "train.log", progress or Progress())
        log.say(f"Training by recipe {recipe.name!r} on {hardware.description}, seed {seed}, into {out}")
        division = divide(dataset, recipe, seed, log)
        config = _write_config(folder, recipe, dataset, seed, hardware)
        card, history, notes = _make_model(folder, recipe, dataset, division, seed, hardware, log)
        tested, part = (division.test, "test") if division.test else (division.validation, "val")
        evaluation = evaluate_samples(load(folder), tested, log, part=part)
        results = Results(
            title=str(out),
            evaluation=evaluation,
            card=card,
            notes=notes + unreadable_note(evaluation),
            samples={"Training photographs": division.train, PART_TITLES[part]: tested},
            command=command_line(),
            seconds_total=time.perf_counter() - started,
            history=history,
            config=config,
        )
        metrics = write_results(folder, results)
        shutil.rmtree(folder / "checkpoint")
    return Run(Path(out), evaluation, metrics)


def _choose_recipe(recipe: Recipe | str, epochs: int | None) -> Recipe:
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if epochs is not None:
        chosen = dataclasses.replace(chosen, epochs=epochs)
    if chosen.epochs < 1:
        raise UsageError(f"The number of epochs must be at least 1. Received: {chosen.epochs}.")
    return chosen


def _write_config(folder: Path, recipe: Recipe, dataset: Dataset, seed: int, hardware: Hardware) -> str:
    """Writes the effective values as config.toml and returns its text."""
    values = {
        "run": {
            "photographs": dataset.source,
            "class_names": list(dataset.class_names),
            "seed": seed,
            "device": hardware.device.type,
            "precision": hardware.precision_name,
        },
        "recipe": dataclasses.asdict(recipe),
    }
    text = tomli_w.dumps(values)
    write_text(folder / "config.toml", text)
    return text


def _make_model(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    division: Division,
    seed: int,
    hardware: Hardware,
    log: LoggedProgress,
) -> tuple[ModelCard, tuple[EpochFigures, ...], tuple[Note, ...]]:
    """Trains and writes model.onnx, weights.safetensors and history.csv; returns what there is to tell of it."""
    entry = find_network(recipe.network)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    pixels = read_pixels(division.train + division.validation, entry.preprocess, checkpoint / "pixels.uint8", log)
    notes = division.notes + _reading_notes(pixels)
    log.say_notes(notes)
    train_part, validation_part = _to_parts(pixels, dataset.class_names, set(division.validation))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = entry.create(len(dataset.class_names))
    layers = list_layers(network, entry.preprocess)

    def keep(history: tuple[EpochFigures, ...], best: dict[str, Tensor] | None) -> None:
        write_history(folder / "history.csv", history)
        if best is not None:
            write_bytes(checkpoint / "best.safetensors", safetensors.torch.save(best))

    outcome = fit(
        network, recipe, train_part, validation_part, seed=seed, hardware=hardware, progress=log, on_epoch=keep
    )
    if not outcome.history:
        raise TrainingError("Training was ended before its first epoch was complete: there is no model to keep.")
    if outcome.interrupted:
        log.say(f"Ended early: epoch {outcome.best_epoch} of the {len(outcome.history)} completed is kept.")
    write_bytes(folder / "weights.safetensors", safetensors.torch.save(outcome.weights))
    network.load_state_dict(outcome.weights)
    exported = export_graph(network.cpu(), entry.preprocess, pixels.images[:PARITY_PICTURES])
    log.say(f"The model file's probabilities differ from the network's by {exported.parity:.1e} at most.")
    photographs = {"train": len(train_part.rows), "validation": len(validation_part.rows), "test": len(division.test)}
    provenance = _tell_provenance(recipe, seed, hardware, outcome, photographs, division.sha256, exported.parity)
    card = ModelCard(dataset.class_names, entry.preprocess, layers, provenance)
    write_model(exported, card, folder / MODEL_NAME)
    return card, outcome.history, notes


def _tell_provenance(
    recipe: Recipe,
    seed: int,
    hardware: Hardware,
    outcome: Fit,
    photographs: dict[str, int],
    sha256: str,
    parity: float,
) -> Provenance:
    return Provenance(
        recipe=recipe.name,
        network=recipe.network,
        seed=seed,
        epochs=len(outcome.history),
        best_epoch=outcome.best_epoch,
        device=hardware.description,
        precision=hardware.precision_name,
        photographs=photographs,
        photographs_sha256=sha256,
        interrupted=outcome.interrupted,
        seconds_train=sum(row.seconds for row in outcome.history),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=list_versions(*VERSIONS_OF),
        parity=parity,
    )


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
