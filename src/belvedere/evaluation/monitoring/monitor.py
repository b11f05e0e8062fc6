"""Comparison of new images with the test images of a run: the function `belvedere.monitor`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from belvedere.errors import UsageError
from belvedere.evaluation.comparison import find_file
from belvedere.evaluation.monitoring.compare_samples import compare_classes, compare_ood_rates, run_tests
from belvedere.evaluation.monitoring.estimates import expect_accuracy
from belvedere.evaluation.monitoring.metrics_file import check_metrics_file, write_metrics_file
from belvedere.evaluation.monitoring.periods import split_by_time
from belvedere.evaluation.monitoring.records import is_monitor_folder
from belvedere.evaluation.monitoring.result import DriftReport
from belvedere.evaluation.monitoring.samples import Sampled, sample_images, sample_records, sample_reference
from belvedere.evaluation.monitoring.selection import choose_to_label, most_unusual
from belvedere.evaluation.run_folder import PREDICTIONS, StoredPredictions, read_metrics, read_predictions
from belvedere.inference.model import Model, as_model
from belvedere.inference.model_paths import refuse_models
from belvedere.runtime.dependencies import require
from belvedere.runtime.output_folder import check_output_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning

MIN_IMAGES = 30  # with fewer, only large changes are found


def monitor(
    run: Path | str,
    source: Path | str,
    *,
    model: Model | Path | str | None = None,
    since: datetime | None = None,
    out: Path | str | None = None,
    metrics_file: Path | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> DriftReport:
    """Compare new images with the test images of a run: what changed, and which accuracy to expect.

    Args:
        run: Results folder of `train` or `evaluate(out=...)`.
        source: Folder of new images without labels, or the folder of records of `serve(monitor=...)`.
        model: The model; default: that of the run.
        since: Time before which records are left out; default: all are used. Without a time zone, it is local.
        out: Folder for report.html, monitor.json and the images to label; default: nothing is written.
        metrics_file: File for Prometheus, for the textfile collector of node_exporter; an older one is replaced.
        seed: Seed of the permutations.
        overwrite: Whether to replace an older results folder, and any `metrics_file` that is not read.
        device: See `load_model`; for the path of a model.
        threads: See `load_model`; for the path of a model.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        Tests, class frequencies and expected accuracy, and the images to look at and to label.

    Raises:
        UsageError: `run` is not a results folder, or there are no images or records to compare.
        InvalidModelError: The run has no model.
        OutputExistsError: `out` or `metrics_file` exists and may not be replaced.
        MissingDependencyError: `out` is given, and the packages of the extra `report` are not installed.
    """
    inputs = Path(run), Path(source)
    if out is not None:
        require("report", "A report")
        check_output_folder(Path(out), overwrite=overwrite, inputs=inputs)
    progress, stored = choose_progress(progress), read_predictions(run)
    file = None
    if metrics_file is not None:
        read = partial(_list_inputs, stored, Path(source), model)
        file = check_metrics_file(Path(metrics_file), overwrite=overwrite, inputs=read)
    opened = as_model(Path(run) if model is None else model, device=device, threads=threads)
    _check_classes(opened, stored)
    new = _sample(Path(source), opened, since, progress)
    report = compare_with_run(stored, sample_reference(stored, opened, progress), new, opened, str(source), seed)
    if out is not None:
        from belvedere.evaluation.report.monitoring import write_monitoring  # needs the extra `report`

        write_monitoring(Path(out), report, overwrite=overwrite, inputs=inputs)
    if file is not None:
        write_metrics_file(file, report)
    return report


def _list_inputs(stored: StoredPredictions, source: Path, model: Model | Path | str | None) -> Iterator[Path]:
    """Yield the files that are read: those of the run, images or records, and the model."""
    yield from stored.folder.iterdir()
    yield from (find_file(stored.folder, each.image) for each in stored.predictions)
    yield from (source, *source.rglob("*"))
    if model is not None:
        yield Path(model.name if isinstance(model, Model) else model)


def _sample(source: Path, model: Model, since: datetime | None, progress: Progress) -> Sampled:
    if source.is_dir() and is_monitor_folder(source):
        return sample_records(source, model, None if since is None else _to_seconds(since))
    if since is not None:
        raise UsageError(f"`since` is for records of a server. {source} has none. Leave it out.")
    return sample_images(list(refuse_models([source])), model, progress)


def _to_seconds(time: datetime) -> float:
    try:
        return time.timestamp()
    except (ValueError, OverflowError, OSError) as error:  # such as year 1 without a time zone
        raise UsageError(f"`since` is out of range: {time}. Give a later time.") from error


def _check_classes(model: Model, stored: StoredPredictions) -> None:
    found = {str(each.label) for each in stored.predictions if each.error is None}
    if model.class_names != stored.class_names or not found or not found <= set(model.class_names):
        raise UsageError(
            f"{stored.folder / PREDICTIONS} does not fit {model.name}: expected predictions and labels of the classes "
            f"{', '.join(model.class_names)}. Give the folder that train or evaluate wrote, and its model."
        )


def compare_with_run(
    stored: StoredPredictions, reference: Sampled, new: Sampled, model: Model, source: str, seed: int = 0
) -> DriftReport:
    """Return the report of new images; see `monitor`.

    Args:
        stored: Predictions of the run, with labels.
        reference: The same, and embeddings.
        new: New images.
        model: Model that predicted both.
        source: Folder of the new images, for the report.
        seed: Seed of the permutations.
    """
    metrics, accept_rate = read_metrics(stored.folder), model.accept_rate
    accept_rate = model.card.uncertainty.ood_acceptance if accept_rate is None else accept_rate
    labels = np.array([model.class_names.index(str(each.label)) for each in stored.predictions if each.error is None])
    is_correct = reference.probabilities.argmax(1) == labels
    return DriftReport(
        run=str(stored.folder),
        source=source,
        model=model.identity,
        num_images=len(new),
        num_reference=len(reference),
        reference_split=str(metrics.get("split", "unknown")),
        tests=run_tests(reference, new, accept_rate, seed),
        classes=compare_classes(reference, new, labels),
        mean_confidence=float(new.confidence.mean()),
        reference_mean_confidence=float(reference.confidence.mean()),
        ood=compare_ood_rates(reference, new, accept_rate),
        reference_accuracy=float(is_correct.mean()),
        expected_accuracy=expect_accuracy(is_correct, reference.confidence, new.confidence),
        periods=split_by_time(new, accept_rate),
        unusual=most_unusual(new),
        to_label=choose_to_label(new),
        warnings=_warnings(metrics, model, new) + reference.warnings + new.warnings,
    )


def _warnings(metrics: Mapping[str, Any], model: Model, new: Sampled) -> tuple[DataWarning, ...]:
    warnings = []
    if metrics.get("split") in ("val", "validation"):
        warnings.append("The run has no test images: new images are compared with validation images, which are easier")
    recorded = metrics.get("model")
    if isinstance(recorded, dict) and recorded.get("sha256", model.sha256) != model.sha256:
        warnings.append("The model has changed since the predictions of the run, so differences may be its own")
    if len(new) < MIN_IMAGES:
        warnings.append(f"Only {count(len(new), 'image')} to compare: only large changes are found")
    return tuple(map(DataWarning, warnings))
