"""Tables and metrics for a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from belvedere.runtime.terminal import count, print_error, printable
from belvedere.types.data import CacheStats
from belvedere.types.evaluation import Evaluation
from belvedere.types.model import Layer, ModelCard, NetworkInfo

if TYPE_CHECKING:  # importing rich takes longer than a prediction
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from belvedere.evaluation.calibrate import Calibration
    from belvedere.evaluation.comparison import Comparison
    from belvedere.evaluation.monitoring.result import DriftReport
    from belvedere.types.assessment import Assessment


def plain_table(*columns: str, right: Sequence[str] = ()) -> "Table":
    """Return a table without borders, with left-aligned, then right-aligned columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def plain_text(text: str, style: str = "") -> "Text":
    """Return the text of a cell, in one line, with escapes for what a terminal may act on."""
    from rich.text import Text

    return Text(printable(text), style=style)


def show_evaluation(console: "Console", evaluation: Evaluation) -> None:
    """Print metrics: overall, by class, and the most frequent confusions."""
    from belvedere.evaluation.report.text import class_rows, describe_uncertainty

    correct = round(evaluation.accuracy * evaluation.num_images)
    console.print(
        f"accuracy {evaluation.accuracy:.1%} ({correct:,} of {count(evaluation.num_images, 'image')} correct)"
    )
    console.print(
        f"macro F1 {evaluation.macro_f1:.1%}   log loss {evaluation.log_loss:.4f}   "
        f"calibration error {evaluation.ece:.1%}"
    )
    if folds := evaluation.cross_validation:
        console.print(
            f"{folds.num_folds} folds, mean ± standard deviation: accuracy {folds.accuracy.mean:.1%} ± "
            f"{folds.accuracy.std:.1%}, macro F1 {folds.macro_f1.mean:.1%} ± {folds.macro_f1.std:.1%}"
        )
    if evaluation.num_unreadable:
        console.print(f"{count(evaluation.num_unreadable, 'image')} not counted: cannot be read", style="red")
    table = plain_table("class", right=("precision", "recall", "F1", "images"))
    for name, *cells in class_rows(evaluation):
        table.add_row(plain_text(name), *cells)
    console.print(table)
    for line in describe_uncertainty(evaluation):
        console.print(line)
    for pair in evaluation.confusions[:5]:
        console.print(
            plain_text(f"{pair.label} predicted as {pair.predicted_label}: {pair.count} ({pair.fraction:.1%})")
        )


def show_layers(console: "Console", layers: Sequence[Layer]) -> None:
    """Print a network's layer table and its number of parameters."""
    table = plain_table("layer", "kind", right=("output", "parameters"))
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        table.add_row(plain_text(layer.name), plain_text(layer.kind), shape, f"{layer.parameters:,}")
    console.print(table)
    total = sum(layer.parameters for layer in layers)
    frozen = total - sum(layer.trainable for layer in layers)
    console.print(f"{total:,} parameters, {frozen:,} of which are frozen")


def show_stores(console: "Console", stores: Sequence[CacheStats]) -> None:
    """Print the arrays in the cache."""
    table = plain_table("kind", "made by", right=("images", "MB", "last used"))
    for store in stores:
        used = datetime.fromtimestamp(store.last_used).astimezone().strftime("%Y-%m-%d %H:%M")
        images = f"{store.num_images:,}" if store.num_images else "-"
        table.add_row(store.kind, plain_text(store.key), images, f"{store.size_bytes / 1e6:,.0f}", used)
    console.print(table)


def show_networks(console: "Console", networks: Iterable[NetworkInfo]) -> None:
    """Print a list of networks."""
    table = plain_table("network", right=("M", "size", "img/s", "top-1"))
    for each in networks:
        table.add_row(f"{each.name}\n  {each.description} ({each.license})", *_network_cells(each))
    console.print(table)


def show_network(console: "Console", network: NetworkInfo, source: str) -> None:
    """Print one network."""
    parameters, size, speed, accuracy = _network_cells(network)
    lines = {
        "network": network.name,
        "is": network.description,
        "size": f"{parameters} million parameters, images of {size} x {size} pixels",
        "images/s": speed,
        "ImageNet": accuracy,
        "source": source,
        "license": network.license,
    }
    for title, text in lines.items():
        if text not in ("", "-"):
            console.print(plain_text(f"{title:<9} {text}"))


def _network_cells(network: NetworkInfo) -> tuple[str, str, str, str]:
    speed, accuracy = network.images_per_second, network.imagenet_accuracy
    return (
        f"{network.parameters_millions:.1f}",
        f"{network.image_size}",
        "-" if speed is None else f"{speed}",
        "-" if accuracy is None else f"{accuracy:.1%}",
    )


def show_card(console: "Console", card: ModelCard) -> None:
    """Print the metadata of a model file, except its layers."""
    made, size = card.provenance, card.preprocess
    source = made.pretrained_from
    lines = {
        "classes": ", ".join(card.class_names),
        "input": f"{size.height} x {size.width} RGB, resized by {size.resize!r}",
        "trained": f"{made.created}, recipe {made.recipe!r}, network {made.network!r}, seed {made.seed}",
        "with": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "images": ", ".join(f"{number:,} {split}" for split, number in made.num_images.items()),
        "epochs": f"{made.epochs} in {made.training_seconds:.0f} s, best epoch {made.best_epoch}"
        + (" (interrupted)" if made.interrupted else ""),
        "device": f"{made.device}, {made.precision}",
    }
    if "weights" in source:
        lines["weights"] = f"{made.network}, {source['weights']}, license {source.get('license', 'unknown')}"
    if "run" in source:
        lines["from run"] = source["run"]
    if "teacher" in source:
        lines["teacher"] = source["teacher"]
    for title, text in lines.items():
        console.print(plain_text(f"{title:<9} {text}"))


def show_findings(console: "Console", findings: Iterable[tuple[str, int, str]]) -> None:
    """Print the checks of an audit: title, number of images or classes, and the most severe of them."""
    table = plain_table()
    table.add_column("check", no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("most severe", overflow="fold")
    for title, number, worst in findings:
        style = "" if number else "dim"
        table.add_row(plain_text(title, style), plain_text(f"{number:,}", style), plain_text(worst, style))
    console.print(table)


def show_comparison(console: "Console", comparison: "Comparison") -> None:
    """Print the accuracy of two runs for each class."""
    from belvedere.evaluation.report.comparison import describe_change, table_rows

    table = plain_table("class", right=("before", "after", "change", "95% interval"))
    for name, *cells in table_rows(comparison):
        table.add_row(plain_text(name), *cells)
    console.print(table)
    console.print(describe_change(comparison))


def show_assessment(console: "Console", assessment: "Assessment") -> None:
    """Print the estimates on the data, on each model, and by class."""
    from belvedere.evaluation.report.assessment import (
        class_rows,
        data_rows,
        describe_accuracy,
        describe_change,
        describe_notes,
        model_rows,
    )

    console.print(plain_text(describe_accuracy(assessment)))
    for model in assessment.models:
        console.print(plain_text(f"\n{model.model.name}") if len(assessment.models) > 1 else "")
        table = plain_table("", right=("95% interval", "images"))
        for title, *cells in (*model_rows(model), *(data_rows(assessment) if model is assessment.models[-1] else ())):
            table.add_row(plain_text(title), *cells)
        console.print(table)
        table = plain_table("class", right=("images", "recall", "precision"))
        for name, images, recall, precision, _ in class_rows(model):
            table.add_row(plain_text(name), images, recall, precision)
        console.print(table)
    if assessment.accuracy_change is not None:
        console.print(f"Change of the accuracy: {describe_change(assessment.accuracy_change)}")
    for note in describe_notes(assessment):
        console.print(plain_text(note), style="dim")


def show_drift(console: "Console", report: "DriftReport") -> None:
    """Print what changed between the test images and new images."""
    from belvedere.evaluation.report import monitoring_text as text

    console.print(plain_text(text.describe_changes(report)))
    table = plain_table("test", right=("p", "corrected", ""))
    for each in report.tests:
        change = "changed" if each.is_changed else ""
        p_values = map(text.show_p_value, (each.p_value, each.adjusted_p_value))
        table.add_row(text.TEST_TITLES[each.name], *p_values, change)
    console.print(table)
    table = plain_table("", right=("test", "new", "95% interval", "estimated"))
    for name, *cells in text.headline_rows(report) + text.class_rows(report):
        table.add_row(plain_text(name), *cells)
    console.print(table)
    console.print(f"Expected accuracy: {text.describe_accuracy(report)}.")
    console.print(text.CAVEAT)


def show_corrections(console: "Console", summary: Mapping[str, Any]) -> None:
    """Print the number of corrections."""
    total, images = count(summary["num_decisions"], "decision"), count(summary["num_images"], "image")
    console.print(f"{summary['num_active']:,} of {total} active, on {images}")
    for title in ("actions", "annotators"):
        if counts := summary[title]:
            console.print(plain_text(f"{title}: " + ", ".join(f"{name} {number}" for name, number in counts.items())))
    if summary["damaged_lines"]:
        print_error(f"{count(summary['damaged_lines'], 'damaged line')} skipped.")


def show_calibration(console: "Console", result: "Calibration") -> None:
    """Print the metrics before and after a calibration."""
    from belvedere.evaluation.report.text import calibration_rows

    table = plain_table("", right=("before", "after"))
    for row in calibration_rows(result):
        table.add_row(*row)
    console.print(table)
    console.print("After: cross-validated, on images that were not used for the fit.")
    fitted = {"temperature, prediction sets and threshold": result.num_images, "tags": result.num_tag_images}
    for name, number in fitted.items():
        console.print(f"Fitted on {count(number, 'image')}: {name}." if number else f"Not fitted: {name}.")
