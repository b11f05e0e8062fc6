"""Tables and metrics for a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.inference.writers.text import WRITERS, WriterSpec
from belvedere.runtime.terminal import count, print_error, printable
from belvedere.types.data import NONE_OF_THESE, CacheStats, ModelId
from belvedere.types.evaluation import Evaluation
from belvedere.types.model import Layer, ModelCard, NetworkInfo
from belvedere.types.prediction import Prediction

if TYPE_CHECKING:  # importing rich takes longer than a prediction
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from belvedere.evaluation.calibrate import Calibration
    from belvedere.evaluation.comparison import Comparison

IMAGE_WIDTH = 15  # minimum, where all classes are shown
NUMBER_WIDTH = 6  # of "100.0%"
ANSWER_WIDTH = 8  # minimum: "not read", and "none of these" in two lines
MAX_NAME_WIDTH = 16  # longer class names are folded
COLUMN_GAP = 2
TABLE_ROWS = 500  # printed at once
NUM_CLASSES_SHOWN = 3  # where the terminal is too narrow for all


class TableWriter:
    """Writes predictions as tables of `TABLE_ROWS` rows, in constant memory."""

    def __init__(self, file: TextIO, class_names: Sequence[str], _model: ModelId) -> None:
        from belvedere.runtime.console import PlainConsole

        self._console = PlainConsole(file=file)
        self._class_names = class_names
        self._predictions: list[Prediction] = []

    def write(self, prediction: Prediction) -> None:
        """Add one row."""
        self._predictions.append(prediction)
        if len(self._predictions) == TABLE_ROWS:
            self.close()

    def close(self, error: str | None = None) -> None:  # noqa: ARG002 - printed by the caller
        """Print the rows that were not printed yet."""
        if self._predictions:
            show_predictions(self._console, self._predictions, self._class_names)
            self._predictions.clear()


def register_table() -> None:
    """Register the format `table`, which only commands have."""
    WRITERS.add("table", WriterSpec(TableWriter), overwrite=True)


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


def show_predictions(console: "Console", predictions: Iterable[Prediction], class_names: Sequence[str]) -> None:
    """Print predictions and class probabilities; only the most probable classes if not all fit."""
    from rich.cells import cell_len

    names = [cell_len(printable(name)) for name in class_names]
    answer_width = min(max([ANSWER_WIDTH, *names]), MAX_NAME_WIDTH)
    widths = [min(max(NUMBER_WIDTH, length), MAX_NAME_WIDTH) for length in names]
    needed = IMAGE_WIDTH + sum(COLUMN_GAP + width for width in (answer_width, *widths))
    fits = needed <= console.width
    if fits:  # "none of these" in one line if there is room
        answer_width = max(answer_width, min(cell_len(NONE_OF_THESE), answer_width + console.width - needed))
    table = plain_table()
    table.add_column("image", overflow="fold", min_width=12)
    table.add_column("answer", overflow="fold", width=answer_width)
    if fits:
        for name, width in zip(class_names, widths, strict=True):
            table.add_column(plain_text(name), justify="right", overflow="fold", width=width)
    else:
        for rank in range(min(NUM_CLASSES_SHOWN, len(class_names))):
            table.add_column(f"{rank + 1}.", overflow="fold", min_width=ANSWER_WIDTH)
    lines = []
    for each in predictions:
        if each.error is not None:
            lines.append(f"{each.image}: not read: {each.error}")
            table.add_row(plain_text(each.image), plain_text("not read", style="red"))
            continue
        lines += [f"{each.image}: {text}" for text in (*describe_extras(each), *each.warnings)]
        cells = _all_classes(each, class_names) if fits else _top_classes(each, class_names)
        style = "bold yellow" if each.none_of_these else "bold green"
        table.add_row(plain_text(each.image), plain_text(str(each.answer), style), *cells)
    console.print(table)
    for line in lines:
        console.print(plain_text(line), style="dim")


def describe_extras(prediction: Prediction) -> list[str]:
    """Return lines on "none of these", further tags and the prediction set."""
    if prediction.none_of_these:
        unusual = f"more unusual than {prediction.none_of_these_score or 0:.0%} of the training images"
        return [f"{NONE_OF_THESE}: {unusual}; most probable: {prediction.predicted_label}"]
    lines = []
    if len(prediction.tags) > 1:
        tags = ", ".join(f"{tag.name} {tag.area_fraction:.0%}" for tag in prediction.tags)
        lines.append(f"also contains: {tags}")
    if len(prediction.prediction_set) > 1:
        lines.append(f"prediction set ({COVERAGE:.0%}): " + ", ".join(prediction.prediction_set))
    return lines


def _all_classes(prediction: Prediction, class_names: Sequence[str]) -> "list[Text]":
    return [
        plain_text(f"{value:.1%}", style=_style(prediction, name))
        for name, value in zip(class_names, prediction.probability_values, strict=True)
    ]


def _top_classes(prediction: Prediction, class_names: Sequence[str]) -> "list[Text]":
    ranked = sorted(zip(prediction.probability_values, class_names, strict=True), key=lambda pair: -pair[0])
    # The number comes first, so that a folded name never splits it.
    return [
        plain_text(f"{value:.1%} {name}", style=_style(prediction, name)) for value, name in ranked[:NUM_CLASSES_SHOWN]
    ]


def _style(prediction: Prediction, name: str) -> str:
    if prediction.none_of_these:
        return "dim"
    return "bold green" if name == prediction.predicted_label else ""


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
    table = plain_table("network", right=("M", "size", "images/s", "license"))
    for each in networks:
        speed = "-" if each.images_per_second is None else f"{each.images_per_second}"
        numbers = (f"{each.parameters_millions:.1f}", f"{each.image_size}", speed)
        table.add_row(f"{each.name}\n  {each.description}", *numbers, each.license)
    console.print(table)


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
