"""A report as metrics for Prometheus, in a file for the textfile collector of node_exporter."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from belvedere.errors import OutputExistsError
from belvedere.evaluation.monitoring.result import DriftReport
from belvedere.runtime.files import write_text
from belvedere.runtime.output_file import Input, OutputFile

PREFIX = "belvedere_monitor_"
Samples = Iterable[tuple[Mapping[str, str], float]]  # labels and value


def check_metrics_file(path: Path, *, overwrite: bool, inputs: Callable[[], Iterable[Input]]) -> OutputFile:
    """Return the file to write, checked; an older file of metrics is replaced.

    Raises:
        UsageError: The path is a folder, or its folder does not exist.
        OutputExistsError: Another file exists and may not be replaced, or is an input.
    """
    try:
        return OutputFile(path, overwrite=overwrite, inputs=inputs, is_older=is_metrics_file)
    except OutputExistsError as error:
        reason = ", or set `overwrite` to replace it" if error.can_overwrite else ": this one is read"
        hint = f"Give another `metrics_file`{reason}."
        raise OutputExistsError(path, hint, can_overwrite=error.can_overwrite) from error


def is_metrics_file(path: Path) -> bool:
    """Return whether `monitor` wrote a file."""
    start = f"# HELP {PREFIX}".encode()
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def write_metrics_file(file: OutputFile, report: DriftReport) -> None:
    """Write the metrics of a report atomically.

    Raises:
        UsageError: The file cannot be written.
        OutputExistsError: Another file exists by now and may not be replaced.
    """
    write_text(file.path, render_metrics(report), file.check)


def render_metrics(report: DriftReport) -> str:
    """Return the metrics in the Prometheus text format."""
    tests = [({"test": each.name}, each) for each in report.tests]
    classes = [({"prediction": each.name}, each) for each in report.classes]
    values: dict[str, tuple[str, Samples]] = {
        "images": ("Images that were compared with the test images.", [({}, report.num_images)]),
        "changed": ("1 if the change is significant.", [(labels, each.is_changed) for labels, each in tests]),
        "p_value": ("P-value, corrected.", [(labels, each.adjusted_p_value) for labels, each in tests]),
        "prediction_ratio": ("Fraction of predictions of a class.", [(labels, each.new) for labels, each in classes]),
        "confidence": ("Mean confidence.", [({}, report.mean_confidence)]),
        "ood_ratio": (
            "Fraction of images that are none of the classes.",
            [] if report.ood is None else [({}, report.ood.value)],
        ),
        "expected_accuracy": ("Expected accuracy; not measured.", [({}, report.expected_accuracy.value)]),
    }
    lines = []
    for name, (text, samples) in values.items():
        full = f"{PREFIX}{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} gauge"]
        for labels, value in samples:
            pairs = {"model": report.model.name, "sha256": report.model.sha256, **labels}
            shown = ",".join(f'{key}="{_escape(each)}"' for key, each in pairs.items())
            lines.append(f"{full}{{{shown}}} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
