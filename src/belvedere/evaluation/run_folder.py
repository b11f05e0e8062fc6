"""A folder of results: what a training or an evaluation leaves for people and programs to read.

Knows which files it holds; does not know how the answers came about.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from belvedere.data.dataset import load_dataset
from belvedere.evaluation.evaluate import evaluate, to_metrics
from belvedere.evaluation.report.html import Report, write_report
from belvedere.evaluation.report.tiles import mistake_tiles, sample_tiles
from belvedere.inference.model import Model, load
from belvedere.inference.writers.text import write_predictions
from belvedere.runtime.csv_files import write_csv
from belvedere.runtime.environment import command_line
from belvedere.runtime.files import write_json
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress
from belvedere.types.data import ModelId, Note, Sample
from belvedere.types.evaluation import EpochFigures, Evaluation
from belvedere.types.model import ModelCard


@dataclass(frozen=True, slots=True)
class Results:
    """Everything a folder of results is made from."""

    title: str
    evaluation: Evaluation
    predicted_by: ModelId
    card: ModelCard
    notes: tuple[Note, ...]
    samples: Mapping[str, Sequence[Sample]]  # title of a sample grid -> photographs to choose from
    command: str
    seconds_total: float
    history: tuple[EpochFigures, ...] = ()
    config: str = ""
    spreadsheet: bool = False  # whether cells of predictions.csv that look like formulas are escaped
    model: Model | None = None  # to show where its evidence is; None for photographs alone


def evaluate_into(
    model: Path | str,
    photos: Path | str,
    out: Path | None,
    *,
    overwrite: bool,
    progress: Progress,
    outliers: Path | None = None,
    accept_rate: float | None = None,
    labels: Path | str | None = None,
    spreadsheet: bool = False,
) -> tuple[Evaluation, dict[str, object]]:
    """Measures a model and, if asked, writes the folder of results.

    Args:
        model: A model.onnx or its run folder.
        photos: Labelled photographs, as `load_dataset` takes them.
        out: The folder to write; None to write nothing.
        overwrite: Whether an older folder of results there may be replaced.
        progress: Shows how far it is.
        outliers: Folder of pictures that show none of the classes, to measure how well they are told from the others.
        accept_rate: Share of true pictures not called "none of these", instead of the model's.
        labels: A journal of corrections, as `load_dataset` takes it.
        spreadsheet: Whether cells of predictions.csv that a spreadsheet would take for formulas are escaped.

    Returns:
        The figures, and the content of metrics.json.

    Raises:
        BelvedereError: The model or the photographs can't be read, or the folder not be written.
    """
    started = time.perf_counter()
    opened = load(model, accept_rate=accept_rate)
    dataset = load_dataset(photos, labels, progress)
    read = (model, outliers, *dataset.list_files())
    progress.say(f"Model: {opened.identity}")
    with nullcontext() if out is None else atomic_folder(out, overwrite=overwrite, inputs=read) as folder:
        evaluation = evaluate(opened, dataset, progress, outliers)
        notes = dataset.notes + unreadable_warning(evaluation)
        progress.say_notes(notes)
        seconds_total = time.perf_counter() - started
        if folder is None:
            return evaluation, collect_metrics(evaluation, opened.identity, opened.card, seconds_total)
        measured = {answer.image for answer in evaluation.predictions}
        results = Results(
            title=f"{model} on {photos}",
            evaluation=evaluation,
            predicted_by=opened.identity,
            card=opened.card,
            notes=notes,
            samples={"Photographs": [sample for sample in dataset.samples if sample.image in measured]},
            command=command_line(),
            seconds_total=seconds_total,
            spreadsheet=spreadsheet,
            model=opened,
        )
        return evaluation, write_results(folder, results)


def unreadable_warning(evaluation: Evaluation) -> tuple[Note, ...]:
    """Names the photographs that could not be read for measuring."""
    named = tuple(f"{answer.image}: {answer.error}" for answer in evaluation.predictions if answer.error is not None)
    return (Note(f"{len(named)} not measured: can't be read", named),) if named else ()


def write_results(folder: Path, results: Results) -> dict[str, object]:
    """Writes metrics.json, predictions.csv, figures/ and report.html.

    Args:
        folder: Exists, and is the results' own.
        results: What to write.

    Returns:
        The content of metrics.json.
    """
    figures = collect_metrics(results.evaluation, results.predicted_by, results.card, results.seconds_total)
    figures["spreadsheet"] = results.spreadsheet  # whoever reads predictions.csv must know
    write_json(folder / "metrics.json", figures)
    predictions, class_names = results.evaluation.predictions, results.card.class_names
    write_predictions(folder / "predictions.csv", predictions, class_names, spreadsheet=results.spreadsheet)
    if results.history:
        write_history(folder / "history.csv", results.history)
    report = Report(
        title=results.title,
        evaluation=results.evaluation,
        model=results.predicted_by,
        card=results.card,
        history=results.history,
        notes=results.notes,
        grids={title: sample_tiles(samples, class_names) for title, samples in results.samples.items()},
        mistakes=mistake_tiles(results.evaluation, results.samples, results.model),
        overlaid=results.model is not None and results.model.has_activation_maps,
        config=results.config,
        command=results.command,
    )
    write_report(folder, report)
    return figures


def collect_metrics(evaluation: Evaluation, model: ModelId, card: ModelCard, seconds_total: float) -> dict[str, object]:
    """Returns the content of metrics.json: the figures of merit, and what made the model.

    Args:
        evaluation: The figures.
        model: Which one predicted.
        card: That model's.
        seconds_total: What the whole job took.

    Returns:
        Names and values, ready for JSON.
    """
    made = card.provenance
    return {
        **to_metrics(evaluation),
        "model": asdict(model),
        "seconds_total": round(seconds_total, 3),
        "seconds_train": round(made.seconds_train, 3),
        "epochs": made.epochs,
        "best_epoch": made.best_epoch,
        "interrupted": made.interrupted,
        "device": made.device,
        "precision": made.precision,
        "recipe": made.recipe,
        "seed": made.seed,
        "parity": made.parity,
        "photographs": dict(made.photographs),
        "versions": dict(made.versions),
    }


def write_history(path: Path, history: Sequence[EpochFigures]) -> None:
    """Writes history.csv: a row an epoch."""
    write_csv(path, [field.name for field in fields(EpochFigures)], [astuple(row) for row in history])
