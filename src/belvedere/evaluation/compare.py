"""Comparison of two results folders on the images that they share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from belvedere.data.hashing import hash_file
from belvedere.errors import InvalidImageError, UsageError
from belvedere.evaluation.comparison import Comparison, Pair, find_file
from belvedere.evaluation.run_folder import StoredPredictions, read_predictions
from belvedere.evaluation.significance import compare_paired
from belvedere.runtime.dependencies import require
from belvedere.runtime.output_folder import check_output_folder
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning
from belvedere.types.prediction import Prediction


def compare(
    run_a: Path | str,
    run_b: Path | str,
    *,
    out: Path | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Compare two runs on the images that both predicted.

    Images are matched by path, or by content where the paths differ. The labels of the second run count for both.

    Args:
        run_a: First results folder of `train` or `evaluate(out=...)`.
        run_b: Second results folder.
        out: Folder for report.html and comparison.json; default: nothing is written.
        seed: Seed for the bootstrap.
        overwrite: Whether to replace an older results folder.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        Differences with intervals and p-values, overall and by class, and the pairs of predictions.

    Raises:
        UsageError: One is not a results folder, or they share no image.
        OutputExistsError: `out` exists and may not be replaced.
        MissingDependencyError: `out` is given, and the packages of the extra `report` are not installed.
    """
    inputs = Path(run_a), Path(run_b)
    if out is not None:
        require("report", "A report")
        check_output_folder(Path(out), overwrite=overwrite, inputs=inputs)
    before, after = read_predictions(run_a), read_predictions(run_b)
    matched = _match(before, after, choose_progress(progress))
    pairs = tuple(
        Pair(new.image, str(new.label), old, new) for old, new in matched if old.error is None and new.error is None
    )
    if not pairs:
        raise UsageError(
            f"{run_a} and {run_b} share no image, so they cannot be compared. Evaluate both models on the same images "
            "(`evaluate` with `out`)."
        )
    was_correct = np.array([pair.before.predicted_label == pair.label for pair in pairs])
    is_correct = np.array([pair.after.predicted_label == pair.label for pair in pairs])
    labels = np.array([pair.label for pair in pairs])
    per_class = {
        str(name): compare_paired(was_correct[labels == name], is_correct[labels == name], seed)
        for name in np.unique(labels)
    }
    overall = compare_paired(was_correct, is_correct, seed)
    warnings = _warnings(before, after, matched, len(pairs))
    comparison = Comparison(str(run_a), str(run_b), overall, per_class, pairs, warnings)
    if out is not None:
        from belvedere.evaluation.report.comparison import write_comparison  # needs the extra `report`

        write_comparison(Path(out), comparison, overwrite=overwrite, inputs=inputs)
    return comparison


def _match(
    before: StoredPredictions, after: StoredPredictions, progress: Progress
) -> list[tuple[Prediction, Prediction]]:
    """Pair predictions by path, and the rest by content, each file once."""
    by_path = {prediction.image: prediction for prediction in before.predictions}
    if len(by_path) == len(before.predictions) and all(each.image in by_path for each in after.predictions):
        return [(by_path[prediction.image], prediction) for prediction in after.predictions]
    same_path = [(by_path[each.image], each) for each in after.predictions if each.image in by_path]
    matched = {prediction.image for _, prediction in same_path}
    old = [prediction for prediction in before.predictions if prediction.image not in matched]
    new = [prediction for prediction in after.predictions if prediction.image not in matched]
    by_hash: dict[str, list[Prediction]] = {}
    for key, prediction in _hash_files(old, before.folder, progress):
        by_hash.setdefault(key, []).append(prediction)
    new_hashes = _hash_files(new, after.folder, progress)
    return same_path + [(by_hash[key].pop(0), prediction) for key, prediction in new_hashes if by_hash.get(key)]


def _hash_files(predictions: Sequence[Prediction], folder: Path, progress: Progress) -> list[tuple[str, Prediction]]:
    """Return the predictions whose files can be read, each with its SHA-256."""

    def try_hash(prediction: Prediction) -> str | None:
        try:
            return hash_file(find_file(folder, prediction.image))
        except InvalidImageError:
            return None

    hashes = []
    with progress.task("Comparing files", len(predictions)) as task:
        for key in parallel_map(try_hash, predictions):
            hashes.append(key)
            task.advance(1)
    return [(key, prediction) for key, prediction in zip(hashes, predictions, strict=True) if key is not None]


def _warnings(
    before: StoredPredictions, after: StoredPredictions, matched: list[tuple[Prediction, Prediction]], num_compared: int
) -> tuple[DataWarning, ...]:
    warnings = []
    relabeled = tuple(f"{new.image}: {old.label} to {new.label}" for old, new in matched if old.label != new.label)
    if relabeled:
        images = count(len(relabeled), "image")
        warnings.append(DataWarning(f"Other label in the second run, used for both: {images}", relabeled))
    for run, index in ((before, 0), (after, 1)):
        in_both = {id(pair[index]) for pair in matched}
        alone = tuple(prediction.image for prediction in run.predictions if id(prediction) not in in_both)
        if alone:
            warnings.append(DataWarning(f"{count(len(alone), 'image')} only in {run.folder}: not compared", alone))
    if num_unreadable := len(matched) - num_compared:
        images = count(num_unreadable, "image")
        warnings.append(DataWarning(f"{images} could not be read in one of the runs: not compared"))
    unknown = sorted({str(new.label) for _, new in matched} - set(before.class_names))
    if unknown:
        noun = "class" if len(unknown) == 1 else "classes"
        warnings.append(
            DataWarning(f"The first model lacks the {noun} {', '.join(unknown)}, so it is wrong on these images")
        )
    return tuple(warnings)
