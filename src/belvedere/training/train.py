"""The main job: a folder of photographs in, a run folder with a measured model and its report out.

Knows the order of the steps and what a run folder holds; each step is another module's.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.splits import DataSplit, divide
from belvedere.errors import DatasetError, InvalidImageError, UsageError
from belvedere.evaluation.evaluate import evaluate_samples
from belvedere.evaluation.run_folder import Results, unreadable_warning, write_results
from belvedere.images.decode import read_image
from belvedere.inference.model import Model, load
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.environment import command_line
from belvedere.runtime.progress import Progress
from belvedere.runtime.signals import defer_interrupt
from belvedere.training.device import choose_hardware
from belvedere.training.distributed import Distributed, join_ranks
from belvedere.training.fit_uncertainty import FittedUncertainty, fit_uncertainty
from belvedere.training.input_size import fit_plan, fit_side
from belvedere.training.log import LoggedProgress
from belvedere.training.networks import architecture_for
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import DEFAULT_RECIPE, Recipe
from belvedere.training.run_folder import open_run_folder, write_config
from belvedere.training.trainer import Job, TrainingOutput, learn
from belvedere.training.transfer import predict_from_embeddings, transfer
from belvedere.training.unlabeled import find_unlabeled
from belvedere.training.writing import write_trained
from belvedere.types.data import ModelId, Sample
from belvedere.types.evaluation import Evaluation
from belvedere.types.prediction import Prediction

MAX_SEED = 2**32
PART_TITLES = {"test": "Test photographs", "val": "Validation photographs"}
WRITING_SECONDS = 15.0  # of a time that is given, for what follows the training


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, object]  # the content of metrics.json
    leads: bool = True  # whether this process speaks for those that trained together

    def load(self) -> Model:
        """Opens the trained model."""
        return load(self.folder)


def train(
    photos: Dataset | Path | str,
    *,
    out: Path | str,
    recipe: Recipe | str = DEFAULT_RECIPE,
    config: Path | str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    offline: bool = False,
    spreadsheet: bool = False,
    progress: Progress | None = None,
    **changes: object,
) -> Run:
    """Trains a classifier, measures it and writes its run folder.

    The epoch is chosen on a validation part of the training photographs; the test part is only reported. Ctrl-C keeps
    the best epoch so far; before there is one, it ends all.

    Args:
        photos: A folder or table of labeled photographs, or what `load_dataset` made of one.
        out: The run folder. It appears when it is whole; until then the work is in `OUT.partial`.
        recipe: How to train: a name, or a recipe.
        config: A TOML file whose values take the place of the recipe's.
        epochs: Instead of the recipe's.
        minutes: How long all of it may take: instead of epochs, so many steps are taken as fit into the time.
        seed: Of the division, the weights, the order, crops and dropout.
        device: "auto", "cpu" or "cuda".
        overwrite: Whether an older folder of results there may be replaced.
        resume: Whether to go on where a training with the same arguments was cut off; if there is none, it begins.
        offline: Whether only weights may be taken that were downloaded before.
        spreadsheet: Whether cells of predictions.csv that a spreadsheet would take for formulas are escaped.
        progress: Shows how far it is; nothing is shown without.
        **changes: Values in place of the recipe's, by its keys, such as network, weights, teacher or batch_size.

    Raises:
        BelvedereError: An argument, `out`, the photographs or the weights can't be taken, or training failed.
    """
    started = time.perf_counter()
    recipe = choose_recipe(recipe, config, epochs, **changes)
    _check_arguments(seed, minutes, epochs, overwrite, resume)
    _check_network(recipe)
    ranks, hardware = join_ranks(device), choose_hardware(device)
    dataset = photos if isinstance(photos, Dataset) else load_dataset(photos)
    with open_run_folder(Path(out), overwrite, resume, ranks, _list_read(config, recipe, dataset)) as folder:
        log = _open_log(folder, progress, ranks)
        log.say(f"Training by recipe {recipe.name!r} on {hardware.description}, seed {seed}, into {out}")
        division = _divide(dataset, recipe, seed, log)
        ends = None if minutes is None else started + minutes * 60 - WRITING_SECONDS
        recipe = fit_side(fit_plan(recipe, log), division, hardware, ends, ranks, log)
        joining = find_unlabeled(recipe, division, log)
        job = Job(folder, recipe, dataset, division, seed, hardware, ranks, log, ends, offline, joining)
        settings, learnt = write_config(job, minutes), transfer(job) if recipe.pretrained else learn(job)
        if ranks.leads:
            with defer_interrupt(log):
                return _write_run(job, learnt, Path(out), settings, started, spreadsheet)
    return _follow(Path(out), division)


def _follow(out: Path, division: DataSplit) -> Run:
    """The run that another process has written and shown."""
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return Run(out, _measure(division, load(out), Progress()), metrics, leads=False)


def _open_log(folder: Path, progress: Progress | None, ranks: Distributed) -> LoggedProgress:
    """Progress that is also written down; only the first process shows and writes."""
    if ranks.leads:
        return LoggedProgress(folder / "train.log", progress or Progress())
    return LoggedProgress(Path(os.devnull), Progress())


def _check_arguments(seed: int, minutes: float | None, epochs: int | None, overwrite: bool, resume: bool) -> None:
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"The seed must be a whole number from 0 to {MAX_SEED - 1}. Received: {seed}.")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError(f"The minutes must be more than 0. Received: {minutes}.")
    if minutes is not None and epochs is not None:
        raise UsageError("Either --epochs or --max-minutes says when training ends. Leave one out.")
    if overwrite and resume:
        raise UsageError("--resume goes on with what is there, --overwrite replaces it. Leave one out.")


def _check_network(recipe: Recipe) -> None:
    entry = architecture_for(recipe)
    if not (entry.flexible or recipe.pretrained) and (recipe.whitened_stem or recipe.image_size_schedule):
        size = f"{entry.preprocess.width} x {entry.preprocess.height}"
        raise UsageError(
            f"The network {entry.name!r} takes images of {size} only and trains its first layer: "
            "image_size_schedule and whitened_stem are not for it. "
            f"Start from --recipe article instead of {recipe.name!r}."
        )


def _list_read(config: Path | str | None, recipe: Recipe, dataset: Dataset) -> Iterator[Path | str]:
    yield from filter(None, (config, recipe.weights, recipe.teacher, recipe.unlabeled))
    yield from dataset.list_files()


def _write_run(job: Job, learnt: TrainingOutput, out: Path, settings: str, started: float, spreadsheet: bool) -> Run:
    """Writes the model, measures it, and writes everything else; the folder is then about to be named `out`."""
    fitted = fit_uncertainty(learnt.held_out, job.log)
    card = write_trained(job, learnt, fitted)
    job.log.say("The model is written; now it is measured.")
    model = load(job.folder)
    evaluation = _measure(job.division, model, job.log, _known_answers(job, learnt, fitted, model))
    job.log.say_notes(unreadable_warning(evaluation))
    results = Results(
        title=str(out),
        evaluation=evaluation,
        predicted_by=ModelId(f"{out.absolute().name}/{MODEL_NAME}", model.sha256),
        card=card,
        notes=learnt.notes + unreadable_warning(evaluation),
        samples={
            "Training photographs": job.division.train.samples,
            PART_TITLES[evaluation.part]: _to_measure(job.division),
        },
        command=command_line(),
        seconds_total=time.perf_counter() - started,
        model=model,
        history=learnt.fit.history,
        config=settings,
        spreadsheet=spreadsheet,
    )
    return Run(out, evaluation, write_results(job.folder, results))


def _to_measure(division: DataSplit) -> tuple[Sample, ...]:
    return division.test or division.validation.samples


def _known_answers(
    job: Job, learnt: TrainingOutput, fitted: FittedUncertainty, model: Model
) -> dict[str, Prediction] | None:
    """A probe's answers by what the cache holds already, unless tags are wanted, which it does not hold."""
    if not learnt.embedding_key or any(sample.also for sample in _to_measure(job.division)):
        return None
    job.log.say("The test photographs' answers are from kept embeddings, without tags: belvedere evaluate has them.")
    return predict_from_embeddings(job.division, model, learnt, fitted.outliers, job.log)


def _measure(
    division: DataSplit, model: Model, progress: Progress, known: dict[str, Prediction] | None = None
) -> Evaluation:
    part = "test" if division.test else "val"
    return evaluate_samples(model, _to_measure(division), progress, part=part, known=known)


def _divide(dataset: Dataset, recipe: Recipe, seed: int, progress: Progress) -> DataSplit:
    """Divides a data set; refuses, before the work, a test part of which nothing can be measured."""
    division, reason = divide(dataset, recipe.split_fractions, seed, progress), ""
    for sample in division.test:
        try:
            read_image(sample.path)
        except InvalidImageError as error:
            reason = reason or str(error)
        else:
            return division
    if division.test:
        raise DatasetError(f"None of the {len(division.test)} test photographs can be read. The first: {reason}.")
    return division
