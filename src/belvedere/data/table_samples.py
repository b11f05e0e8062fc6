"""Turns the rows of a table into samples, and finds their images."""

from pathlib import Path

from belvedere.data.image_paths import ImagePaths
from belvedere.data.label_columns import MAX_SHOWN, is_grouping
from belvedere.data.label_tables import Row, read_label_table
from belvedere.data.labels import has_fractions, parse_labels
from belvedere.data.split_names import SPLITS, split_of
from belvedere.errors import DatasetError, UnknownNameError
from belvedere.runtime.serialization import unescape_formula
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample


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
        MissingDependencyError: See `read_label_table`.
    """
    table, images = read_label_table(path, group_column), ImagePaths(path.parent if root is None else root)
    with_fractions = any(has_fractions(row.label) for row in table.rows)
    samples = [_to_sample(row, images, with_fractions, f"{path}, {row.position}") for row in table.rows]
    warnings = [DataWarning(f"Read from the table: {', '.join(table.guesses)}")] if table.guesses else []
    if unused := list(dict.fromkeys(table.unused)):
        more = f" and {len(unused) - MAX_SHOWN:,} more" if len(unused) > MAX_SHOWN else ""
        group = next(
            (f"; name {each} group to keep its images in one split" for each in unused if is_grouping(each)), ""
        )
        warnings.append(DataWarning(f"Columns that are not used: {', '.join(unused[:MAX_SHOWN])}{more}{group}"))
    warnings += images.check() if samples else []
    unassigned = tuple(sample.name for sample in samples if sample.split is None)
    if 0 < len(unassigned) < len(samples):
        rows_have = count(len(unassigned), "row has", "rows have")
        warnings.append(DataWarning(f"{rows_have} no split: used for training", unassigned))
    return samples, warnings


def _to_sample(row: Row, images: ImagePaths, with_fractions: bool, position: str) -> Sample:
    try:
        labels, fractions = parse_labels(unescape_formula(row.label), with_fractions)
    except DatasetError as error:
        raise DatasetError(f"{position}: {error}") from error
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
