"""Cross-validation of a recipe: each image is predicted by a network that was trained on the other folds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from belvedere.data.dataset import Dataset
from belvedere.data.groups import group_names
from belvedere.data.hashing import HashedSamples, fingerprint
from belvedere.data.splits import (
    DataSplit,
    SplitFractions,
    split_dataset,
    stratified_group_folds,
    stratified_group_split,
)
from belvedere.errors import DatasetError, UsageError
from belvedere.evaluation.evaluate import evaluate_samples
from belvedere.evaluation.metrics import compute_metrics
from belvedere.inference.model import load_model
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.training.device import Runtime
from belvedere.training.fit_uncertainty import fit_on_held_out
from belvedere.training.recipes import Recipe
from belvedere.training.results import TrainingOutput
from belvedere.training.run_folder import RunConfig, write_trained
from belvedere.training.training_data import NO_IMAGES
from belvedere.training.transfer import predict_from_embeddings
from belvedere.types.data import DataWarning
from belvedere.types.evaluation import CrossValidationMetrics, Evaluation, FoldStatistic
from belvedere.types.prediction import Prediction

MIN_FOLDS, MAX_FOLDS = 2, 50
OUT_OF_FOLD = "out_of_fold"  # name of the split of an evaluation


def check_folds(num_folds: int | None, recipe: Recipe, world_size: int, others: Mapping[str, object]) -> None:
    """Check the number of folds, and arguments that exclude it.

    Args:
        num_folds: Number of folds; None: no cross-validation.
        recipe: Recipe of the training.
        world_size: Number of processes.
        others: Arguments that exclude `folds` if they are set, by name.

    Raises:
        UsageError: One of them is invalid.
    """
    if num_folds is None:
        return
    if not MIN_FOLDS <= num_folds <= MAX_FOLDS:
        raise UsageError(f"`folds` must be from {MIN_FOLDS} to {MAX_FOLDS}. Received: {num_folds}.")
    for name, value in others.items():
        if value:
            raise UsageError(f"`folds` and `{name}` exclude each other. Leave one out.")
    if recipe.teacher:
        raise UsageError("`folds` and `teacher` exclude each other: the teacher was trained on all images.")
    if world_size > 1:
        raise UsageError(f"`folds` needs one process. Received: {world_size}.")


def split_for_folds(
    dataset: Dataset, recipe: Recipe, seed: int, progress: Progress, group_by: str | None = None
) -> DataSplit:
    """Split a dataset for the final model of a cross-validation: training and validation images, no test images.

    Raises:
        DatasetError: As `split_dataset`.
    """
    fractions = SplitFractions(0.0, recipe.validation_fraction, not recipe.linear_probe_only, needs_evaluation=False)
    split = split_dataset(dataset, fractions, seed, progress, group_by=group_by)
    warnings = split.warnings
    if split.test:
        message = f"{count(len(split.test), 'test image')} left out of the cross-validation: see `evaluate`"
        warnings = (*warnings, DataWarning(message))
    return replace(split, test=(), hashed_test=NO_IMAGES, warnings=warnings)


def draw_fold_splits(pool: HashedSamples, num_folds: int, recipe: Recipe, seed: int) -> list[DataSplit]:
    """Divide images into folds, stratified by class; identical files, and the images of a group, are in one fold.

    Returns:
        For each fold, the training and validation images from the other folds, and its own as test images.

    Raises:
        DatasetError: There are fewer groups than folds (an image alone is one too), or those of a class are in one.
    """
    groups = group_names(pool)
    if len(set(groups)) < num_folds:
        raise DatasetError(
            f"Only {len(set(groups))} different images, or groups of them, for {num_folds} folds. Lower `folds`."
        )
    names = sorted({sample.label for sample in pool.samples})
    labels = np.array([names.index(sample.label) for sample in pool.samples], np.int64)
    folds = stratified_group_folds(labels, groups, seed, num_folds)
    for number, name in enumerate(names):
        if len(np.unique(folds[labels == number])) < MIN_FOLDS:
            raise DatasetError(
                f"All images of the class {name!r} are in one fold: it cannot be cross-validated. It needs two "
                "different images that share no group, better more. Add images, or remove the class."
            )
    return [_fold_split(pool, folds == fold, recipe, seed + fold) for fold in range(num_folds)]


def _fold_split(
    pool: HashedSamples, held_out: "np.ndarray[tuple[int], np.dtype[np.bool_]]", recipe: Recipe, seed: int
) -> DataSplit:
    test, rest = (pool.select(np.flatnonzero(mask).tolist()) for mask in (held_out, ~held_out))
    validation = NO_IMAGES
    if not recipe.linear_probe_only:
        rest, validation = stratified_group_split(rest, recipe.validation_fraction, seed)
        if not validation.samples:
            raise DatasetError("Too few images to hold some out for validation in each fold. Add images.")
    known = HashedSamples(rest.samples + validation.samples, rest.hashes + validation.hashes)
    return DataSplit(rest, validation, test.samples, test, (), fingerprint(known))


def cross_validate(
    run: RunConfig, num_folds: int, runtime: Runtime, train: Callable[[RunConfig], TrainingOutput]
) -> Evaluation:
    """Train a network for each fold, and evaluate it on the images of the fold.

    Args:
        run: Run of the final model, whose training and validation images are divided.
        num_folds: Number of folds.
        runtime: Device and progress.
        train: Runs the stages of a training.

    Returns:
        The evaluation of the out-of-fold predictions of all images, in the order of the dataset, with the mean and the
        spread over the folds.

    Raises:
        DatasetError: There are too few images, or those of a fold cannot be read.
        KeyboardInterrupt: A training was interrupted.
    """
    split = run.split
    pool = HashedSamples(split.train.samples + split.validation.samples, split.train.hashes + split.validation.hashes)
    evaluations = []
    for number, fold in enumerate(draw_fold_splits(pool, num_folds, run.recipe, run.seed), 1):
        runtime.progress.log(f"Fold {number} of {num_folds}: {len(fold.train.samples)} images to train on")
        evaluation = _evaluate_fold(replace(run, split=fold), runtime, train)
        runtime.progress.log(f"Fold {number} of {num_folds}: accuracy {evaluation.accuracy:.1%}")
        evaluations.append(evaluation)
    predictions = {each.image: each for evaluation in evaluations for each in evaluation.predictions}
    in_order = [predictions[sample.name] for sample in run.dataset.samples if sample.name in predictions]
    pooled = compute_metrics(in_order, run.dataset.class_names, split=OUT_OF_FOLD)
    metrics = summarize_folds(evaluations)
    runtime.progress.log(
        f"Cross-validation: accuracy {metrics.accuracy.mean:.1%} (standard deviation {metrics.accuracy.std:.1%} over "
        f"{num_folds} folds). Training the model on all images"
    )
    return replace(pooled, cross_validation=metrics)


def _evaluate_fold(run: RunConfig, runtime: Runtime, train: Callable[[RunConfig], TrainingOutput]) -> Evaluation:
    trained = train(run)
    if trained.fit.interrupted:
        raise KeyboardInterrupt
    uncertainty = fit_on_held_out(trained.held_out, runtime.progress)
    with TemporaryDirectory(prefix="belvedere-") as name:
        write_trained(Path(name), trained, uncertainty, run, runtime)
        model = load_model(Path(name))
    known: dict[str, Prediction] | None = None
    if trained.embedding_key:
        known = predict_from_embeddings(run.split, model, trained, uncertainty.ood_scorer, runtime.progress)
    return evaluate_samples(model, run.split.test, runtime.progress, split=OUT_OF_FOLD, known=known)


def summarize_folds(evaluations: Sequence[Evaluation]) -> CrossValidationMetrics:
    """Return the mean and the standard deviation of the metrics over the folds."""

    def describe(values: list[float]) -> FoldStatistic:
        return FoldStatistic(float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))

    return CrossValidationMetrics(
        len(evaluations),
        describe([each.accuracy for each in evaluations]),
        describe([each.macro_f1 for each in evaluations]),
        describe([each.log_loss for each in evaluations]),
        describe([each.ece for each in evaluations]),
    )
