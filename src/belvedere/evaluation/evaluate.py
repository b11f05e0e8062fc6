"""Evaluation of a model on labeled images."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from belvedere.data.dataset import Dataset, as_dataset, renamed_paths
from belvedere.errors import DatasetError, UsageError
from belvedere.evaluation.metrics import check_labels, compute_metrics, ood_metrics, tag_metrics
from belvedere.evaluation.run_folder import unreadable_warning, write_results
from belvedere.evaluation.run_results import RunResults
from belvedere.evaluation.weak_slices.attributes import AttributeReader
from belvedere.evaluation.weak_slices.find import find_weak_slices
from belvedere.images.inputs import Source
from belvedere.images.listing import SkippedFiles, iter_images
from belvedere.inference.model import Model, as_model
from belvedere.inference.model_paths import refuse_models
from belvedere.inference.providers import Provider
from belvedere.inference.tags import TAG_THRESHOLD, is_multilabel_data, multi_hot
from belvedere.runtime.dependencies import require
from belvedere.runtime.environment import command_line
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample
from belvedere.types.evaluation import Evaluation, OODMetrics, TagMetrics
from belvedere.types.prediction import Prediction

MAX_ABSENT = 20  # classes named in a warning


def evaluate(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    ood: Path | str | None = None,
    overwrite: bool = False,
    spreadsheet: bool = False,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> Evaluation:
    """Evaluate a model on the test split, else the validation split, or on all images of a dataset without splits.

    Args:
        model: Model, model.onnx or run folder.
        data: Labeled images: a dataset, or a folder or table as for `load_dataset`.
        out: Folder for report.html, metrics.json, predictions.csv and figures; default: nothing is written.
        ood: Folder of out-of-distribution images, to measure their detection; default: none.
        overwrite: Whether to replace an older results folder.
        spreadsheet: Whether to escape cells of predictions.csv that a spreadsheet would run as formulas.
        device: See `load_model`; for the path of a model.
        providers: See `load_model`; for the path of a model.
        threads: See `load_model`; for the path of a model.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The metrics, and the prediction for each image.

    Raises:
        UnknownNameError: A label is not a class of the model.
        UsageError: The model has no out-of-distribution score, `ood` has no images, or the device cannot be used.
        DatasetError: No image of a test or validation split can be read.
        OutputExistsError: `out` exists and may not be replaced.
        MissingDependencyError: `out` is given, and the packages of the extra `report` are not installed.
    """
    if out is not None:
        require("report", "A report")
    started, progress = time.perf_counter(), choose_progress(progress)
    model = as_model(model, device=device, providers=providers, threads=threads)
    dataset = as_dataset(data, progress=progress)
    progress.log(f"Model: {model.identity}")
    inputs = (model.name, *([] if ood is None else [ood]), *dataset.list_files())
    with nullcontext() if out is None else atomic_folder(Path(out), overwrite=overwrite, inputs=inputs) as folder:
        evaluation = _evaluate_dataset(model, dataset, ood, progress)
        warnings = dataset.warnings + unreadable_warning(evaluation) + _absent_class_warning(evaluation)
        progress.log_warnings(warnings)
        if folder is not None:
            results = _collect_results(Path(out or ""), model, dataset, evaluation, warnings)
            results = replace(results, total_seconds=time.perf_counter() - started, spreadsheet=spreadsheet)
            write_results(folder, results)
    return evaluation


def _collect_results(
    out: Path, model: Model, dataset: Dataset, evaluation: Evaluation, warnings: tuple[DataWarning, ...]
) -> RunResults:
    images = {prediction.image for prediction in evaluation.predictions}
    return RunResults(
        title=f"{model.name} on {dataset.source}",
        out=out,
        evaluation=evaluation,
        model_id=model.identity,
        card=model.card,
        warnings=warnings,
        samples={"Images": [sample for sample in dataset.samples if sample.name in images]},
        command=command_line(),
        total_seconds=0.0,
        model=model,
    )


def _evaluate_dataset(model: Model, dataset: Dataset, ood: Path | str | None, progress: Progress) -> Evaluation:
    samples, split = evaluation_split(dataset)
    ood_images = [] if ood is None else _list_ood_images(model, ood)
    evaluation = evaluate_samples(model, samples, progress, split=split)
    if ood_images:
        return replace(evaluation, ood=_evaluate_ood(model, evaluation, ood_images, progress))
    return evaluation


def evaluation_split(dataset: Dataset) -> tuple[tuple[Sample, ...], str]:
    """Return the images that a model is evaluated on, and the name of their split: "test", "val" or "all".

    Raises:
        DatasetError: There is only a training split.
    """
    has_splits = any(sample.split is not None for sample in dataset.samples)
    for split in ("test", "val") if has_splits else (None,):
        if samples := dataset.split(split):
            return samples, split or "all"
    raise DatasetError(f"{dataset.source} has a training split only. Give a test split, or a folder of class folders.")


def evaluate_samples(
    model: Model,
    samples: Sequence[Sample],
    progress: Progress,
    *,
    split: str,
    known: Mapping[str, Prediction] | None = None,
) -> Evaluation:
    """Evaluate a model on samples, as `evaluate`.

    Args:
        model: The model.
        samples: Labeled images.
        progress: Progress display.
        split: Name of the split for the report: "test", "val" or "all".
        known: Predictions by image that were made before; default: none.
    """
    known = known or {}
    check_labels((sample.label for sample in samples), model.class_names, model.name)
    predictions, reader = [], AttributeReader()
    with progress.task("Evaluating", len(samples)) as task:
        new = model.predict_sources((sample.path for sample in samples if sample.name not in known), observer=reader)
        for sample in samples:
            prediction = known[sample.name] if sample.name in known else next(new)
            predictions.append(replace(prediction, image=sample.name, label=sample.label))
            task.advance(1)
    temperature = model.card.uncertainty.temperature
    evaluation = compute_metrics(predictions, model.class_names, split=split, temperature=temperature)
    tags = _evaluate_tags(predictions, samples, model.class_names)
    weak_slices = find_weak_slices(predictions, reader.of_samples(samples, model.card.preprocess))
    return replace(evaluation, tags=tags, weak_slices=weak_slices, paths=renamed_paths(samples))


def _absent_class_warning(evaluation: Evaluation) -> tuple[DataWarning, ...]:
    absent = tuple(row.name for row in evaluation.per_class if not row.support)
    no_image = f"No image of {len(absent)} of the {len(evaluation.class_names)} classes of the model"
    return (DataWarning(f"{no_image}, which have no metrics: {', '.join(absent[:MAX_ABSENT])}"),) if absent else ()


def _evaluate_tags(
    predictions: Sequence[Prediction], samples: Sequence[Sample], class_names: Sequence[str]
) -> TagMetrics | None:
    """Return multi-label metrics; None unless images have several labels and the model predicts tags."""
    pairs = [pair for pair in zip(predictions, samples, strict=True) if pair[0].error is None]
    present = multi_hot([sample for _, sample in pairs], class_names)
    if not is_multilabel_data(present) or not all(prediction.tag_probability_values for prediction, _ in pairs):
        return None
    index = {name: k for k, name in enumerate(class_names)}
    areas, true_areas = np.zeros(present.shape), np.zeros(present.shape)
    for row, (prediction, sample) in enumerate(pairs):
        for tag in prediction.tags:
            areas[row, index[tag.name]] = tag.area_fraction
        if prediction.none_of_these or not sample.area_fractions:
            true_areas[row] = np.nan
            continue
        for name, area in zip((sample.label, *sample.extra_labels), sample.area_fractions, strict=True):
            if name in index:
                true_areas[row, index[name]] = area
    probabilities = np.array([prediction.tag_probability_values for prediction, _ in pairs])  # (N, K)
    tagged = probabilities >= TAG_THRESHOLD  # also for "none of these", whose most probable class is counted above
    tagged[range(len(pairs)), [index[str(prediction.predicted_label)] for prediction, _ in pairs]] = True
    return tag_metrics(tagged, probabilities, areas, present, true_areas)


def _list_ood_images(model: Model, folder: Path | str) -> list[Path | str]:
    if not model.card.uncertainty.ood_score_quantiles:
        raise UsageError(f"{model.name} has no out-of-distribution score. Train it again, or leave `ood` out.")
    skipped = SkippedFiles()
    if not (images := list(iter_images(refuse_models([folder]), skipped))):
        found = f", only {skipped}" if skipped else ""
        raise UsageError(f"No images in {folder}{found}. Give a folder of images that show none of the classes.")
    return images


def _evaluate_ood(model: Model, evaluation: Evaluation, images: Sequence[Source], progress: Progress) -> OODMetrics:
    with progress.task("Evaluating OOD images", len(images)) as task:
        predictions = []
        for prediction in model.predict_sources(images):
            predictions.append(prediction)
            task.advance(1)
    inside, outside = (
        [each for each in group if each.error is None] for group in (evaluation.predictions, predictions)
    )
    if not outside:
        files = count(len(images), "out-of-distribution image")
        raise UsageError(f"Cannot read any of {files}. Choose another folder for `ood`.")
    if num_unreadable := len(predictions) - len(outside):
        total = count(len(images), "out-of-distribution image")
        progress.log(f"Skipped {num_unreadable:,} of {total}: cannot be read.")
    threshold = model.card.uncertainty.ood_acceptance if model.accept_rate is None else model.accept_rate
    metrics = ood_metrics(
        np.array([each.none_of_these_score for each in inside], np.float64),
        np.array([each.none_of_these_score for each in outside], np.float64),
        np.array([each.confidence for each in inside], np.float64),
        np.array([each.confidence for each in outside], np.float64),
        threshold,
    )
    return replace(metrics, num_unreadable=num_unreadable)
