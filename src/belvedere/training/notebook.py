"""HTML of a finished training, and of an untrained network, for notebooks."""

from belvedere.evaluation.report.notebook import evaluation_parts
from belvedere.runtime import notebook
from belvedere.training.networks import Architecture
from belvedere.training.run import Run


def run_html(run: Run) -> str:
    """Return a run: its training, the curve of the accuracy, and the evaluation."""
    return notebook.block(notebook.title(f"Run: {run.folder}"), *run_parts(run))


def run_parts(run: Run) -> list[str]:
    """Return the parts of a run's HTML, for a larger output."""
    made = run.metrics
    interrupted = ", interrupted" if made["interrupted"] else ""
    parts = [
        notebook.line(
            f"Recipe {made['recipe']!r}, seed {made['seed']}: {made['epochs']} epochs in "
            f"{made['training_seconds']:.1f} s{interrupted}, best epoch {made['best_epoch']}. Report: {run.report}"
        )
    ]
    if run.history:
        series = (
            ("validation", notebook.BLUE, [epoch.validation_accuracy for epoch in run.history]),
            ("training", notebook.ORANGE, [epoch.accuracy for epoch in run.history]),
        )
        parts += [notebook.title("Accuracy"), notebook.curves(series)]
    return [*parts, notebook.title("Evaluation"), *evaluation_parts(run.evaluation)]


def architecture_html(architecture: Architecture) -> str:
    """Return the layer table of a network: kind, output and parameters of each layer."""
    rows = [
        (each.name, each.kind, " x ".join(map(str, each.shape)), f"{each.parameters:,}") for each in architecture.layers
    ]
    frozen = architecture.num_parameters - sum(each.trainable for each in architecture.layers)
    return notebook.block(
        notebook.title(f"{architecture.spec.name}: {architecture.spec.summary}"),
        notebook.table(("layer", "kind", "output", "parameters"), rows, num_texts=2),
        notebook.line(f"{architecture.num_parameters:,} parameters, {frozen:,} of which are frozen", quiet=True),
    )
