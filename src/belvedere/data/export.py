"""Exports decisions as CSV, and corrected datasets as a table or a folder."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from belvedere.data.corrections.corrections_file import active_decisions, read_corrections
from belvedere.data.dataset import Dataset
from belvedere.data.labels import has_fractions, parse_labels
from belvedere.errors import DatasetError, UsageError
from belvedere.runtime.files import free_name
from belvedere.runtime.operating_system import problem_with_name
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.output_folder import atomic_folder, check_output_folder
from belvedere.runtime.serialization import escape_formula, write_csv
from belvedere.runtime.terminal import describe_error, escape_surrogates
from belvedere.types.data import Sample

COLUMNS = (
    *("timestamp", "annotator", "image", "sha256", "action", "old_label", "to", "issue_type", "comment", "active"),
    *("id", "split"),
)


def check_output(out: Path, inputs: Sequence[Path], *, is_table: bool, overwrite: bool) -> None:
    """Check, before the work, that a table or folder may be written; see `OutputFile` and `check_output_folder`."""
    if is_table:
        OutputFile(out, overwrite=overwrite, inputs=lambda: inputs)
    else:
        check_output_folder(out, overwrite=overwrite, inputs=inputs)


def export_decisions(corrections: Path | str, out: Path, *, overwrite: bool = False, spreadsheet: bool = False) -> int:
    """Write every decision as a row of a CSV file; `active` is false for those undone.

    Returns:
        Number of rows.

    Raises:
        UsageError: The corrections file does not exist, or the CSV file cannot be written.
        OutputExistsError: A file is there, and `overwrite` is False.
    """
    file = OutputFile(out, overwrite=overwrite, inputs=lambda: (corrections,))
    decisions = read_corrections(corrections).decisions
    active = {decision.id for decision in active_decisions(decisions)}
    rows = [
        (
            *(each.timestamp, each.annotator, each.image, each.sha256, each.action, each.old_label, "|".join(each.to)),
            *(each.issue_type, each.comment, "true" if each.id in active else "false", each.id, each.split),
        )
        for each in decisions
    ]
    write_csv(out, COLUMNS, rows, file.check, spreadsheet=spreadsheet)
    return len(rows)


def export_table(dataset: Dataset, out: Path, *, overwrite: bool = False, spreadsheet: bool = False) -> None:
    """Write a dataset as a CSV table that `load_dataset` reads: image, label, split and, if it has groups, group.

    Several labels are written as `a|b`, and with area fractions as `a:0.6|b:0.3`. With `spreadsheet`, labels that look
    like formulas are escaped; image paths never begin like one.

    Raises:
        UsageError: The file cannot be written, or a table cannot hold a label or the name of an image.
        OutputExistsError: A file is there, and `overwrite` is False or the dataset was read from it.
    """
    file = OutputFile(out, overwrite=overwrite, inputs=dataset.list_files)
    folder = out.resolve().parent
    # Without a row of several labels, the number after a colon would belong to the name of the label.
    with_fractions = any(sample.extra_labels for sample in dataset.samples)
    images = [_image_cell(sample, folder) for sample in dataset.samples]
    labels = [_label_cell(sample, with_fractions) for sample in dataset.samples]
    _check_readable(dataset.samples, images, labels)
    if not spreadsheet:  # `load_dataset` removes the apostrophe of a label that looks escaped
        labels = [escape_formula(label) if label[0] == "'" else label for label in labels]
    columns: dict[str, Sequence[str | None]]
    columns = {"image": images, "label": labels, "split": [sample.split for sample in dataset.samples]}
    if any(sample.group for sample in dataset.samples):
        columns["group"] = [sample.group for sample in dataset.samples]
    write_csv(out, tuple(columns), zip(*columns.values(), strict=True), file.check, spreadsheet=spreadsheet)


def export_folder(dataset: Dataset, out: Path, *, copy: bool, overwrite: bool) -> None:
    """Write a dataset as a folder of class folders, inside train, val and test if it has splits.

    Only a table holds extra labels and groups.

    Args:
        dataset: Dataset with corrections applied.
        out: Folder; it appears when it is complete.
        copy: Whether to copy the images; otherwise symbolic links are made.
        overwrite: Whether an older folder of Belvedere may be replaced.

    Raises:
        OutputExistsError: Something is there that may not be replaced.
        UsageError: The folder cannot be written, links cannot be made, or a label is not a valid folder name.
    """
    for label in sorted({sample.label for sample in dataset.samples}):
        if problem := problem_with_name(label):
            raise UsageError(f"Label is not a valid folder name: {label!r}: {problem}. Export a CSV table instead.")
    put: Callable[[Path, Path], object] = shutil.copyfile if copy else lambda image, link: link.symlink_to(image)
    numbers: dict[Path, int] = {}
    with atomic_folder(out, overwrite=overwrite, inputs=dataset.list_files()) as folder:
        for sample in dataset.samples:
            target = folder / (sample.split or "") / sample.label
            target.mkdir(parents=True, exist_ok=True)
            try:
                put(sample.path.resolve(), free_name(target / sample.path.name, numbers))
            except OSError as error:
                hint = "Choose another folder." if copy else "Copy the images instead of linking them."
                raise UsageError(f"Cannot write {out}: {describe_error(error)} ({sample.name}). {hint}") from error


def summarize(corrections: Path | str) -> dict[str, object]:
    """Count the decisions of a corrections file, ready for JSON.

    Raises:
        UsageError: The file does not exist.
    """
    recorded = read_corrections(corrections)
    active = active_decisions(recorded.decisions)
    return {
        "corrections": str(corrections),
        "num_decisions": len(recorded.decisions),
        "num_active": len(active),
        "num_images": len({decision.sha256 for decision in active}),
        "actions": dict(sorted(Counter(decision.action for decision in active).items())),
        "annotators": dict(sorted(Counter(decision.annotator for decision in active).items())),
        "damaged_lines": list(recorded.damaged),
    }


def _label_cell(sample: Sample, with_fractions: bool) -> str:
    labels = (sample.label, *sample.extra_labels)
    if with_fractions and len(sample.area_fractions) == len(labels):
        fractions = (np.format_float_positional(fraction, trim="0") for fraction in sample.area_fractions)
        labels = tuple(f"{label}:{fraction}" for label, fraction in zip(labels, fractions, strict=True))
    return "|".join(labels)


def _check_readable(samples: Sequence[Sample], images: Sequence[str], cells: Sequence[str]) -> None:
    """Check that a table with these cells of images and labels is read as the samples.

    Raises:
        UsageError: It is not.
    """
    with_fractions = any(map(has_fractions, cells))
    for sample, image, cell in zip(samples, images, cells, strict=True):
        labels = (sample.label, *sample.extra_labels)
        try:
            is_same = parse_labels(cell, with_fractions)[0] == labels
        except DatasetError:
            is_same = False
        if not is_same:
            raise UsageError(
                f"Labels that a table cannot hold: {', '.join(map(repr, labels))} of {sample.name} would be read as "
                f"others from the cell {cell!r}. Rename them: no |, no number after a colon, and no spaces around them."
            )
        if escape_surrogates(image) != image:
            raise UsageError(
                f"Name that a table cannot hold: {sample.name!r} is not UTF-8. Rename the file, or export a folder."
            )


def _image_cell(sample: Sample, folder: Path) -> str:
    path = sample.path.absolute()
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return str(path)
    return relative if escape_formula(relative) == relative else f".{os.sep}{relative}"
