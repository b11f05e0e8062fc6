"""Calibration of a model file on held-out labeled images: temperature, prediction sets, OOD threshold and tags.

Images with one label fit the first three, images with all their labels fit the tags. Metrics after calibration are
cross-validated: each image is measured with parameters that were fitted on the other folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.groups import group_names
from belvedere.data.hashing import HashedSamples, estimate_overlap, hash_samples
from belvedere.data.splits import NUM_FOLDS
from belvedere.errors import (
    CalibrationError,
    DatasetError,
    InvalidImageError,
    MissingDependencyError,
    UsageError,
)
from belvedere.evaluation.metrics import check_labels, prediction_set_metrics, reliability, tag_metrics
from belvedere.images.inputs import read_inputs
from belvedere.inference import tags
from belvedere.inference.model import Model, as_model
from belvedere.inference.model_card import replace_metadata
from belvedere.inference.model_paths import model_file, read_model_file
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.uncertainty.conformal import COVERAGE, prediction_sets
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.ood import to_percentile
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.runtime.files import write_bytes
from belvedere.runtime.hub import snapshot_address
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.parallel import batched
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import Sample
from belvedere.types.evaluation import TagMetrics
from belvedere.types.model import ModelCard, Uncertainty
from belvedere.types.result import Result, short_repr, to_plain

BATCH_SIZE = 64
MIN_IMAGES = 100  # with one label, for the temperature, prediction sets and threshold; 80 in each of five folds
MAX_PROBABILITY_ERROR = 1e-3  # of the written graph, whose float32 softmax differs by about 1e-6


@dataclass(frozen=True, slots=True)
class CalibrationMetrics:
    """Metrics of a calibration; None for what was not fitted, or what the model did not have."""

    log_loss: float | None = None  # nats
    ece: float | None = None  # expected calibration error, 15 bins
    coverage: float | None = None  # fraction of images whose label is in the prediction set; the target is 0.95
    mean_set_size: float | None = None  # classes
    acceptance: float | None = None  # fraction of images that are not "none of these"
    tags: TagMetrics | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Calibration(Result):
    """Result of `calibrate`. In a notebook, it shows the metrics before and after."""

    path: Path  # the file that was written
    before: CalibrationMetrics  # of the model given, with tags as training fitted them
    after: CalibrationMetrics  # cross-validated
    num_images: int  # with one label; 0 if they fitted nothing
    num_tag_images: int  # 0 if no tags were fitted
    num_test_images: int  # of the test split, which was not used
    training_overlap: float  # estimated fraction of the images that the model was trained on
    uncertainty: Uncertainty  # as written

    def __repr__(self) -> str:
        losses = {"log_loss_before": self.before.log_loss, "log_loss_after": self.after.log_loss}
        return short_repr(
            self, path=str(self.path), num_images=self.num_images, num_tag_images=self.num_tag_images, **losses
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON, as `belvedere calibrate --json` prints it."""
        return dict(to_plain(self))


def calibrate(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Calibration:
    """Fit everything in a model file that held-out labeled images can fit, and write the file.

    At least 100 images with one label fit the temperature (Guo et al. 2017), the prediction sets (Romano et al. 2020)
    and the threshold of "none of these". A table with several labels per image (`sea|mountain`) and at least 30 images
    fits the tags. The weights of the network do not change.

    Args:
        model: A model, its model.onnx, or a run folder.
        data: Labeled images that the model was not trained on. The validation split is used if there is one, otherwise
            everything but the test split.
        out: The file to write; by default the model file is replaced.
        force: Whether to write the file although metrics get worse.
        overwrite: Whether an existing file, or without `out` the model file, may be replaced.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The metrics before and after.

    Raises:
        DatasetError: There are too few images.
        UnknownNameError: A label is not a class of the model.
        UsageError: The file may not be written, or a model file that would be replaced has changed since it was loaded.
        OutputExistsError: The file exists and `overwrite` is not set.
        CalibrationError: A metric gets worse on held-out images by more than its standard error.
        MissingDependencyError: onnx is not installed.
    """
    progress = choose_progress(progress)
    opened, dataset = as_model(model), as_dataset(data)
    source = model_file(opened.name)
    if out is None:
        _check_replaceable(source, opened)
    inputs = list(dataset.list_files()) if out is None else [source, *dataset.list_files()]
    file = OutputFile(source if out is None else Path(out), overwrite=overwrite, inputs=lambda: inputs)
    hashed = hash_samples(_choose_samples(dataset, opened), progress)
    overlap = estimate_overlap(hashed.hashes, opened.card.provenance.data_minhash)
    if overlap:
        progress.log(
            f"Warning: {opened.name} was trained on about {overlap:.1%} of these images, so its metrics on them are "
            "too good. Calibrate on other images."
        )
    outputs, decoded, first_batch = _run_model(opened, hashed, progress)
    result, worse = _fit(opened, outputs, decoded)
    if worse and not force:
        raise CalibrationError(
            f"Metrics get worse on held-out images: {'; '.join(worse)}. Nothing was written. Check the labels, give "
            "more images, or set `force`."
        )
    content = _rewrite(opened.content, opened.card, result.uncertainty, first_batch, outputs)
    write_bytes(file.path, content, file.check)
    return replace(result, path=file.path, num_test_images=len(dataset.split("test")), training_overlap=overlap)


def _check_replaceable(file: Path, model: Model) -> None:
    """Raise UsageError if a model file is in a cache, or is not the one that was opened."""
    if address := snapshot_address(file):
        raise UsageError(f"The model of {address} in the Hugging Face cache is not replaced. Give `out`.")
    try:
        content = read_model_file(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"The model file {file} cannot be read: {describe_error(error)}. Give `out`.") from error
    if content != model.content:
        raise UsageError(f"The model file {file} has changed since it was loaded. Load it again.")


def _choose_samples(dataset: Dataset, model: Model) -> tuple[Sample, ...]:
    samples = dataset.split("val") or tuple(sample for sample in dataset.samples if sample.split != "test")
    labels = (label for sample in samples for label in (sample.label, *sample.extra_labels))
    check_labels(labels, model.class_names, model.name)
    return samples


def _run_model(
    model: Model, hashed: HashedSamples, progress: Progress
) -> tuple[ModelOutputs, HashedSamples, NDArray[np.uint8]]:
    """Return the outputs for the images that can be decoded, those images, and the first batch of pixels."""
    outputs: list[ModelOutputs] = []
    decoded: list[int] = []
    unreadable = list(hashed.unreadable)
    first_batch: NDArray[np.uint8] | None = None
    images = read_inputs([sample.path for sample in hashed.samples], model.card.preprocess)
    with progress.task("Predicting", len(hashed.samples)) as task:
        for batch in batched(enumerate(images), BATCH_SIZE):
            pixels = []
            for index, image in batch:
                if isinstance(image, InvalidImageError):
                    unreadable.append((hashed.samples[index], image.reason))
                else:
                    pixels.append(image.pixels)
                    decoded.append(index)
            if pixels:
                outputs.append(model.forward_all(np.stack(pixels)))
                first_batch = np.stack(pixels) if first_batch is None else first_batch
            task.advance(len(batch))
    for sample, reason in unreadable:
        progress.log(f"Image skipped: {sample.name}: {reason}")
    if first_batch is None:
        raise DatasetError("None of the images can be decoded. Give another `data`.")
    return _concatenate(outputs), hashed.select(decoded), first_batch


def _concatenate(outputs: Sequence[ModelOutputs]) -> ModelOutputs:
    joined: dict[str, Any] = {}
    for field in fields(ModelOutputs):
        arrays = [getattr(each, field.name) for each in outputs]
        joined[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return ModelOutputs(**joined)


def _fit(model: Model, outputs: ModelOutputs, hashed: HashedSamples) -> tuple[Calibration, list[str]]:
    """Fit what the images can fit, and describe what gets worse; the caller adds path, test images and overlap."""
    labels = np.array([model.class_names.index(sample.label) for sample in hashed.samples])
    is_single = np.array([not sample.extra_labels for sample in hashed.samples])
    # Not stratified by class: the published metrics were measured on these folds. Identical files and groups share one.
    _, files = np.unique(group_names(hashed), return_inverse=True)
    folds = np.random.default_rng(0).permutation(files.max() + 1)[files] % NUM_FOLDS
    fitted, before, after = model.card.uncertainty, CalibrationMetrics(), CalibrationMetrics()
    worse: list[str] = []
    num_images, num_tag_images = int(is_single.sum()), len(is_single)
    if num_images >= MIN_IMAGES:
        has_score = outputs.ood_score is not None and bool(fitted.ood_score_quantiles)  # fitted in training
        rows = _Rows(outputs.logits, labels, outputs.ood_score if has_score else None).select(is_single)
        fitted, before, after, worse = _calibrate_probabilities(fitted, rows, folds[is_single])
    else:
        num_images = 0
    if outputs.class_activation_maps is not None and not is_single.all() and num_tag_images >= tags.MIN_IMAGES:
        present = tags.multi_hot(hashed.samples, model.class_names)
        fitted, *tag_metrics, worse_tags = _calibrate_tags(fitted, outputs.class_activation_maps, present, folds)
        before, after = replace(before, tags=tag_metrics[0]), replace(after, tags=tag_metrics[1])
        worse += worse_tags
    else:
        num_tag_images = 0
    if not num_images and not num_tag_images:
        raise DatasetError(
            f"Too few images to calibrate on: {int(is_single.sum())} with one label, {int((~is_single).sum())} with "
            f"several. Give {MIN_IMAGES} with one label, or {tags.MIN_IMAGES} in a table in which some have several."
        )
    return Calibration(Path(model.name), before, after, num_images, num_tag_images, 0, 0.0, fitted), worse


@dataclass(frozen=True, slots=True)
class _Rows:
    """Outputs and labels of N images with one label."""

    logits: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.int64]  # (N,)
    ood_scores: NDArray[np.float32] | None  # (N,); None for a model without a fitted score

    def select(self, rows: NDArray[np.bool_]) -> "_Rows":
        scores = None if self.ood_scores is None else self.ood_scores[rows]
        return _Rows(self.logits[rows], self.labels[rows], scores)


def _calibrate_probabilities(
    initial: Uncertainty, rows: _Rows, folds: NDArray[np.intp]
) -> tuple[Uncertainty, CalibrationMetrics, CalibrationMetrics, list[str]]:
    """Return the fitted parameters, the metrics before and after, and which of them get worse."""

    def fit(chosen: _Rows) -> Uncertainty:
        fitted = fit_uncertainty(chosen.logits, chosen.labels, chosen.ood_scores)
        return replace(
            initial,
            temperature=fitted.temperature,
            num_calibration_images=fitted.num_calibration_images,
            conformal_threshold=fitted.conformal_threshold,
            target_coverage=fitted.target_coverage,
            ood_score_quantiles=fitted.ood_score_quantiles or initial.ood_score_quantiles,
        )

    fitted = fit(rows)
    after, losses = _measure(
        [(fit(rows.select(folds != fold)), rows.select(folds == fold)) for fold in np.unique(folds)]
    )
    if fitted == initial:
        # Fitted to these images already: metrics on them would be those of the fit, and look better than they are.
        return fitted, after, after, []
    before, _ = _measure([(initial, rows)])
    worse = []
    if (after.log_loss or 0.0) - (before.log_loss or 0.0) > losses.std() / len(losses) ** 0.5:
        worse.append(f"log loss {before.log_loss:.4f} before, {after.log_loss:.4f} after")
    for name, target in (("coverage", COVERAGE), ("acceptance", initial.ood_acceptance)):
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None:
            continue
        # Farther from the target than before by more than two standard errors; more coverage than promised is no fault.
        old_error, new_error = (
            max(0.0, target - each) if name == "coverage" else abs(target - each) for each in (old, new)
        )
        if new_error > old_error and new_error > 2 * (target * (1 - target) / len(losses)) ** 0.5:
            worse.append(f"{name} {old:.1%} before, {new:.1%} after (target {target:.1%})")
    return fitted, before, after, worse


def _measure(groups: Sequence[tuple[Uncertainty, _Rows]]) -> tuple[CalibrationMetrics, NDArray[np.float64]]:
    """Measure parameters, each on its own images; also return the loss of each image, (N,), in nats."""
    labels = np.concatenate([rows.labels for _, rows in groups])
    found = [softmax(rows.logits.astype(np.float64) / each.temperature) for each, rows in groups]
    probabilities, sets = np.concatenate(found), None
    thresholds = [each.conformal_threshold for each, _ in groups]
    chosen = [prediction_sets(values, each) for values, each in zip(found, thresholds, strict=True) if each is not None]
    if len(chosen) == len(groups):
        sets = prediction_set_metrics(np.concatenate(chosen), labels, COVERAGE)
    accepted = [
        to_percentile(rows.ood_scores, each.ood_score_quantiles) <= each.ood_acceptance
        for each, rows in groups
        if rows.ood_scores is not None and each.ood_score_quantiles
    ]
    calibration = reliability(labels, probabilities)
    metrics = CalibrationMetrics(
        calibration.log_loss,
        calibration.ece,
        None if sets is None else sets.coverage,
        None if sets is None else sets.mean_size,
        float(np.concatenate(accepted).mean()) if accepted else None,
    )
    return metrics, -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).eps))


def _calibrate_tags(
    fitted: Uncertainty, maps: NDArray[np.float32], present: NDArray[np.bool_], folds: NDArray[np.intp]
) -> tuple[Uncertainty, TagMetrics, TagMetrics, list[str]]:
    """Return the parameters with fitted tags, the metrics before and after, and which of them get worse."""
    initial = fitted.initial_tag_model or fitted.tag_model or tags.identity_tag_model(present.shape[1])
    confidences = np.empty(present.shape)
    for fold in np.unique(folds):
        is_held_out = folds == fold
        tag_model = tags.fit_tags_multilabel(initial, maps[~is_held_out], present[~is_held_out])
        confidences[is_held_out] = tags.tag_confidences(tag_model, maps[is_held_out])
    tag_model = tags.fit_tags_multilabel(initial, maps, present)
    initial_confidences = tags.tag_confidences(initial, maps)
    before, after = _tag_metrics(initial_confidences, present), _tag_metrics(confidences, present)
    terms = _f1_terms(confidences, present) - _f1_terms(initial_confidences, present)
    noise = terms.std() / len(terms) ** 0.5  # standard error of the change of F1
    worse = []
    f1_change = (after.micro_f1 or 0.0) - (before.micro_f1 or 0.0)
    precision_change = (after.mean_average_precision or 0.0) - (before.mean_average_precision or 0.0)
    if min(f1_change, f1_change + precision_change) < -noise:  # F1 falls, or precision by more than F1 rises
        for name, title in (("micro_f1", "micro F1"), ("mean_average_precision", "mean average precision")):
            old, new = (getattr(each, name) or 0.0 for each in (before, after))
            worse.append(f"tags' {title} {old:.1%} before, {new:.1%} after")
    return replace(fitted, tag_model=tag_model, initial_tag_model=initial), before, after, worse


def _tag_metrics(confidences: NDArray[np.float64], present: NDArray[np.bool_]) -> TagMetrics:
    unknown = np.full(present.shape, np.nan)
    return tag_metrics(confidences >= tags.TAG_THRESHOLD, confidences, np.zeros(present.shape), present, unknown)


def _f1_terms(confidences: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the influence of each image on micro F1, (N,), by the delta method for a ratio of means."""
    tagged = confidences >= tags.TAG_THRESHOLD
    hits, total = 2 * (tagged & present).sum(1), tagged.sum(1) + present.sum(1)
    return np.asarray((hits - hits.sum() / total.sum() * total) / total.mean())


def _rewrite(
    content: bytes, card: ModelCard, fitted: Uncertainty, images: NDArray[np.uint8], outputs: ModelOutputs
) -> bytes:
    """Return the model file with another card and, if it changed, another temperature in its graph."""
    temperature = fitted.temperature
    try:
        if temperature != card.uncertainty.temperature:
            from belvedere.inference.onnx_transforms import set_temperature  # imports onnx

            content = set_temperature(content, temperature)
        card = replace(card, uncertainty=fitted)
        content = replace_metadata(content, card)
    except ModuleNotFoundError as error:
        raise MissingDependencyError("Writing a model", "onnx", "export") from error
    probabilities = Model.from_bytes(content, card).forward(images).probabilities
    expected = softmax(outputs.logits[: len(images)].astype(np.float64) / temperature)
    if not np.abs(probabilities - expected).max() <= MAX_PROBABILITY_ERROR:
        raise UsageError(
            "The probabilities of this graph are not the softmax of its logits at the temperature of its card. Give a "
            "model that Belvedere trained."
        )
    return content
