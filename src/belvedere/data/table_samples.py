"""Turns the rows of a table into samples, and finds their images."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from belvedere.data.class_lists import name_numbers
from belvedere.data.image_paths import ImagePaths
from belvedere.data.label_columns import MAX_SHOWN, is_grouping
from belvedere.data.label_tables import Row, read_label_table
from belvedere.data.labels import has_fractions, parse_labels
from belvedere.data.split_names import SPLITS, fill_splits, split_of
from belvedere.errors import DatasetError, UnknownNameError
from belvedere.runtime.serialization import unescape_formula
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample

_OTHER_SEPARATOR = re.compile(r"[,;/+&]")
_LIST = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)  # as Python writes one
_MISSING = frozenset(("nan", "<na>", "n/a", "null"))


def read_table(
    path: Path, root: Path | None = None, group_column: str | None = None
) -> tuple[list[Sample], list[DataWarning]]:
    """Read a table of images and labels.

    Args:
        path: Table; see `read_label_table`.
        root: Folder that the paths of images are relative to; default: that of the table.
        group_column: Column of the groups; default: `group` or `group_id`, if there is one.

    Returns:
        The samples in the order of the rows, and warnings on what was guessed, is not used or is missing.

    Raises:
        DatasetError: See `read_label_table`; a cell is empty, or no image is found.
        UnknownNameError: A split or the `group_column` is unknown.
        UsageError: The `group_column` holds the images, the labels or the splits.
        MissingDependencyError: See `read_label_table`.
    """
    table, images = read_label_table(path, group_column), ImagePaths(path.parent if root is None else root)
    with_fractions = any(has_fractions(row.label) for row in table.rows)
    samples = [_to_sample(row, images, with_fractions, f"{path}, {row.position}") for row in table.rows]
    samples, named = _name_labels(path.parent, samples)
    guesses = [*table.guesses, *named]
    warnings = [DataWarning(f"Read from the table: {', '.join(guesses)}")] if guesses else []
    if unused := list(dict.fromkeys(table.unused)):
        more = f" and {len(unused) - MAX_SHOWN:,} more" if len(unused) > MAX_SHOWN else ""
        group = next((f"name {each} group to keep its images in one split" for each in unused if is_grouping(each)), "")
        listed = f"Columns that are not used: {', '.join(unused[:MAX_SHOWN])}{more}"
        warnings.append(DataWarning("; ".join(filter(None, (listed, *table.hints, group)))))
    warnings += images.check() if samples else []
    samples, repeated = _drop_repeated(samples)
    warnings += [*repeated, *_missing_label_warnings(samples), *_joined_label_warnings(samples)]
    unassigned = tuple(sample.name for sample in samples if sample.split is None)
    if 0 < len(unassigned) < len(samples):
        rows_have = count(len(unassigned), "row has", "rows have")
        warnings.append(DataWarning(f"{rows_have} no split: used for training", unassigned))
    return samples, warnings


def _name_labels(folder: Path, samples: list[Sample]) -> tuple[list[Sample], list[str]]:
    """Replace labels that are numbers by names, and return what to say about it."""
    names, said = name_numbers(folder, {label for each in samples for label in (each.label, *each.extra_labels)})
    if not names:
        return samples, said
    return [
        replace(
            sample,
            label=names.get(sample.label, sample.label),
            extra_labels=tuple(names.get(label, label) for label in sample.extra_labels),
        )
        for sample in samples
    ], said


def _drop_repeated(samples: Sequence[Sample]) -> tuple[list[Sample], list[DataWarning]]:
    """Keep one of the rows that are the same, and report images in rows that differ."""
    first: dict[Sample, Sample] = {}
    for sample, split in zip(samples, fill_splits([each.split for each in samples]), strict=True):
        first.setdefault(sample if sample.split == split else replace(sample, split=split), sample)
    distinct = list(first.values())
    by_path: defaultdict[Path, list[Sample]] = defaultdict(list)
    for sample in distinct:
        by_path[sample.path].append(sample)
    labels, others = list[list[Sample]](), list[list[Sample]]()
    for rows in by_path.values():
        if len(rows) > 1:
            have_one_label = len({(row.label, row.extra_labels) for row in rows}) == 1
            (others if have_one_label else labels).append(rows)
    warnings = []
    if number := len(samples) - len(distinct):
        repeated = Counter(sample.name for sample in samples) - Counter(sample.name for sample in distinct)
        message = f"{count(number, 'row')} left out: the same image with the same label is in an earlier row"
        warnings.append(DataWarning(message, tuple(repeated)))
    if labels:
        images_have = count(len(labels), "image has", "images have")
        message = f"{images_have} rows with different labels; if all of them are right, write one row: cat|dog"
        names = tuple(f"{rows[0].name} ({', '.join(row.label for row in rows)})" for rows in labels)
        warnings.append(DataWarning(message, names))
    if others:
        images_have = count(len(others), "image has", "images have")
        message = f"{images_have} rows with different splits or groups: test scores are optimistic"
        warnings.append(DataWarning(message, tuple(rows[0].name for rows in others)))
    return distinct, warnings


def _missing_label_warnings(samples: Sequence[Sample]) -> list[DataWarning]:
    """Report labels that look like those of a missing value, as a program writes them."""
    found = [sample for sample in samples if sample.label.casefold() in _MISSING]
    images_have = count(len(found), "image has", "images have")
    labels = " and ".join(repr(label) for label in sorted({sample.label for sample in found}))
    message = f"{images_have} the label {labels}, read as a class; if the label is missing, remove the rows"
    return [DataWarning(message, tuple(sample.name for sample in found))] if found else []


def _joined_label_warnings(samples: Sequence[Sample]) -> list[DataWarning]:
    """Report labels that seem to be several, but are separated by another sign than |."""
    labels = {label for sample in samples for label in (sample.label, *sample.extra_labels)}
    joined = [label for label in sorted(labels) if _is_joined(label, labels)]
    if not joined:
        return []
    names = tuple(sample.name for sample in samples if sample.label in joined)
    return [DataWarning(f"The label {joined[0]!r} is read as one class; several labels are written as a|b", names)]


def _is_joined(label: str, labels: Collection[str]) -> bool:
    parts = [part.strip() for part in _OTHER_SEPARATOR.split(label)]
    return (len(parts) > 1 and all(part in labels for part in parts)) or bool(_LIST.fullmatch(label))


def _to_sample(row: Row, images: ImagePaths, with_fractions: bool, position: str) -> Sample:
    try:
        labels, fractions = parse_labels(unescape_formula(row.label), with_fractions)
    except DatasetError as error:
        raise DatasetError(f"{position}: {error}") from error
    if row.image.strip() and any(labels) and not all(labels):
        raise DatasetError(
            f"{position}: | separates labels, and one is empty in {row.label[:80]!r}. Write it, or remove the |."
        )
    if not row.image.strip() or not all(labels):
        raise DatasetError(
            f"{position}: the cells image and label must both be filled. "
            f"Received: image {row.image[:80]!r}, label {row.label[:80]!r}."
        )
    split = split_of(row.split)
    if row.split and split is None:
        raise UnknownNameError(f"split ({position})", row.split[:80].lower(), SPLITS)
    path = images.find(row.image, position)
    return Sample(path, str(path), labels[0], split, labels[1:], fractions, row.group or None)
