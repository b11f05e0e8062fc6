"""Calibration of a model file on held-out labeled images: temperature, prediction sets, OOD threshold and tags.

Images with one label fit the first three, images with all their labels fit the tags. Metrics after calibration are
cross-validated: each image is measured with parameters that were fitted on the other folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset, as_dataset
from belvedere.data.hashing import HashedSamples, estimate_overlap, hash_samples
from belvedere.errors import (
    CalibrationError,
    DatasetError,
    InvalidImageError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from belvedere.evaluation.metrics import prediction_set_metrics, reliability, tag_metrics
from belvedere.images.decode import read_inputs
from belvedere.inference import tags
from belvedere.inference.model import Model, as_model
from belvedere.inference.model_card import replace_metadata
from belvedere.inference.model_paths import model_file
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.uncertainty.conformal import COVERAGE, prediction_sets
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.ood import to_percentile
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from belvedere.types.evaluation import TagMetrics
from belvedere.types.model import ModelCard, Uncertainty

BATCH_SIZE = 64
NUM_FOLDS = 5
MIN_IMAGES = 100  # with one label, for the temperature, prediction sets and threshold; 80 in each of five folds
MAX_LOG_LOSS_RISE = 0.01  # relative: fits on other images of the same kind differ by about as much
MAX_PROBABILITY_ERROR = 1e-3  # of the written graph, whose float32 softmax differs by about 1e-6


@dataclass(frozen=True, slots=True)
class CalibrationMetrics:
    """Metrics of a calibration; None for parts that were not fitted, or that the model did not have."""

    log_loss: float | None = None  # nats
    ece: float | None = None  # expected calibration error, 15 bins
    coverage: float | None = None  # fraction of images whose label is in the prediction set; the target is 0.95
    mean_set_size: float | None = None  # classes
    acceptance: float | None = None  # fraction of images that are not "none of these"
    tags: TagMetrics | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Result of `calibrate`."""

    path: Path  # the file that was written
    before: CalibrationMetrics  # with tags as training fitted them, everything else as in the model given
    after: CalibrationMetrics  # cross-validated
    num_images: int  # with one label; 0 if they fitted nothing
    num_tag_images: int  # 0 if no tags were fitted
    num_test_images: int  # of the test split, which was not used
    training_overlap: float  # estimated fraction of the images that the model was trained on
    uncertainty: Uncertainty  # as written


def calibrate(
    model: Model | Path | str,
    data: Dataset | Path | str,
    *,
    out: Path | str | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
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
        progress: Receives messages and progress.

    Returns:
        The metrics before and after.

    Raises:
        DatasetError: There are too few images.
        UnknownNameError: A label is not a class of the model.
        UsageError: The file may not be written.
        OutputExistsError: The file exists and `overwrite` is not set.
        CalibrationError: Metrics get worse on held-out images.
        MissingDependencyError: onnx is not installed.
    """
    progress = progress or Progress()
    opened, dataset = as_model(model), as_dataset(data)
    source = model_file(opened.name)
    inputs = list(dataset.list_files()) if out is None else [source, *dataset.list_files()]
    file = OutputFile(source if out is None else Path(out), overwrite=overwrite, inputs=lambda: inputs)
    contents = hash_samples(_choose_samples(dataset, opened), progress)
    overlap = _find_training_images(opened, contents, progress)
    outputs, read, first_batch = _run_model(opened, contents, progress)
    result = _fit(opened, outputs, read)
    worse = _list_worse(result, opened.card.uncertainty.ood_acceptance)
    if worse and not force:
        raise CalibrationError(
            f"Metrics get worse on held-out images: {'; '.join(worse)}. Nothing was written. Check the labels, give "
            "more images, or set `force`."
        )
    write_bytes(
        file.path, _rewrite(source.read_bytes(), opened.card, result.uncertainty, first_batch, outputs), file.check
    )
    return replace(result, path=file.path, num_test_images=len(dataset.split("test")), training_overlap=overlap)


def _fit(model: Model, outputs: ModelOutputs, read: HashedSamples) -> Calibration:
    """Fit what the images can fit; the caller fills in the path, the test images and the overlap."""
    classes = np.array([model.class_names.index(sample.label) for sample in read.samples])
    folds = _draw_folds(read.hashes)
    single = np.array([not sample.extra_labels for sample in read.samples])
    fitted, before, after = model.card.uncertainty, CalibrationMetrics(), CalibrationMetrics()
    num_images, num_tag_images = int(single.sum()), len(single)
    if num_images >= MIN_IMAGES:
        rows = _Rows(outputs.logits[single], classes[single], _scores(outputs, fitted, single))
        fitted, before, after = _calibrate_probabilities(fitted, rows, folds[single])
    else:
        num_images = 0
    if outputs.class_activation_maps is not None and not single.all() and num_tag_images >= tags.MIN_IMAGES:
        fitted, *tag_results = _calibrate_tags(fitted, outputs.class_activation_maps, read, model, folds)
        before, after = (replace(each, tags=found) for each, found in zip((before, after), tag_results, strict=True))
    else:
        num_tag_images = 0
    if not num_images and not num_tag_images:
        raise DatasetError(
            f"Too few images to calibrate on: {int(single.sum())} with one label, {int((~single).sum())} with several. "
            f"Give {MIN_IMAGES} with one label, or {tags.MIN_IMAGES} in a table in which some have several."
        )
    return Calibration(Path(model.name), before, after, num_images, num_tag_images, 0, 0.0, fitted)


def _choose_samples(dataset: Dataset, model: Model) -> tuple[Sample, ...]:
    samples = dataset.split("val") or tuple(sample for sample in dataset.samples if sample.split != "test")
    for label in sorted({label for sample in samples for label in (sample.label, *sample.extra_labels)}):
        if label not in model.class_names:
            raise UnknownNameError(f"class in {model.name} for the label", label, model.class_names)
    return samples


def _find_training_images(model: Model, contents: HashedSamples, progress: Progress) -> float:
    """Estimate the fraction of training images by their hashes, and warn if there are any."""
    overlap = estimate_overlap(contents.hashes, model.card.provenance.data_minhash)
    if overlap:
        progress.log(
            f"Warning: {model.name} was trained on about {overlap:.1%} of these images, so its metrics on them are too "
            "good. Calibrate on other images."
        )
    return overlap


def _run_model(
    model: Model, contents: HashedSamples, progress: Progress
) -> tuple[ModelOutputs, HashedSamples, NDArray[np.uint8]]:
    """Return the outputs for the images that can be decoded, those images, and the first batch of pixels."""
    found: list[ModelOutputs] = []
    batches: list[list[NDArray[np.uint8]]] = [[]]
    read, unreadable = [], list(contents.unreadable)
    with progress.task("Predicting", len(contents.samples)) as task:
        images = read_inputs([sample.path for sample in contents.samples], model.card.preprocess)
        for sample, key, image in zip(contents.samples, contents.hashes, images, strict=True):
            task.advance(1)
            if isinstance(image, InvalidImageError):
                unreadable.append((sample, image.reason))
                continue
            batches[-1].append(image.pixels)
            read.append((sample, key))
            if len(batches[-1]) == BATCH_SIZE:
                found.append(model.forward_all(np.stack(batches[-1])))
                batches[1:] = [[]]
        if batches[-1]:
            found.append(model.forward_all(np.stack(batches[-1])))
    for sample, reason in unreadable:
        progress.log(f"Left out: {sample.name}: {reason}")
    if not found:
        raise DatasetError("None of the images can be decoded.")
    samples, hashes = zip(*read, strict=True)
    return _concatenate(found), HashedSamples(samples, hashes, ()), np.stack(batches[0])


def _concatenate(outputs: Sequence[ModelOutputs]) -> ModelOutputs:
    maps = [each.class_activation_maps for each in outputs if each.class_activation_maps is not None]
    scores = [each.ood_score for each in outputs if each.ood_score is not None]
    return ModelOutputs(
        np.concatenate([each.logits for each in outputs]),
        np.concatenate([each.probabilities for each in outputs]),
        np.concatenate([each.embedding for each in outputs]),
        np.concatenate(maps) if maps else None,
        np.concatenate(scores) if scores else None,
    )


def _draw_folds(hashes: Sequence[str]) -> NDArray[np.intp]:
    """Return a fold for each image, (N,); identical files share one."""
    _, files = np.unique(hashes, return_inverse=True)
    return np.random.default_rng(0).permutation(files.max() + 1)[files] % NUM_FOLDS


@dataclass(frozen=True, slots=True)
class _Rows:
    """Outputs and labels of N images with one label."""

    logits: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.int64]  # (N,)
    ood_scores: NDArray[np.float32] | None  # (N,)

    def select(self, rows: NDArray[np.bool_]) -> "_Rows":
        scores = None if self.ood_scores is None else self.ood_scores[rows]
        return _Rows(self.logits[rows], self.labels[rows], scores)


def _scores(outputs: ModelOutputs, initial: Uncertainty, rows: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Return the OOD scores, (N,); None for a model whose score was not fitted in training."""
    has_score = outputs.ood_score is not None and bool(initial.ood_score_quantiles)
    return outputs.ood_score[rows] if has_score and outputs.ood_score is not None else None


def _calibrate_probabilities(
    initial: Uncertainty, rows: _Rows, folds: NDArray[np.intp]
) -> tuple[Uncertainty, CalibrationMetrics, CalibrationMetrics]:
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

    names = np.unique(folds)
    order = np.argsort(np.concatenate([np.flatnonzero(folds == fold) for fold in names]))
    parts = [_predict(fit(rows.select(folds != fold)), rows.select(folds == fold)) for fold in names]
    probabilities, sets, accepted = zip(*parts, strict=True)
    after = np.concatenate(probabilities)[order], _join(sets, order), _join(accepted, order)
    return fit(rows), _measure(*_predict(initial, rows), rows.labels), _measure(*after, rows.labels)


def _join(parts: Sequence[NDArray[np.bool_] | None], order: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found)[order] if len(found) == len(parts) else None


_Predicted = tuple[NDArray[np.float64], NDArray[np.bool_] | None, NDArray[np.bool_] | None]


def _predict(uncertainty: Uncertainty, rows: _Rows) -> _Predicted:
    """Return probabilities, (N, K), prediction sets, (N, K), and which images are accepted, (N,)."""
    probabilities = softmax(rows.logits.astype(np.float64) / uncertainty.temperature)
    threshold, quantiles = uncertainty.conformal_threshold, uncertainty.ood_score_quantiles
    sets = None if threshold is None else prediction_sets(probabilities, threshold)
    accepted = None
    if rows.ood_scores is not None and quantiles:
        accepted = to_percentile(rows.ood_scores, quantiles) <= uncertainty.ood_acceptance
    return probabilities, sets, accepted


def _measure(
    probabilities: NDArray[np.float64],
    sets: NDArray[np.bool_] | None,
    accepted: NDArray[np.bool_] | None,
    labels: NDArray[np.int64],
) -> CalibrationMetrics:
    calibration = reliability(labels, probabilities)
    found = None if sets is None else prediction_set_metrics(sets, labels, COVERAGE)
    return CalibrationMetrics(
        calibration.log_loss,
        calibration.ece,
        None if found is None else found.coverage,
        None if found is None else found.mean_size,
        None if accepted is None else float(accepted.mean()),
    )


def _calibrate_tags(
    fitted: Uncertainty, maps: NDArray[np.float32], read: HashedSamples, model: Model, folds: NDArray[np.intp]
) -> tuple[Uncertainty, TagMetrics, TagMetrics]:
    present = tags.multi_hot(read.samples, model.class_names)
    initial = fitted.initial_tag_model or fitted.tag_model or tags.identity_tag_model(len(model.class_names))
    confidences = np.empty(present.shape)
    for fold in np.unique(folds):
        held_out = folds == fold
        tag_model = tags.fit_tags_multilabel(initial, maps[~held_out], present[~held_out])
        confidences[held_out] = tags.tag_confidences(tag_model, maps[held_out])
    tag_model = tags.fit_tags_multilabel(initial, maps, present)
    return (
        replace(fitted, tag_model=tag_model, initial_tag_model=initial),
        _tag_metrics(tags.tag_confidences(initial, maps), present),
        _tag_metrics(confidences, present),
    )


def _tag_metrics(confidences: NDArray[np.float64], present: NDArray[np.bool_]) -> TagMetrics:
    unknown = np.full(present.shape, np.nan)
    return tag_metrics(confidences >= tags.TAG_THRESHOLD, confidences, np.zeros(present.shape), present, unknown)


def _list_worse(result: Calibration, acceptance: float) -> list[str]:
    """Describe the metrics that get worse.

    Coverage and acceptance are worse if they are farther from their targets by more than two standard errors.
    """
    before, after, worse = result.before, result.after, []
    losses = before.log_loss or 0.0, after.log_loss or 0.0
    if losses[1] > losses[0] * (1 + MAX_LOG_LOSS_RISE):
        worse.append(f"log loss {losses[0]:.4f} before, {losses[1]:.4f} after")
    targets = {"coverage": COVERAGE, "acceptance": acceptance}
    for name, target in targets.items():
        was, now = getattr(before, name), getattr(after, name)
        if was is None or now is None:
            continue
        distance = [max(0.0, target - each) if name == "coverage" else abs(target - each) for each in (was, now)]
        if distance[1] > distance[0] and distance[1] > 2 * (target * (1 - target) / result.num_images) ** 0.5:
            worse.append(f"{name} {was:.1%} before, {now:.1%} after (target {target:.1%})")
    if before.tags is not None and after.tags is not None and _tags_worse(before.tags, after.tags):
        for name in ("micro_f1", "mean_average_precision"):
            was, now = (getattr(each.tags, name) or 0.0 for each in (before, after))
            worse.append(f"tags' {name.replace('_', ' ').replace('f1', 'F1')} {was:.3f} before, {now:.3f} after")
    return worse


def _tags_worse(before: TagMetrics, after: TagMetrics) -> bool:
    """Return whether micro F1 fell, or mean average precision by more than micro F1 rose."""
    f1 = (after.micro_f1 or 0.0) - (before.micro_f1 or 0.0)
    precision = (after.mean_average_precision or 0.0) - (before.mean_average_precision or 0.0)
    return f1 < 0 or f1 + precision < 0


def _rewrite(
    content: bytes, card: ModelCard, fitted: Uncertainty, images: NDArray[np.uint8], outputs: ModelOutputs
) -> bytes:
    """Return the model file with another card and, if it changed, another temperature in its graph."""
    temperature, is_changed = fitted.temperature, fitted.temperature != card.uncertainty.temperature
    card = replace(card, uncertainty=fitted)
    try:
        if is_changed:
            from belvedere.inference.onnx_transforms import set_temperature  # imports onnx

            content = set_temperature(content, temperature)
        content = replace_metadata(content, card)
    except ModuleNotFoundError as error:
        raise MissingDependencyError("Writing a model", "onnx", "export") from error
    if not is_changed:
        return content
    probabilities = Model.from_bytes(content, card).forward(images).probabilities
    expected = softmax(outputs.logits[: len(images)].astype(np.float64) / temperature)
    if not np.abs(probabilities - expected).max() <= MAX_PROBABILITY_ERROR:
        raise UsageError("The temperature of this graph cannot be changed. Give a model that Belvedere trained.")
    return content
