"""A model's tags fitted to photographs of which all labels are known.

Knows which photographs that takes and how the model file is written anew; the fit itself is `tags`'.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import Contents, read_contents
from belvedere.errors import (
    CalibrationError,
    DatasetError,
    InvalidImageError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from belvedere.evaluation.metrics import measure_tags
from belvedere.images.decode import DecodedImage, read_inputs
from belvedere.inference.model import Model, load
from belvedere.inference.model_card import replace_metadata
from belvedere.inference.model_paths import find_model
from belvedere.inference.tags import (
    LEAST_FITTED_ON,
    PRESENT,
    fit_tags_multilabel,
    identity_tag_model,
    multi_hot,
    tag_confidences,
)
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from belvedere.types.evaluation import TagFigures

AT_ONCE = 64  # pictures
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of fitting tags to a table."""

    file: Path  # the model that was written
    images: int  # fitted on
    before: TagFigures  # of the tags as training made them
    after: TagFigures  # of tags fitted on the other four fifths of the table
    test_images: int  # rows of the table's test part, which were left out


def calibrate(
    model: Path | str,
    table: Path | str,
    *,
    out: Path | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Calibrated:
    """Fits a model's tags to a table of photographs with all their labels, and writes the model with them.

    Args:
        model: A model.onnx, or the run folder that holds one.
        table: A table with the columns image and label (`sea|mountain`); a few dozen photographs do. Its test part, if
            it names one, stays aside for `evaluate`.
        out: The file to write; without, the model itself is replaced.
        force: Whether to write the model although its tags got worse.
        overwrite: Whether `out` may be there already, or without it, the model itself be replaced.
        progress: Shows how far it is.

    Returns:
        What the tags were worth before, and what they are worth now on photographs they were not fitted on.

    Raises:
        DatasetError: The table has too few photographs, or none with several labels.
        UnknownNameError: A label is no class of the model's.
        UsageError: The model can't tell places, or the file may not be written.
        OutputExistsError: The file, or without `out` the model, is there, and `overwrite` is not said.
        CalibrationError: The tags got worse.
        MissingDependencyError: onnx is not installed.
    """
    progress = progress or Progress()
    opened = load(model)
    if not opened.has_activation_maps:
        raise UsageError(f"{opened.name} can't tell where its evidence is, so it has no tags. Train it again.")
    listed = load_dataset(table).samples
    file = _claim(find_model(model), out, [table, *(sample.path for sample in listed)], overwrite)
    samples = _check(tuple(sample for sample in listed if sample.part != "test"), opened, table)
    trust = opened.card.trust
    rule = trust.first_tags or trust.tags or identity_tag_model(len(opened.class_names))
    evidence, read = _look_at(opened, read_contents(samples, progress), progress)
    if len(evidence) < LEAST_FITTED_ON:
        raise DatasetError(f"{len(evidence)} photographs of {table} can be read. Expected {LEAST_FITTED_ON} or more.")
    present = multi_hot(read.samples, opened.class_names)
    unseen = np.empty(present.shape)
    folds = _draw_folds(read.hashes)
    for fold in range(FOLDS):
        held = folds == fold
        unseen[held] = tag_confidences(fit_tags_multilabel(rule, evidence[~held], present[~held]), evidence[held])
    before, after = _figures(tag_confidences(rule, evidence), present), _figures(unseen, present)
    if _is_worse(before, after) and not force:
        raise CalibrationError(_refusal(before, after))
    fitted = fit_tags_multilabel(rule, evidence, present)
    card = replace(opened.card, trust=replace(trust, tags=fitted, first_tags=rule))
    try:
        content = replace_metadata(find_model(model).read_bytes(), card)
    except ModuleNotFoundError as error:
        raise MissingDependencyError("Writing a model", "onnx", "train") from error
    write_bytes(file.path, content, file.check)
    return Calibrated(file.path, len(evidence), before, after, len(listed) - len(samples))


def _claim(model: Path, out: Path | None, read: Sequence[Path | str], overwrite: bool) -> OutputFile:
    if out is None:
        return OutputFile(model, overwrite=overwrite, inputs=lambda: read)
    return OutputFile(out, overwrite=overwrite, inputs=lambda: (model, *read))


def _is_worse(before: TagFigures, after: TagFigures) -> bool:
    """Whether micro F1 fell, or mean average precision by more than micro F1 rose."""
    f1 = (after.micro_f1 or 0.0) - (before.micro_f1 or 0.0)
    precision = (after.mean_average_precision or 0.0) - (before.mean_average_precision or 0.0)
    return f1 < 0 or f1 + precision < 0


def _refusal(before: TagFigures, after: TagFigures) -> str:
    figures = (
        f"{name} {was or 0.0:.3f} before, {now or 0.0:.3f} after"
        for name, was, now in (
            ("micro F1", before.micro_f1, after.micro_f1),
            ("mean average precision", before.mean_average_precision, after.mean_average_precision),
        )
    )
    return (
        f"The tags get worse on photographs that they were not fitted on: {'; '.join(figures)}. Nothing was written. "
        "Look through the labels of the table, give more photographs, or add --force."
    )


def _check(samples: tuple[Sample, ...], model: Model, table: Path | str) -> tuple[Sample, ...]:
    if not any(sample.also for sample in samples):
        raise DatasetError(f"No photograph of {table} has several labels. Expected some such as sea|mountain.")
    for label in sorted({label for sample in samples for label in (sample.label, *sample.also)}):
        if label not in model.class_names:
            raise UnknownNameError(f"class in {model.name} for the label", label, model.class_names)
    return samples


def _draw_folds(hashes: Sequence[str]) -> NDArray[np.intp]:
    """A fifth for each photograph, in which its identical copies are as well."""
    _, files = np.unique(hashes, return_inverse=True)
    return np.random.default_rng(0).permutation(files.max() + 1)[files] % FOLDS


def _look_at(model: Model, contents: Contents, progress: Progress) -> tuple[NDArray[np.float32], Contents]:
    """Evidence by place, (N, K, h, w), of the photographs that can be read, and these."""
    found, read, waiting, unreadable = [], [], [], list(contents.unreadable)
    with progress.task("Looking", len(contents.samples)) as task:
        outcomes = read_inputs([sample.path for sample in contents.samples], model.card.preprocess)
        for sample, key, outcome in zip(contents.samples, contents.hashes, outcomes, strict=True):
            task.advance(1)
            if isinstance(outcome, InvalidImageError):
                unreadable.append((sample, outcome.reason))
            if isinstance(outcome, DecodedImage):
                waiting.append(outcome.pixels)
                read.append((sample, key))
            if len(waiting) == AT_ONCE:
                found.append(model.explain(np.stack(waiting)))
                waiting.clear()
        if waiting:
            found.append(model.explain(np.stack(waiting)))
    for sample, reason in unreadable:
        progress.say(f"Left out: {sample.image}: {reason}")
    if not found:
        raise DatasetError("None of the photographs can be read.")
    samples, hashes = zip(*read, strict=True)
    return np.concatenate(found), Contents(samples, hashes, ())


def _figures(confidence: NDArray[np.float64], present: NDArray[np.bool_]) -> TagFigures:
    chosen = confidence >= PRESENT
    unknown = np.full(present.shape, np.nan)
    return measure_tags(chosen, confidence, np.zeros(present.shape), present, unknown)
