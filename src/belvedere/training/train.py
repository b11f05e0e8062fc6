"""Train a classifier: from a dataset to a run folder with a measured model and its report."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.groups import check_group_by, group_column
from belvedere.data.splits import DataSplit, split_dataset
from belvedere.errors import DatasetError, InvalidImageError, UsageError
from belvedere.evaluation.evaluate import evaluate_samples
from belvedere.evaluation.run_folder import read_history, unreadable_warning, write_results
from belvedere.evaluation.run_results import RunResults
from belvedere.images.decode import read_image
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import MODEL_NAME
from belvedere.runtime.environment import command_line
from belvedere.runtime.progress import LoggedProgress, Progress, choose_progress
from belvedere.training.callbacks import Callback, CallbackRunner, TrainingContext, check_callbacks, early_stopping
from belvedere.training.checkpoint import checkpoint_history
from belvedere.training.custom_augment import Augment, check_augment
from belvedere.training.device import Runtime, choose_device
from belvedere.training.direction import direction_warnings
from belvedere.training.distillation import find_unlabeled
from belvedere.training.distributed import init_distributed
from belvedere.training.fit_uncertainty import fit_on_held_out
from belvedere.training.folds import check_folds, cross_validate, split_for_folds
from belvedere.training.input_size import adapt_size_schedule, choose_image_size
from belvedere.training.network_check import prepare_network
from belvedere.training.networks import architecture_for
from belvedere.training.own_network import accepts_networks
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import DEFAULT_RECIPE, Recipe
from belvedere.training.results import TrainingOutput, collect_output
from belvedere.training.run import Run
from belvedere.training.run_folder import CHECKPOINT, RunConfig, open_run_folder, write_config, write_trained
from belvedere.training.split_warnings import split_warnings
from belvedere.training.start_from import StartRun, check_start, leak_warnings, read_start, recipe_of
from belvedere.training.trackers import make_trackers
from belvedere.training.trainer import FitPlan, build_network, fit
from belvedere.training.training_data import load_training_data
from belvedere.training.transfer import load_weights, predict_from_embeddings, train_linear_probe
from belvedere.types.data import DataWarning, ModelId, Sample
from belvedere.types.evaluation import Evaluation
from belvedere.types.prediction import Prediction

MAX_SEED = 2**32
SPLIT_TITLES = {"test": "Test images", "val": "Validation images"}
RESERVED_SECONDS = 15.0  # of a time limit, for export, evaluation and report


@dataclass(frozen=True)
class _Options:
    """Arguments of `train` beside data, recipe and device."""

    out: Path
    seed: int
    max_minutes: float | None
    overwrite: bool
    resume: bool
    offline: bool
    spreadsheet: bool
    callbacks: tuple[Callback, ...]
    augment: Augment | None
    start: StartRun | None
    folds: int | None
    group_by: str | None
    started: float = field(default_factory=time.perf_counter)

    @property
    def groups(self) -> str | None:
        """Groups of images, by default those of the run to start from."""
        return self.group_by or (None if self.start is None else self.start.group_by)

    @property
    def deadline(self) -> float | None:
        """Time by time.perf_counter() at which the fit must end; None for no limit."""
        return None if self.max_minutes is None else self.started + self.max_minutes * 60 - RESERVED_SECONDS


@accepts_networks
def train(
    data: Dataset | Path | str,
    *,
    out: Path | str,
    recipe: Recipe | str | None = None,
    config: Path | str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    offline: bool = False,
    spreadsheet: bool = False,
    augment: Augment | None = None,
    start_from: Path | str | None = None,
    folds: int | None = None,
    group_by: str | None = None,
    callbacks: Sequence[Callback] = (),
    track: str | Sequence[str] = (),
    progress: Progress | bool | None = None,
    **changes: object,
) -> Run:
    """Train a classifier, evaluate it and write its run folder; Ctrl-C keeps the best epoch, by the validation images.

    Args:
        data: Folder or table of labeled images, or a dataset from `load_dataset`.
        out: Run folder, complete when it appears; the work is done in `OUT.partial`.
        recipe: Name of a recipe, or a recipe. Default: "standard", or that of the run `start_from`.
        config: TOML file with recipe keys, which override the recipe.
        epochs: Number of epochs. Default: the recipe's.
        max_minutes: Time limit for everything, instead of epochs: the number of steps is adapted to it.
        seed: Seed of split, initial weights, order, augmentation and dropout.
        device: "auto", "cpu" or "cuda".
        overwrite: Whether to replace results in `out`.
        resume: Whether to resume an interrupted training with the same arguments; without one, it starts.
        offline: Whether to use downloaded pretrained weights only.
        spreadsheet: Whether to escape cells of predictions.csv that a spreadsheet takes for formulas.
        augment: Function of pixels, (N, 3, H, W), and a `torch.Generator`, after the recipe's augmentation.
        start_from: Folder of an earlier run, or its address on the Hugging Face Hub, whose weights to start from.
        folds: Number of folds of a cross-validation, instead of a test split; the metrics are of all images then.
        group_by: Groups that no split or fold divides: "folder", "exif-day", "near-duplicates", or a column of a table.
        callbacks: Objects whose methods are called during the training (see `Callback`).
        track: Experiment trackers: "tensorboard", "mlflow", "wandb" or "trackio", or "NAME=URI" (docs/callbacks.md).
        progress: Progress display. Default: on a terminal and in a notebook; False: none.
        **changes: Recipe keys, which override `config`; network may be a module or a function (`register_network`).

    Returns:
        The run: its folder, metrics, history and, loaded on first use, model.

    Raises:
        BelvedereError: Such as UsageError, DatasetError, WeightsError, TrainingError, HubError or CacheError.
    """
    start = None if start_from is None else read_start(start_from, offline=offline)
    chosen = choose_recipe(recipe or _default_recipe(start), config, epochs, **changes)
    hooks = (*check_callbacks(callbacks), *make_trackers(track), *early_stopping(chosen))
    options = _Options(
        Path(out), seed, max_minutes, overwrite, resume, offline, spreadsheet, hooks, augment, start, folds, group_by
    )
    return _run(data, _check_arguments(chosen, epochs, options), config, options, _open_runtime(device, progress))


def _open_runtime(device: str, progress: Progress | bool | None) -> Runtime:
    distributed = init_distributed(device)
    shown = choose_progress(progress) if distributed.is_main else Progress()
    return Runtime(choose_device(device), distributed, shown)


def _run(
    data: Dataset | Path | str, recipe: Recipe, config: Path | str | None, options: _Options, runtime: Runtime
) -> Run:
    """Load the data, train into the run folder, and call the callbacks."""
    callbacks, distributed = CallbackRunner(options.callbacks, runtime.distributed), runtime.distributed
    excluded = {"max_minutes": options.max_minutes, "resume": options.resume, "start_from": options.start}
    check_folds(options.folds, recipe, distributed.world_size, excluded)
    dataset = as_dataset(data, progress=runtime.progress, group_column=group_column(options.groups))
    check_group_by(dataset, options.groups)
    inputs = _inputs(config, recipe, dataset, options.start)
    with open_run_folder(options.out, options.overwrite, options.resume, distributed, inputs) as folder:
        if distributed.is_main:
            runtime = replace(runtime, progress=LoggedProgress(folder / "train.log", runtime.progress))
        runtime.progress.log(
            f"Training with recipe {recipe.name!r} on {runtime.device.description}, seed {options.seed}, "
            f"into {options.out}"
        )
        config_of_run = _configure(recipe, dataset, options, runtime)
        with callbacks.reporting_exceptions():
            run = _train_and_write(folder, config_of_run, options, runtime, callbacks)
    if run is None:  # the main process has written it
        metrics = json.loads((options.out / "metrics.json").read_text(encoding="utf-8"))
        evaluation = _evaluate(config_of_run.split, load_model(options.out), Progress())
        history = read_history(options.out / "history.csv")
        return Run(options.out, evaluation, metrics, is_main_process=False, history=history)
    callbacks.on_train_end(run)
    return run


def _configure(recipe: Recipe, dataset: Dataset, options: _Options, runtime: Runtime) -> RunConfig:
    """Split the dataset, and adapt the recipe to the network and the time."""
    recipe = prepare_network(recipe, len(dataset.class_names), options.seed, runtime.progress)
    if options.folds is None:
        split = _split(dataset, recipe, options, runtime.progress)
    else:
        split = split_for_folds(dataset, recipe, options.seed, runtime.progress, options.groups)
    recipe = adapt_size_schedule(recipe, runtime.progress)
    if runtime.distributed.is_main:  # which writes the warnings
        found = split_warnings(split, dataset.class_names, recipe, options.folds, runtime.progress)
        split = replace(split, warnings=(*split.warnings, *found))
    recipe = choose_image_size(recipe, split, runtime, options.deadline)
    unlabeled = find_unlabeled(recipe, split, runtime.progress)
    return RunConfig(
        recipe,
        options.seed,
        dataset,
        split,
        unlabeled,
        max_minutes=options.max_minutes,
        augment=options.augment,
        start=options.start,
        num_folds=options.folds,
        group_by=options.groups,
    )


def _train_and_write(
    folder: Path, config: RunConfig, options: _Options, runtime: Runtime, callbacks: CallbackRunner
) -> Run | None:
    """Train, and write the run in the main process; return None in the others."""
    settings = write_config(folder, config, runtime)
    callbacks.on_train_begin(_describe(folder, options.out, config, runtime))
    cross_validated = None
    if config.num_folds is not None:
        cross_validated = cross_validate(
            config, config.num_folds, runtime, lambda each: run_stages(None, each, runtime, None, options.offline)
        )
    trained = run_stages(folder, config, runtime, options.deadline, options.offline, callbacks)
    if not runtime.distributed.is_main:
        return None
    with runtime.progress.stage("write"):
        return _write_run(folder, trained, config, options, runtime, settings, cross_validated)


def _describe(folder: Path, out: Path, config: RunConfig, runtime: Runtime) -> TrainingContext:
    split = config.split
    counts = {"train": len(split.train.samples), "validation": len(split.validation.samples), "test": len(split.test)}
    return TrainingContext(
        out=out,
        folder=folder,
        recipe=config.recipe,
        seed=config.seed,
        device=runtime.device.description,
        class_names=config.dataset.class_names,
        num_images=counts,
        history=checkpoint_history(folder / CHECKPOINT),
    )


def run_stages(
    folder: Path | None,
    run: RunConfig,
    runtime: Runtime,
    deadline: float | None,
    offline: bool,
    callbacks: CallbackRunner | None = None,
) -> TrainingOutput:
    """Run the stages of a training, with its checkpoints in `folder`, if there is one."""
    recipe, split, class_names = run.recipe, run.split, run.dataset.class_names
    weights = None
    if recipe.pretrained:
        weights = load_weights(recipe, runtime.progress, offline) if run.start is None else run.start.backbone()
    pretrained_from: dict[str, str] = {} if run.start is None else run.start.origin
    if weights is not None and run.start is None:
        license_id = architecture_for(recipe).license
        pretrained_from = {"weights": weights.source, "sha256": weights.sha256, "license": license_id}
    if recipe.linear_probe_only and weights is not None:
        if run.start is not None:
            runtime.progress.log(
                f"The backbone is that of the run {run.start.folder}; the linear probe is fitted again, to all images."
            )
        trained = train_linear_probe(recipe, split, class_names, weights, run.seed, runtime)
        return replace(trained, pretrained_from=pretrained_from)
    data = load_training_data(split, recipe, class_names, runtime, unlabeled=run.unlabeled, deadline=deadline)
    network = build_network(recipe, data, run.seed, runtime, weights, run.start)
    result = fit(network, data, FitPlan(recipe, run.seed, runtime, folder, deadline, callbacks, run.augment))
    if result.interpolation is not None:
        pretrained_from["tuned"] = f"{result.interpolation:.0%} of the way"
    if data.teacher:
        pretrained_from["teacher"] = data.teacher
    found: tuple[DataWarning, ...] = ()
    if folder is not None and deadline is None and not result.interrupted:
        found = direction_warnings(network, data, recipe, run.seed, runtime)
        runtime.progress.log_warnings(found)
    trained = collect_output(network, data, result, runtime)
    return replace(trained, warnings=trained.warnings + found, pretrained_from=pretrained_from)


def _default_recipe(start: StartRun | None) -> Recipe | str:
    return DEFAULT_RECIPE if start is None else recipe_of(start)


def _check_arguments(recipe: Recipe, epochs: int | None, options: _Options) -> Recipe:
    """Return the recipe if the arguments fit together."""
    if options.max_minutes is not None and not 0 < options.max_minutes < float("inf"):
        raise UsageError(f"`max_minutes` must be over 0. Received: {options.max_minutes}.")
    if options.max_minutes is not None and epochs is not None:
        raise UsageError("`epochs` and `max_minutes` exclude each other. Leave one out.")
    if options.overwrite and options.resume:
        raise UsageError("`overwrite` and `resume` exclude each other. Leave one out.")
    check_recipe(recipe, options.seed, options.augment, options.start)
    return recipe


def check_recipe(recipe: Recipe, seed: int, augment: Augment | None, start: StartRun | None = None) -> None:
    """Check that a recipe fits its network, and the arguments that go with it.

    Raises:
        UsageError: It does not, or the seed is out of range.
    """
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"`seed` must be an integer from 0 to {MAX_SEED - 1}. Received: {seed}.")
    check_augment(augment, recipe)
    check_start(start, recipe)
    spec = architecture_for(recipe)
    if (
        spec.any_size is False
        and not (spec.is_plugin or recipe.pretrained)
        and (recipe.whitened_stem or recipe.image_size_schedule)
    ):
        size = f"{spec.preprocess.width} x {spec.preprocess.height}"
        raise UsageError(
            f"The network {spec.name!r} accepts images of {size} pixels only, without a whitened stem: "
            f"`image_size_schedule` and `whitened_stem` must be unset. Choose 'article' instead of {recipe.name!r}."
        )


def _inputs(
    config: Path | str | None, recipe: Recipe, dataset: Dataset, start: StartRun | None
) -> Iterator[Path | str]:
    yield from filter(None, (config, recipe.weights, recipe.teacher, recipe.unlabeled, start and start.folder))
    yield from dataset.list_files()


def _split(dataset: Dataset, recipe: Recipe, options: _Options, progress: Progress) -> DataSplit:
    """Split a dataset; check that a test image can be read before the work begins."""
    start, reason = options.start, ""
    known = None if start is None else start.split_of
    split = split_dataset(dataset, recipe.split_fractions, options.seed, progress, known, options.groups)
    if start is not None:
        split = replace(split, warnings=(*leak_warnings(split, start), *split.warnings))
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
    trained: TrainingOutput,
    run: RunConfig,
    options: _Options,
    runtime: Runtime,
    settings: str,
    cross_validated: Evaluation | None,
) -> Run:
    """Write the model, evaluate it, and write the report into the folder that is renamed to `out` afterwards."""
    split, log, out = run.split, runtime.progress, options.out
    uncertainty = fit_on_held_out(trained.held_out, log)
    card = write_trained(folder, trained, uncertainty, run, runtime)
    log.log("Evaluating the model")
    model, known = load_model(folder), None
    if not cross_validated and trained.embedding_key and not any(sample.extra_labels for sample in _reported(split)):
        log.log("Test predictions are computed from cached embeddings, without tags: `evaluate` computes tags.")
        known = predict_from_embeddings(split, model, trained, uncertainty.ood_scorer, log)
    evaluation = cross_validated or _evaluate(split, model, log, known)
    log.log_warnings(unreadable_warning(evaluation))
    results = RunResults(
        title=str(out),
        out=out,
        evaluation=evaluation,
        model_id=ModelId(f"{out.absolute().name}/{MODEL_NAME}", model.sha256),
        card=card,
        warnings=trained.warnings + unreadable_warning(evaluation),
        samples=_shown_samples(split, evaluation),
        command=command_line(),
        total_seconds=time.perf_counter() - options.started,
        model=model,
        history=trained.fit.history,
        config=settings,
        spreadsheet=options.spreadsheet,
    )
    return Run(out, evaluation, write_results(folder, results), history=results.history)


def _shown_samples(split: DataSplit, evaluation: Evaluation) -> dict[str, tuple[Sample, ...]]:
    """Return the samples of the report, by the title of their grid."""
    if evaluation.cross_validation is not None:
        return {"Images": split.train.samples + split.validation.samples}
    return {"Training images": split.train.samples, SPLIT_TITLES[evaluation.split]: _reported(split)}


def _reported(split: DataSplit) -> tuple[Sample, ...]:
    return split.test or split.validation.samples


def _evaluate(
    split: DataSplit, model: Model, progress: Progress, known: dict[str, Prediction] | None = None
) -> Evaluation:
    name = "test" if split.test else "val"
    return evaluate_samples(model, _reported(split), progress, split=name, known=known)
