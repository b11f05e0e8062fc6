"""The report of a training run or an evaluation: an HTML page, and its figures as files."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.evaluation.report import image_grid, plots
from belvedere.evaluation.report.image_grid import Tile
from belvedere.evaluation.report.pages import (
    DASH,
    TEMPLATES,
    EmbeddedImage,
    count,
    decimals,
    embed_image,
    explore_command,
    inline_svg,
    percent,
    write_page,
)
from belvedere.evaluation.report.plots import Figure
from belvedere.evaluation.report.tiles import cell_tiles, mistake_tiles, sample_tiles, slice_tiles
from belvedere.evaluation.run_results import RunResults
from belvedere.types.evaluation import Confusion, Evaluation

SPLIT_IMAGES: Mapping[str, str] = {
    "test": "test images",
    "val": "validation images",
    "all": "images",
    "out_of_fold": "images",
}


def write_report(folder: Path, run: RunResults) -> None:
    """Write report.html, which is self-contained, and the same figures into figures/ of an existing folder.

    Raises:
        UsageError: The folder cannot be written.
    """
    has_heatmaps = run.model is not None and run.model.has_activation_maps
    paths = {sample.name: sample.path for group in run.samples.values() for sample in group}
    mistakes = mistake_tiles(run.evaluation, paths, run.model)
    grids = {heading: sample_tiles(samples, run.card.class_names) for heading, samples in run.samples.items()}
    figures_folder = folder / "figures"
    try:
        figures_folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the folder {figures_folder}: {error.strerror}. Choose another.") from error
    charts = {}
    for name, figure in _draw_charts(run).items():
        plots.save_figure(figure, figures_folder, name)
        charts[name] = inline_svg((figures_folder / f"{name}.svg").read_text(encoding="utf-8"), name)
    for number, (heading, tiles) in enumerate(grids.items(), start=1):  # file names never contain a class name
        plots.save_figure(image_grid.draw_grid(tiles, heading), figures_folder, f"images-{number}", vector=False)
    if mistakes:
        grid = image_grid.draw_grid(mistakes, "Most confident mistakes", columns=2 if has_heatmaps else 6)
        plots.save_figure(grid, figures_folder, "mistakes", vector=False)
    evaluation, layers = run.evaluation, run.card.layers
    review = f"belvedere review {shlex.quote(str(run.out))}"
    write_page(
        folder / "report.html",
        TEMPLATES / "report.html",
        run=run,
        card=run.card,
        provenance=run.card.provenance,
        evaluation=evaluation,
        images=SPLIT_IMAGES[evaluation.split],
        summary=_summary(evaluation),
        weakness=_weakness(evaluation),
        cautions=_cautions(run),
        headlines=_headlines(evaluation),
        rows=_class_rows(evaluation),
        is_numbered=len(evaluation.class_names) <= plots.MAX_NUMBERED_CLASSES,
        calibration=_describe_calibration(evaluation),
        charts=charts,
        has_heatmaps=has_heatmaps,
        mistakes=_embed(mistakes, run.out, review),
        cells=[
            (_cell_id(evaluation, pair), pair, _embed(tiles, run.out, _cell_command(run.out, pair)))
            for pair, tiles in cell_tiles(evaluation, paths)
        ],
        slices=[(each, _embed(tiles, run.out)) for each, tiles in slice_tiles(evaluation, paths)],
        grids={heading: _embed(tiles, run.out) for heading, tiles in grids.items()},
        parameters=sum(layer.parameters for layer in layers),
        trainable=sum(layer.trainable for layer in layers),
    )


def _draw_charts(run: RunResults) -> dict[str, Figure]:
    charts = {
        "confusion-counts": plots.draw_confusion(run.evaluation, normalize=False),
        "confusion-percent": plots.draw_confusion(run.evaluation, normalize=True),
        "calibration": plots.draw_calibration(run.evaluation),
    }
    if run.history:
        charts["history"] = plots.draw_history(run.history, run.card.provenance.best_epoch)
    return charts


def _embed(tiles: Sequence[Tile], out: Path, command: str = "") -> list[EmbeddedImage]:
    """Embed tiles; default command: that which shows the image on the map of the run."""
    return [
        embed_image(
            *(tile.pixels, tile.caption, tile.status),
            path=tile.path,
            command=command or explore_command(out, tile.path),
        )
        for tile in tiles
    ]


def _cell_command(out: Path, pair: Confusion) -> str:
    """Return the command that shows a cell of the confusion matrix on the map of the run."""
    return f"belvedere explore {shlex.quote(str(out))} --cell {shlex.quote(f'{pair.label},{pair.predicted_label}')}"


def _cell_id(evaluation: Evaluation, pair: Confusion) -> str:
    """Return the name of a cell of the confusion matrix, which its rectangle has as well."""
    names = evaluation.class_names
    return plots.cell_id(names.index(pair.label), names.index(pair.predicted_label))


def _summary(evaluation: Evaluation) -> str:
    correct = int(evaluation.confusion_matrix.trace())
    images = f"{evaluation.num_images:,} {SPLIT_IMAGES[evaluation.split]}"
    return f"{correct:,} of {images} correct: {percent(evaluation.accuracy)}."


def _weakness(evaluation: Evaluation) -> str:
    """Return the class with the lowest recall and the most frequent confusion as text; empty without mistakes."""
    if not evaluation.confusions:
        return ""
    recall, name = min((row.recall, row.name) for row in evaluation.per_class if row.recall is not None)
    pair = evaluation.confusions[0]
    return (
        f"Lowest recall: {name} ({percent(recall)}). Most frequent mistake: {pair.label} predicted as "
        f"{pair.predicted_label}, {count(pair.count, 'time')}."
    )


def _cautions(run: RunResults) -> list[str]:
    """Return the limits of the metrics as text."""
    cautions = []
    if run.evaluation.split == "val":
        cautions.append(
            "These metrics are on the validation images, which chose the epoch. They are optimistic: expect somewhat "
            "lower metrics on new images."
        )
    if folds := run.evaluation.cross_validation:
        cautions.append(
            f"These metrics are of {folds.num_folds}-fold cross-validation: each image was predicted by a network that "
            f"was trained on the other folds only. Accuracy of the folds: mean {percent(folds.accuracy.mean)}, "
            f"standard deviation {percent(folds.accuracy.std)}. Macro F1: mean {percent(folds.macro_f1.mean)}, "
            f"standard deviation {percent(folds.macro_f1.std)}. The model of this run was trained afterwards, on all "
            "images but those that selected its epoch."
        )
    if run.card.provenance.interrupted:
        epochs = count(run.card.provenance.epochs, "epoch")
        cautions.append(f"Training was interrupted after {epochs}: a full run may be more accurate.")
    if run.evaluation.num_none_of_these:
        images = count(run.evaluation.num_none_of_these, "image")
        cautions.append(f"Prediction “none of these”: {images}. The metrics use the most probable class of each.")
    return cautions


def _headlines(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of the large numbers at the top of the page."""
    num_classes = len(evaluation.class_names)
    majority = percent(int(evaluation.confusion_matrix.sum(axis=1).max()) / evaluation.num_images)
    return [
        (
            "Accuracy",
            percent(evaluation.accuracy),
            f"Fraction predicted correctly. Always predicting the most frequent class: {majority}.",
        ),
        (
            "Macro F1",
            percent(evaluation.macro_f1),
            "Precision and recall in one number, mean over the classes. 100% is perfect.",
        ),
        (
            "Log loss",
            decimals(evaluation.log_loss),
            f"Mean negative log-probability of the label. 0 is perfect, {math.log(num_classes):.2f} is random "
            f"guessing among {num_classes} classes.",
        ),
        (
            "Calibration error",
            percent(evaluation.ece),
            "Mean difference between confidence and accuracy. 0% is perfect.",
        ),
    ]


def _class_rows(evaluation: Evaluation) -> list[tuple[str, int, list[tuple[str, float | None]]]]:
    """Return name, support and cells of each class: text, and the length of its bar."""
    rows = []
    for metrics in evaluation.per_class:
        no_recall = "no images" if metrics.support == 0 else "unknown"
        no_precision = "never predicted" if metrics.support else "unknown"
        cells = (
            (metrics.precision, no_precision),
            (metrics.recall, no_recall),
            (metrics.f1, no_recall if metrics.recall is None else no_precision),
        )
        texts = [(f"{DASH} {reason}" if value is None else percent(value), value) for value, reason in cells]
        rows.append((metrics.name, metrics.support, texts))
    return rows


def _describe_calibration(evaluation: Evaluation) -> str:
    """Return mean confidence against accuracy as text."""
    confidence = sum(each.confidence * each.count for each in evaluation.reliability_bins) / evaluation.num_images
    gap = confidence - evaluation.accuracy
    verdict = "well calibrated" if abs(gap) < 0.01 else "overconfident" if gap > 0 else "underconfident"
    return f"Mean confidence {percent(confidence)}, accuracy {percent(evaluation.accuracy)}: the model is {verdict}."
