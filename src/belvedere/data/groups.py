"""Groups of images that no split divides: those of one patient, folder, day or scene, and identical files."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from belvedere.data.dataset import Dataset
from belvedere.data.hashing import CHUNK_SIZE, HashedSamples
from belvedere.data.labels import normalize_label
from belvedere.data.near_duplicates.shifts import find_shifted_pairs
from belvedere.data.split_names import split_of
from belvedere.errors import DatasetError, InvalidImageError, UsageError
from belvedere.images.header import capture_day
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample

FOLDER, EXIF_DAY, NEAR_DUPLICATES = "folder", "exif-day", "near-duplicates"
LAYOUT_SHARE, MIN_LAYOUT = 0.25, 20  # of the images, and images, from which images that are alike share a layout
AUTOMATIC_COLUMNS = ("group", "group_id")  # read from a table without `group_column`
GROUP_KINDS = (FOLDER, EXIF_DAY, NEAR_DUPLICATES)


def group_column(group_by: str | None) -> str | None:
    """Return the column of a table that `group_by` names, if it is none of the other kinds of groups."""
    return None if group_by in GROUP_KINDS else group_by


def check_group_by(dataset: Dataset, group_by: str | None) -> None:
    """Check that a dataset has the groups of a column.

    Raises:
        UsageError: `group_by` names a column, and no image has a group.
    """
    column = group_column(group_by)
    if column is None:
        return
    if column != dataset.group_column and (dataset.group_column or column.lower() not in AUTOMATIC_COLUMNS):
        raise UsageError(
            f"The groups of {dataset.source} are not those of `group_by`: {group_by!r}. "
            "Load it with this `group_column`."
        )
    if not any(sample.group for sample in dataset.samples):
        raise UsageError(
            f"No image of {dataset.source} has a group by `group_by`: {group_by!r}. Choose a column of its table, or "
            f"one of {', '.join(GROUP_KINDS)}."
        )


def assign_groups(
    contents: HashedSamples, dataset: Dataset, group_by: str | None, progress: Progress
) -> tuple[HashedSamples, list[DataWarning]]:
    """Give the images of a dataset their groups.

    Args:
        contents: Its readable images.
        dataset: Dataset.
        group_by: "folder": the folders between that of the class and the image. "exif-day": the day in the EXIF data.
            "near-duplicates": images that show the same up to a shift. Default: the groups of the table, if it has any.
        progress: Reports the search, and the number of groups.

    Returns:
        The images with their groups, and a warning about those without one.

    Raises:
        DatasetError: No image has a group, or each class is one group.
        UsageError: As `check_group_by`.
    """
    check_group_by(dataset, group_by)
    groups: list[str | None] = [sample.group for sample in contents.samples]
    if group_by == FOLDER:
        names, source = {normalize_label(name) for name in dataset.class_names}, Path(dataset.source)
        is_table = not source.is_dir()
        groups = [_folder_below_class(each.path, source, names, is_table=is_table) for each in contents.samples]
    elif group_by == EXIF_DAY:
        with progress.task("Reading EXIF data", len(groups)) as task:
            groups = []
            for day in parallel_map(_capture_day, contents.samples, chunk_size=CHUNK_SIZE):
                groups.append(day)
                task.advance(1)
    elif group_by == NEAR_DUPLICATES:
        groups = _near_duplicates(contents, progress)
    if group_by is not None and group_by != NEAR_DUPLICATES:
        _check_divide_classes(contents.samples, groups, dataset, group_by)
    num_groups = len(set(groups) - {None})
    if num_groups:
        progress.log(f"{count(num_groups, 'group')} of images, which no split divides")
    elif group_by in (FOLDER, EXIF_DAY):
        raise DatasetError(f"No image of {dataset.source} has a group by `group_by`: {group_by!r}. Choose another.")
    samples = tuple(replace(sample, group=name) for sample, name in zip(contents.samples, groups, strict=True))
    contents = replace(contents, samples=samples)
    without = tuple(sample.name for sample in samples if sample.group is None)
    if not (without and num_groups) or group_by == NEAR_DUPLICATES:
        return contents, []
    message = f"{count(len(without), 'image has', 'images have')} no group: each is one by itself"
    return contents, [DataWarning(message, without)]


def _check_divide_classes(
    samples: Sequence[Sample], groups: Sequence[str | None], dataset: Dataset, group_by: str
) -> None:
    pairs = {(sample.label, group) for sample, group in zip(samples, groups, strict=True)}
    labels, names = {label for label, _ in pairs}, {group for _, group in pairs}
    if None not in names and len(pairs) == len(labels) == len(names) > 1:
        raise DatasetError(
            f"Each class of {dataset.source} is one group by `group_by`: {group_by!r}, so that no class can be both "
            "learned and tested. Choose another, or leave it out."
        )


def group_names(contents: HashedSamples) -> list[str]:
    """Return a name for each image that it shares with identical files and with the images of its group.

    The name is a hash of one of them, so that the images that share none have their own hash.
    """
    members = connect_equal(contents.hashes, [sample.group for sample in contents.samples])
    smallest: dict[int, str] = {}
    for member, key in zip(members, contents.hashes, strict=True):
        smallest[member] = min(smallest.get(member, key), key)
    return [smallest[member] for member in members]


def connect(size: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `size` rows one that is connected to it by pairs, the same for all connected rows."""
    parent = list(range(size))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in pairs:
        parent[find(second)] = find(first)
    return [find(row) for row in range(size)]


def connect_equal(*columns: Sequence[Hashable | None]) -> list[int]:
    """Return, as `connect`, what is connected by equal names in any of the columns; None is no name."""
    pairs: list[tuple[int, int]] = []
    for names in columns:
        first: dict[Hashable, int] = {}
        pairs += [(first.setdefault(name, row), row) for row, name in enumerate(names) if name is not None]
    return connect(len(columns[0]), pairs)


def is_common_layout(size: int, num_images: int) -> bool:
    """Return whether so many images are alike that this is their layout, such as that of forms or of a fixed camera."""
    return size >= max(MIN_LAYOUT, LAYOUT_SHARE * num_images)


def _folder_below_class(path: Path, source: Path, class_names: set[str], *, is_table: bool) -> str | None:
    """Return the folders between that of the class and the image; all of them where none is named like a class.

    In a folder, the first one named like a class is that of the class, since a patient may be named like another class,
    as in 0/1/image.png. The images of a table may be in any folders, so that the last one counts.
    """
    folder = path.parent
    parts = folder.relative_to(source).parts if folder.is_relative_to(source) else folder.parts
    named = [i for i, part in enumerate(parts) if normalize_label(part) in class_names]
    if not is_table:  # above the class may be a split
        named = [i for i in named if not split_of(parts[i])][:1]
    return "/".join(part for part in parts[1 + max(named, default=-1) :] if not split_of(part)) or None


def _capture_day(sample: Sample) -> str | None:
    try:
        return capture_day(sample.path)
    except InvalidImageError:  # reported where the image is read
        return None


def _near_duplicates(contents: HashedSamples, progress: Progress) -> list[str | None]:
    pairs = find_shifted_pairs(contents, progress).tolist()
    paired = {row for pair in pairs for row in pair}
    members = connect(len(contents.samples), pairs)
    return [contents.samples[first].name if row in paired else None for row, first in enumerate(members)]
