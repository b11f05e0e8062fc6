"""From divided photographs to trained weights: pixels, plan, training, and going on after being cut off.

Knows what the unfinished run folder holds; does not know model files or reports.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import Contents
from belvedere.data.image_cache import Held, Pixels, read_pixels
from belvedere.data.splits import DataSplit
from belvedere.errors import TrainingError
from belvedere.evaluation.run_folder import write_history
from belvedere.inference.tags import multi_hot
from belvedere.runtime.files import write_bytes
from belvedere.runtime.malloc import keep_freed_memory, trim_memory
from belvedere.training.augment import fit_whole, resize_batch
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.training.data_loader import DataLoader, Part, Rows
from belvedere.training.device import Hardware
from belvedere.training.distillation import Teacher, find_teacher, multilabel_targets
from belvedere.training.distributed import Distributed
from belvedere.training.fit_uncertainty import EVIDENCE_OF, LEARNT_FROM, HeldOutOutputs, in_batches, look_at
from belvedere.training.log import LoggedProgress
from belvedere.training.loop import Fit, Plan, copy_weights, fit
from belvedere.training.networks import Network, architecture_for, find_network
from belvedere.training.recipes import Recipe
from belvedere.training.schedule import count_steps, repeats_per_epoch, size_at
from belvedere.training.time_budget import steps_in_time
from belvedere.training.unlabeled import UNLABELLED, unopened_notes
from belvedere.training.weight_interpolation import interpolate_weights
from belvedere.types.data import Note
from belvedere.types.model import Preprocess

CHECKPOINT = "checkpoint.safetensors"
BEST = "best/"  # before the names of the best epoch's weights in a checkpoint
PARITY_PICTURES = 16
WHITENED_ON = 512  # pictures: of as many squares as make chance small


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    folder: Path  # the unfinished run folder
    recipe: Recipe
    dataset: Dataset
    division: DataSplit
    seed: int
    hardware: Hardware
    ranks: Distributed
    log: LoggedProgress
    ends: float | None  # when the weights shall be there, by time.perf_counter
    offline: bool = False  # whether pretrained weights may not be downloaded
    unlabeled: Contents = field(default_factory=lambda: Contents((), (), ()))  # for which only the teacher answers


@dataclass(frozen=True)
class TrainingOutput:
    """What training gave, not yet written."""

    network: Network  # with the best epoch's weights
    fit: Fit
    photographs: dict[str, int]  # part -> how many were used
    samples: NDArray[np.uint8]  # some of them, (n, H, W, 3), to compare the model file on
    notes: tuple[Note, ...]
    preprocess: Preprocess  # of the network
    held_out: HeldOutOutputs
    embedding_key: str = ""  # a pretrained network that stayed as it was, for the cache of its embeddings
    base: dict[str, str] = field(default_factory=dict)  # of a pretrained network: its weights, their hash, license


def learn(job: Job, network: Network | None = None) -> TrainingOutput:
    """Reads the photographs and trains on them; writes history, weights and checkpoint as it goes.

    Args:
        job: What is to be done.
        network: What to start from; without, the recipe's network with fresh weights.

    Returns:
        The network with the weights of the best epoch.

    Raises:
        KeyboardInterrupt: Training was ended before its first epoch was complete.
        TrainingError: Photographs to learn from are missing, or training came to nothing.
    """
    entry = architecture_for(job.recipe)
    source = entry.preprocess
    if job.recipe.image_size_schedule:  # crops are cut from a larger picture
        source = replace(source, height=job.recipe.cached_image_size, width=job.recipe.cached_image_size)
    teacher = find_teacher(job.recipe, job.dataset.class_names, job.hardware)
    pixels, held = _read(job, _to_learn(job), source), _read(job, job.division.validation, entry.preprocess)
    notes = job.division.notes + read_warnings(pixels, held) + unopened_notes(job.unlabeled)
    job.log.say_notes(notes)
    class_names = job.dataset.class_names
    train, validation = _to_part(pixels, class_names), _to_part(held, class_names)
    train = replace(train, targets=multilabel_targets(pixels.samples, class_names, job.recipe.label_smoothing))
    if teacher is not None:
        train = _teach(job, teacher, train, pixels, source)
    _check_parts(train, validation, class_names)
    start, base = None if network is None else copy_weights(network), dict[str, str]()
    network = network or start_network(job.recipe, len(class_names), job.seed, train.images)
    kept_back = DataLoader(validation, job.hardware)
    with keep_freed_memory():
        repeats = repeats_per_epoch(len(train.labels), job.recipe)
        outcome = _train(job, network, DataLoader(train, job.hardware, repeats), kept_back)
    if not outcome.history:
        ended = KeyboardInterrupt()
        ended.add_note("Training had not completed its first epoch: there is no model to keep.")
        raise ended
    if not outcome.weights:
        raise TrainingError(
            "The validation loss was no number after any epoch: there is no model to keep. Lower the rates."
        )
    if outcome.interrupted:
        job.log.say(f"Ended early: epoch {outcome.best_epoch} of the {len(outcome.history)} completed is kept.")
    if start is not None:
        chosen = interpolate_weights(network, start, outcome.weights, kept_back, job.hardware, job.ranks)
        outcome = replace(outcome, weights=chosen[1])
        job.log.say(f"Between the start and epoch {outcome.best_epoch}, {chosen[0]:.0%} of the way is best.")
        base["tuned"] = f"{chosen[0]:.0%} of the way"
    network.load_state_dict(outcome.weights)
    network.flip_tta = job.recipe.flip_tta  # epochs were compared from one view, which takes half the time
    held_out = hold_out(job, network, DataLoader(train, job.hardware), kept_back, held)
    trim_memory()
    if teacher is not None:
        base["teacher"] = f"{Path(job.recipe.teacher).name}, SHA-256 {teacher.sha256}"  # no path: it goes into the card
    photographs = _count_parts(job, pixels, held)
    samples = validation.images[evenly_spaced(len(validation.labels), PARITY_PICTURES)]
    return TrainingOutput(network.cpu(), outcome, photographs, samples, notes, entry.preprocess, held_out, base=base)


def _count_parts(job: Job, learnt: Pixels, held: Pixels) -> dict[str, int]:
    joined = sum(sample.label == UNLABELLED for sample in learnt.samples)
    more = {"unlabeled": joined} if joined else {}
    labeled = len(learnt.samples) - joined
    return {"train": labeled, **more, "validation": len(held.samples), "test": len(job.division.test)}


def hold_out(job: Job, network: Network, train: DataLoader, validation: DataLoader, held: Pixels) -> HeldOutOutputs:
    """Asks the network about all validation photographs and some that it has learnt from."""
    side = architecture_for(job.recipe).preprocess.height

    def take(part: DataLoader) -> Callable[[NDArray[np.intp]], Tensor]:
        return lambda rows: fit_whole(part.take(rows)[0], side)

    firsts = np.unique(train.labels, return_index=True)[1]  # no class shall be missing, however rare
    chosen = np.union1d(evenly_spaced(len(train), min(LEARNT_FROM, len(train))), firsts)
    seen = look_at(network, in_batches(chosen, take(train)), job.hardware)
    rows = np.arange(len(validation))
    found = look_at(network, in_batches(rows, take(validation)), job.hardware)
    some = evenly_spaced(len(rows), min(EVIDENCE_OF, len(rows)))
    shown = look_at(network, in_batches(some, take(validation)), job.hardware, evidence=True)
    present = multi_hot([held.samples[row] for row in some], job.dataset.class_names)
    return HeldOutOutputs(
        found.logits,
        validation.labels,
        found.embeddings,
        shown.evidence,
        present,
        seen.embeddings,
        train.labels[chosen],
    )


def start_network(recipe: Recipe, classes: int, seed: int, images: Rows) -> Network:
    """Makes a recipe's network with fresh weights.

    Args:
        recipe: Names it, and says whether its first layer is whitened.
        classes: K, how many it shall tell apart.
        seed: Of the weights.
        images: What it will learn from, (N, H, W, 3) uint8.

    Returns:
        The network, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = find_network(recipe.network).create(classes)
    if recipe.whitened_stem:
        side = size_at(recipe.image_size_schedule, 1.0) if recipe.image_size_schedule else None
        chunks = np.array_split(evenly_spaced(len(images), WHITENED_ON), 16)  # all at once would take much memory
        scaled = [resize_batch(torch.from_numpy(images[rows]), side) for rows in chunks]
        network.whiten(torch.cat(scaled))
    return network


def evenly_spaced(count: int, wanted: int) -> NDArray[np.intp]:
    """Returns rows of a part that are spread over all of it, and so over the classes."""
    return np.linspace(0, count - 1, wanted).astype(np.intp)


def _train(job: Job, network: Network, train: DataLoader, validation: DataLoader) -> Fit:
    """Trains, from the checkpoint where there is one."""
    file = job.folder / CHECKPOINT
    state = read_checkpoint(file) if file.exists() else None
    plan = _make_plan(job, network, train, validation, state)

    def keep(state: State) -> None:
        if not job.ranks.leads:
            return
        write_history(job.folder / "history.csv", state.history)
        best = {name.removeprefix(BEST): values for name, values in state.tensors.items() if name.startswith(BEST)}
        if best:
            write_bytes(job.folder / "weights.safetensors", safetensors.torch.save(best))
        write_checkpoint(state, file)

    return fit(network, plan, train, validation, progress=job.log, keep=keep, state=state)


def _make_plan(job: Job, network: Network, train: DataLoader, validation: DataLoader, state: State | None) -> Plan:
    steps = count_steps(len(train), job.recipe, job.ranks.count)
    plan = Plan(job.recipe, steps, job.seed, job.hardware, job.ranks)
    if state is not None:
        job.log.say(f"Going on after {state.step} of {state.total_steps} steps.")
        return replace(plan, steps=replace(steps, total=state.total_steps), limit_seconds=state.limit_seconds)
    if job.ends is None:
        return plan
    left = max(0.0, job.ends - time.perf_counter())
    steps = steps_in_time(network, plan, train, validation, left)
    job.log.say(
        f"{steps.total / steps.steps_per_epoch:.1f} epochs fit into the {left:.0f} s that are left for training."
    )
    return replace(plan, steps=steps, limit_seconds=max(0.0, job.ends - time.perf_counter()))


def _read(job: Job, contents: Contents, preprocess: Preprocess) -> Pixels:
    """Opens the pixels of photographs; the first process decodes what is missing, the others wait for it."""
    if not job.ranks.leads:
        job.ranks.wait()
    pixels = read_pixels(contents, preprocess, job.log)
    if job.ranks.leads:
        job.ranks.wait()
    return pixels


def read_warnings(*parts: Held) -> tuple[Note, ...]:
    """Says what could not be read, and what needed a decision."""
    unreadable = tuple(f"{sample.image}: {reason}" for part in parts for sample, reason in part.unreadable)
    remarked = tuple(f"{sample.image}: {remark}" for part in parts for sample, remark in part.remarked)
    notes = {f"{len(unreadable)} left out: can't be read": unreadable}
    notes[f"{len(remarked)} photographs needed a decision to read"] = remarked
    return tuple(Note(message, names) for message, names in notes.items() if names)


def read_part(job: Job, contents: Contents, preprocess: Preprocess) -> tuple[Part, Pixels]:
    """Reads photographs as a network's input, and their labels."""
    pixels = _read(job, contents, preprocess)
    return _to_part(pixels, job.dataset.class_names), pixels


def _to_part(pixels: Pixels, class_names: Sequence[str]) -> Part:
    index = {name: place for place, name in enumerate(class_names)} | {UNLABELLED: -1}
    return Part(pixels.images, np.array([index[sample.label] for sample in pixels.samples], np.int64))


def _to_learn(job: Job) -> Contents:
    """The training photographs, and those without a label."""
    train, more = job.division.train, job.unlabeled
    return Contents(train.samples + more.samples, train.hashes + more.hashes, ())


def _teach(job: Job, teacher: Teacher, train: Part, pixels: Pixels, source: Preprocess) -> Part:
    """A part with a teacher's lessons; the first process asks it, the others take its answers from the cache."""
    left = None if job.ends is None else job.ends - time.perf_counter()
    crops = job.ranks.agree(teacher.count_crops(len(train.labels), left))
    if not job.ranks.leads:
        job.ranks.wait()
    contents = Contents(pixels.samples, pixels.hashes, ())
    lessons = teacher.prepare(contents, source, crops, train.labels, train.targets, job.log)
    if job.ranks.leads:
        job.ranks.wait()
    answers = lessons.targets.sum(1).argmax(1)
    return Part(train.images, np.where(train.labels < 0, answers, train.labels), lessons=lessons)


def check_classes(labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Checks that every class has a photograph.

    Raises:
        TrainingError: One has none.
    """
    for index, name in enumerate(class_names):
        if not np.any(labels == index):
            raise TrainingError(
                f"No photograph of the class {name!r} can be read to learn from. Add some, or remove it."
            )


def _check_parts(train: Part, validation: Part, class_names: Sequence[str]) -> None:
    check_classes(train.labels, class_names)
    if not len(validation.labels):
        raise TrainingError("None of the photographs held out for validation can be read. Add more photographs.")
