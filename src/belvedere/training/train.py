"""Train a classifier: from a dataset to a run folder with a measured model and its report."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.splits import DataSplit, split_dataset
from belvedere.errors import DatasetError, InvalidImageError, UsageError
from belvedere.evaluation.evaluate import evaluate_samples
from belvedere.evaluation.run_folder import unreadable_warning, write_results
from belvedere.evaluation.run_results import RunResults
from belvedere.images.decode import read_image
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.environment import command_line
from belvedere.runtime.progress import LoggedProgress, Progress
from belvedere.training.device import Runtime, choose_device
from belvedere.training.distillation import find_unlabeled
from belvedere.training.distributed import init_distributed
from belvedere.training.fit_uncertainty import fit_on_held_out
from belvedere.training.input_size import adapt_size_schedule, choose_image_size
from belvedere.training.networks import architecture_for
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import DEFAULT_RECIPE, Recipe
from belvedere.training.results import TrainingOutput, collect_output
from belvedere.training.run_folder import RunConfig, open_run_folder, write_config, write_trained
from belvedere.training.trainer import FitPlan, build_network, fit
from belvedere.training.training_data import load_training_data
from belvedere.training.transfer import load_weights, predict_from_embeddings, train_linear_probe
from belvedere.types.data import ModelId, Sample
from belvedere.types.evaluation import Evaluation
from belvedere.types.prediction import Prediction

MAX_SEED = 2**32
SPLIT_TITLES = {"test": "Test images", "val": "Validation images"}
RESERVED_SECONDS = 15.0  # of a time limit, for export, evaluation and report


@dataclass(frozen=True)
class Run:
    """A finished training."""

    folder: Path
    evaluation: Evaluation
    metrics: dict[str, object]  # content of metrics.json
    is_main_process: bool = True  # of several processes that train together, the one that reports

    def load(self) -> Model:
        """Load the trained model."""
        return load_model(self.folder)


def train(
    data: Dataset | Path | str,
    *,
    out: Path | str,
    recipe: Recipe | str = DEFAULT_RECIPE,
    config: Path | str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    offline: bool = False,
    spreadsheet: bool = False,
    progress: Progress | None = None,
    **changes: object,
) -> Run:
    """Train a classifier, evaluate it and write its run folder.

    The best epoch is selected on the validation images; the test images are only reported. Ctrl-C ends the training
    and keeps the best epoch so far; before the first epoch is completed, nothing is kept.

    Args:
        data: Folder or table of labeled images, or a dataset from `load_dataset`.
        out: Run folder, complete when it appears; the work is done in `OUT.partial`.
        recipe: Name of a recipe, or a recipe.
        config: TOML file with recipe keys, which override the recipe.
        epochs: Number of epochs. Default: the recipe's.
        max_minutes: Time limit for everything, instead of epochs: the number of steps is adapted to it.
        seed: Seed of split, initial weights, order, augmentation and dropout.
        device: "auto", "cpu" or "cuda".
        overwrite: Whether to replace results in `out`.
        resume: Whether to resume an interrupted training with the same arguments; without one, it starts.
        offline: Whether to use downloaded pretrained weights only.
        spreadsheet: Whether to escape cells of predictions.csv that a spreadsheet takes for formulas.
        progress: Shows progress. Default: nothing is shown.
        **changes: Recipe keys, such as network, weights, teacher or batch_size, which override `config`.

    Raises:
        BelvedereError: An argument, the data or the weights are invalid, or training failed.
    """
    started = time.perf_counter()
    recipe = choose_recipe(recipe, config, epochs, **changes)
    _check_arguments(recipe, seed, max_minutes, epochs, overwrite, resume)
    runtime = Runtime(choose_device(device), init_distributed(device))
    dataset = as_dataset(data)
    inputs = _input_files(config, recipe, dataset)
    with open_run_folder(Path(out), overwrite, resume, runtime.distributed, inputs) as folder:
        if runtime.distributed.is_main:
            runtime = replace(runtime, progress=LoggedProgress(folder / "train.log", progress or Progress()))
        log = runtime.progress
        log.log(f"Training with recipe {recipe.name!r} on {runtime.device.description}, seed {seed}, into {out}")
        deadline = None if max_minutes is None else started + max_minutes * 60 - RESERVED_SECONDS
        run = _configure(recipe, seed, dataset, runtime, max_minutes, deadline)
        settings = write_config(folder, run, runtime)
        trained = _train(folder, run, runtime, deadline, offline)
        if runtime.distributed.is_main:
            with log.stage("write"):
                return _write_run(folder, Path(out), trained, run, runtime, settings, started, spreadsheet)
    return _read_run(Path(out), run.split)


def _configure(
    recipe: Recipe, seed: int, dataset: Dataset, runtime: Runtime, max_minutes: float | None, deadline: float | None
) -> RunConfig:
    """Split the dataset, and adapt the recipe to the network and the time."""
    split = _split(dataset, recipe, seed, runtime.progress)
    recipe = choose_image_size(adapt_size_schedule(recipe, runtime.progress), split, runtime, deadline)
    return RunConfig(recipe, seed, dataset, split, find_unlabeled(recipe, split, runtime.progress), max_minutes)


def _read_run(out: Path, split: DataSplit) -> Run:
    """Return the run that the main process has written."""
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return Run(out, _evaluate(split, load_model(out), Progress()), metrics, is_main_process=False)


def _train(folder: Path, run: RunConfig, runtime: Runtime, deadline: float | None, offline: bool) -> TrainingOutput:
    """Run the stages of a training."""
    recipe, split, class_names = run.recipe, run.split, run.dataset.class_names
    weights = load_weights(recipe, runtime.progress, offline) if recipe.pretrained else None
    pretrained_from: dict[str, str] = {}
    if weights is not None:
        license_id = architecture_for(recipe).license
        pretrained_from = {"weights": weights.source, "sha256": weights.sha256, "license": license_id}
    if recipe.linear_probe_only and weights is not None:
        trained = train_linear_probe(recipe, split, class_names, weights, run.seed, runtime)
        return replace(trained, pretrained_from=pretrained_from)
    data = load_training_data(split, recipe, class_names, runtime, unlabeled=run.unlabeled, deadline=deadline)
    network = build_network(recipe, data, run.seed, runtime, weights)
    result = fit(network, data, FitPlan(recipe, run.seed, runtime, folder, deadline))
    if result.interpolation is not None:
        pretrained_from["tuned"] = f"{result.interpolation:.0%} of the way"
    if data.teacher:
        pretrained_from["teacher"] = data.teacher
    return replace(collect_output(network, data, result, runtime), pretrained_from=pretrained_from)


def _check_arguments(
    recipe: Recipe, seed: int, max_minutes: float | None, epochs: int | None, overwrite: bool, resume: bool
) -> None:
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"`seed` must be an integer from 0 to {MAX_SEED - 1}. Received: {seed}.")
    if max_minutes is not None and not 0 < max_minutes < float("inf"):
        raise UsageError(f"`max_minutes` must be over 0. Received: {max_minutes}.")
    if max_minutes is not None and epochs is not None:
        raise UsageError("`epochs` and `max_minutes` exclude each other. Leave one out.")
    if overwrite and resume:
        raise UsageError("`overwrite` and `resume` exclude each other. Leave one out.")
    spec = architecture_for(recipe)
    if not (spec.any_size or recipe.pretrained) and (recipe.whitened_stem or recipe.image_size_schedule):
        size = f"{spec.preprocess.width} x {spec.preprocess.height}"
        raise UsageError(
            f"The network {spec.name!r} accepts images of {size} pixels only, without a whitened stem: "
            f"`image_size_schedule` and `whitened_stem` must be unset. Choose 'article' instead of {recipe.name!r}."
        )


def _input_files(config: Path | str | None, recipe: Recipe, dataset: Dataset) -> Iterator[Path | str]:
    yield from filter(None, (config, recipe.weights, recipe.teacher, recipe.unlabeled))
    yield from dataset.list_files()


def _split(dataset: Dataset, recipe: Recipe, seed: int, progress: Progress) -> DataSplit:
    """Split a dataset; check that a test image can be read before the work begins."""
    split, reason = split_dataset(dataset, recipe.split_fractions, seed, progress), ""
    for sample in split.test:
        try:
            read_image(sample.path)
        except InvalidImageError as error:
            reason = reason or str(error)
        else:
            return split
    if split.test:
        raise DatasetError(f"None of the {len(split.test)} test images can be read. The first: {reason}.")
    return split


def _write_run(
    folder: Path,
    out: Path,
    trained: TrainingOutput,
    run: RunConfig,
    runtime: Runtime,
    settings: str,
    started: float,
    spreadsheet: bool,
) -> Run:
    """Write the model, evaluate it, and write the report into the folder that is renamed to `out` afterwards."""
    split, log = run.split, runtime.progress
    uncertainty = fit_on_held_out(trained.held_out, log)
    card = write_trained(folder, trained, uncertainty, run, runtime)
    log.log("Evaluating the model")
    model, known = load_model(folder), None
    if trained.embedding_key and not any(sample.extra_labels for sample in _reported(split)):
        log.log("Test predictions are computed from cached embeddings, without tags: `evaluate` computes tags.")
        known = predict_from_embeddings(split, model, trained, uncertainty.ood_scorer, log)
    evaluation = _evaluate(split, model, log, known)
    log.log_warnings(unreadable_warning(evaluation))
    results = RunResults(
        title=str(out),
        evaluation=evaluation,
        model_id=ModelId(f"{out.absolute().name}/{MODEL_NAME}", model.sha256),
        card=card,
        warnings=trained.warnings + unreadable_warning(evaluation),
        samples={"Training images": split.train.samples, SPLIT_TITLES[evaluation.split]: _reported(split)},
        command=command_line(),
        total_seconds=time.perf_counter() - started,
        model=model,
        history=trained.fit.history,
        config=settings,
        spreadsheet=spreadsheet,
    )
    return Run(out, evaluation, write_results(folder, results))


def _reported(split: DataSplit) -> tuple[Sample, ...]:
    return split.test or split.validation.samples


def _evaluate(
    split: DataSplit, model: Model, progress: Progress, known: dict[str, Prediction] | None = None
) -> Evaluation:
    name = "test" if split.test else "val"
    return evaluate_samples(model, _reported(split), progress, split=name, known=known)
