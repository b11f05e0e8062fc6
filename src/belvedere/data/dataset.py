"""Reads labeled images from a folder or a table.

DATA/<class>/...                   class folders
DATA/train|val|test/<class>/...    also valid, validation, seg_train, seg_test, and seg_train/seg_train
DATA.csv, DATA.parquet             columns image, label and, optionally, split; `a|b` gives several labels, and
                                   `a:0.6|b:0.3` the fraction of the image that each covers
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.apply import apply_corrections
from belvedere.data.label_tables import GROUP, read_rows
from belvedere.errors import DatasetError, UnknownNameError, UsageError
from belvedere.images.listing import IMAGE_SUFFIXES
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.runtime.progress import Progress
from belvedere.runtime.serialization import unescape_formula
from belvedere.runtime.terminal import count, describe_error
from belvedere.types.data import DataWarning, Sample
from belvedere.types.result import short_repr

SPLIT_ALIASES = {
    "train": ("train", "training", "seg_train"),
    "val": ("val", "valid", "validation", "seg_val"),
    "test": ("test", "testing", "seg_test"),
}
IGNORED_FOLDERS = ("__macosx", "@eadir")  # made by macOS archives and Synology disks
FRACTION = re.compile(r"0?\.\d+|1\.0*|[01]")  # such as 0.27; 0 and 1 only in a table with other fractions
LABEL_WITH_FRACTION = re.compile(r":\s*(0?\.\d+|1\.0*)\s*(\||$)")
TOLERANCE = 0.01 + 1e-9  # by which the sum of the fractions may exceed 1
_SPLIT_OF = {alias: split for split, aliases in SPLIT_ALIASES.items() for alias in aliases}


@dataclass(frozen=True, repr=False)
class Dataset:
    """Labeled images."""

    source: str  # folder or table, as given
    class_names: tuple[str, ...]  # sorted first labels; of the training images, if the dataset names splits
    samples: tuple[Sample, ...]
    warnings: tuple[DataWarning, ...]  # ignored files and missing classes
    corrections: str | None = None  # full path of the corrections file that was applied

    def __repr__(self) -> str:
        return short_repr(self, source=self.source, num_images=len(self.samples), num_classes=len(self.class_names))

    def split(self, name: str | None) -> tuple[Sample, ...]:
        """Return the samples of one split: "train", "val", "test", or None for those without one."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def list_files(self) -> Iterator[Path | str]:
        """Yield the input files: folder or table, corrections and images. Outputs never replace them."""
        yield from filter(None, (self.source, self.corrections))
        yield from (sample.path for sample in self.samples)


def load_dataset(
    data: Path | str,
    corrections: Path | str | None = None,
    progress: Progress | bool | None = None,
    *,
    group_column: str | None = None,
) -> Dataset:
    """Read a dataset: a folder of class folders, such a folder for each split, or a table.

    Args:
        data: Folder, or CSV or Parquet file.
        corrections: Corrections file. Its decisions replace the labels found; no file changes.
        progress: Reports the search for the corrected images.
        group_column: Column of a table with the groups of the images. Default: `group`, if it has one.

    Returns:
        The samples, sorted by path (those of a table in its order), and the sorted class names.

    Raises:
        DatasetError: It does not exist, cannot be read, has no classes or an empty class, spells one class in two ways,
            or a class occurs in another split but not in the training split.
        UnknownNameError: A table names an unknown split.
        UsageError: The corrections file does not exist.
        MissingDependencyError: The table is a Parquet file and pyarrow is not installed.
    """
    path = Path(data)
    try:
        if not path.is_dir() and not path.is_file():
            raise DatasetError(f"No such folder or table: {path}. Give a folder of class folders, or a CSV table.")
        samples, warnings = _read_folder(path) if path.is_dir() else _read_table(path, group_column)
    except OSError as error:
        raise DatasetError(
            f"Cannot read {error.filename or data}: {describe_error(error)}. Check the path and its permissions."
        ) from error
    if not samples:
        raise DatasetError(
            f"No labeled images in {data}. Expected one folder of images per class (or train/ and test/ with such "
            "folders), or a table with the columns image and label."
        )
    if corrections is not None:
        samples, applied = apply_corrections(samples, corrections, progress)
        warnings += applied
    class_names = _class_names(samples, str(data))
    warnings += _extra_label_warnings(samples, class_names) + _missing_class_warnings(samples, class_names)
    applied_file = None if corrections is None else str(Path(corrections).resolve())
    return Dataset(str(data), class_names, tuple(samples), tuple(warnings), applied_file)


def as_dataset(
    data: Dataset | Path | str,
    corrections: Path | str | None = None,
    progress: Progress | bool | None = None,
    *,
    group_column: str | None = None,
) -> Dataset:
    """Return a dataset, read as `load_dataset` if a path is given."""
    if isinstance(data, Dataset):
        if corrections is not None:
            raise UsageError("`corrections` is for a folder or table, not for a Dataset. Give it to load_dataset.")
        return data
    return load_dataset(data, corrections, progress, group_column=group_column)


def renamed_paths(samples: Iterable[Sample]) -> dict[str, Path]:
    """Return the files of the samples that are not named by their path, as in a table with relative paths."""
    return {sample.name: sample.path for sample in samples if Path(sample.name) != sample.path}


def _read_folder(folder: Path) -> tuple[list[Sample], list[DataWarning]]:
    splits = _split_folders(folder)
    ignored: list[Path] = []
    if not splits:
        samples = _read_classes(folder, None, ignored)
        return samples, _ignored_warnings(ignored) + _split_name_warnings(folder)
    samples = [sample for split, path in splits.items() for sample in _read_classes(path, split, ignored)]
    parents = {folder, *(path.parent for path in splits.values())}
    expected = parents.union(splits.values())
    ignored += [path for parent in sorted(parents) for path in sorted(parent.iterdir()) if path not in expected]
    return samples, _ignored_warnings(ignored)


def _split_name_warnings(folder: Path) -> list[DataWarning]:
    named = tuple(str(child) for child in _subfolders(folder) if child.name.lower() in _SPLIT_OF)
    folders = count(len(named), "folder read as a class", "folders read as classes")
    message = f"{folders}, although named like a split"
    return [DataWarning(message, named)] if named else []


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the split folders; none where "train" is only the name of a class."""
    found: dict[str, Path] = {}
    for child in _subfolders(folder):
        split, inner = _SPLIT_OF.get(child.name.lower()), list(_subfolders(child))
        if split is None or not inner:
            continue
        if split in found:
            raise DatasetError(
                f"Two folders for one split in {folder}: {found[split].name} and {child.name}. Keep one."
            )
        is_nested = len(inner) == 1 and inner[0].name.lower() == child.name.lower() and any(_subfolders(inner[0]))
        found[split] = inner[0] if is_nested else child  # Kaggle's seg_train/seg_train
    has_only_splits = all(child.name.lower() in _SPLIT_OF for child in _subfolders(folder))
    return found if "train" in found or has_only_splits else {}


def _read_classes(folder: Path, split: str | None, ignored: list[Path]) -> list[Sample]:
    samples: list[Sample] = []
    ignored += [path for path in sorted(folder.iterdir()) if not path.is_dir() or _is_ignored_folder(path)]
    for class_folder in _subfolders(folder):
        found = [Sample(path, str(path), class_folder.name, split) for path in _walk(class_folder, ignored)]
        if not found:
            raise DatasetError(f"No images in the class folder {class_folder}. Add some, or remove the folder.")
        samples += found
    return samples


def _subfolders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_ignored_folder(path))


def _is_ignored_folder(folder: Path) -> bool:
    """Return whether a folder is hidden, a system folder, an output of Belvedere, or a circular link."""
    if folder.name.startswith(".") or folder.name.lower() in IGNORED_FOLDERS or (folder / MARKER_FILE).is_file():
        return True
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _walk(folder: Path, ignored: list[Path]) -> Iterator[Path]:
    """Yield the images below a class folder, sorted. Links to folders are not followed, since they may be circular."""
    pending = [folder]  # next last; no recursion, since folders may be nested thousands deep
    while pending:
        path = pending.pop()
        if path != folder and (
            path.name.startswith(".") or (path.is_dir() and (path.is_symlink() or _is_ignored_folder(path)))
        ):
            ignored.append(path)
        elif path.is_dir():
            pending += sorted(path.iterdir(), reverse=True)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        else:
            ignored.append(path)


def _ignored_warnings(ignored: Iterable[Path]) -> list[DataWarning]:
    kinds: dict[tuple[str, str], list[str]] = {}
    for path in (path for path in ignored if path.name != MARKER_FILE):
        kinds.setdefault((_ignored_kind(path), "folder" if path.is_dir() else "file"), []).append(str(path))
    return [
        DataWarning(f"{count(len(names), noun)} skipped: {kind}", tuple(names))
        for (kind, noun), names in sorted(kinds.items())
    ]


def _ignored_kind(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        kind = "made by a program" if _is_ignored_folder(path) else "beside the splits"
        return "symbolic link" if path.is_symlink() else kind
    return "image outside the class folders" if path.suffix.lower() in IMAGE_SUFFIXES else "not an image"


def _read_table(path: Path, group_column: str | None) -> tuple[list[Sample], list[DataWarning]]:
    samples, rows = [], list(read_rows(path, group_column))
    has_fractions = any(LABEL_WITH_FRACTION.search(row["label"] or "") for _, row in rows)
    for position, row in rows:
        image = row["image"] or ""
        labels, fractions = _parse_labels(unescape_formula(row["label"] or ""), has_fractions, f"{path}, {position}")
        if not image.strip() or not all(labels):
            raise DatasetError(
                f"{path}, {position}: the cells image and label must both be filled. "
                f"Received: image {image[:80]!r}, label {(row['label'] or '')[:80]!r}."
            )
        split, group = _parse_split(row, f"{path}, {position}"), (row.get(group_column or GROUP) or "").strip() or None
        file = path.parent / image
        samples.append(Sample(file, str(file), labels[0], split, labels[1:], fractions, group))
    unassigned = tuple(sample.name for sample in samples if sample.split is None)
    if 0 < len(unassigned) < len(samples):
        rows_have = count(len(unassigned), "row has", "rows have")
        return samples, [DataWarning(f"{rows_have} no split: used for training", unassigned)]
    return samples, []


def _parse_labels(cell: str, has_fractions: bool, position: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the distinct labels of a cell, and the area fraction of each if given."""
    entries = [entry.strip() for entry in cell.split("|")]
    pairs = [entry.rpartition(":") for entry in entries]
    is_pair = [bool(name.strip()) and FRACTION.fullmatch(number.strip()) is not None for name, _, number in pairs]
    if not has_fractions or not any(is_pair):
        return tuple(dict.fromkeys(entries)), ()
    if not all(is_pair):
        raise DatasetError(
            f"{position}: some labels have no area fraction. Give one to every label, such as sea:0.6|forest:0.4, or "
            f"to none. Received: {cell[:200]!r}."
        )
    fractions = {name.strip(): float(number) for name, _, number in pairs if float(number)}
    if not fractions or sum(fractions.values()) > 1 + TOLERANCE:
        raise DatasetError(
            f"{position}: area fractions must be over 0 and add up to 1 at most. Received: {cell[:200]!r}."
        )
    return tuple(fractions), tuple(fractions.values())


def _parse_split(row: Mapping[str, str | None], position: str) -> str | None:
    value = (row.get("split") or "").strip().lower()
    if value and value not in _SPLIT_OF:
        raise UnknownNameError(f"split ({position})", value[:80], _SPLIT_OF)
    return _SPLIT_OF.get(value)


def normalize_label(label: str) -> str:
    """Return a label without differences in case, spaces or Unicode form, to compare spellings."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _class_names(samples: Sequence[Sample], source: str) -> tuple[str, ...]:
    spellings: dict[str, str] = {}
    for label in sorted({label for sample in samples for label in (sample.label, *sample.extra_labels)}):
        if label.encode(errors="replace").decode() != label:
            raise DatasetError(f"Class name {label!r} in {source} is not UTF-8. Rename it.")
        first = spellings.setdefault(normalize_label(label), label)
        if first != label:
            raise DatasetError(f"One class has two spellings in {source}: {first!r} and {label!r}. Use one of them.")
    trained = {sample.label for sample in samples if sample.split in ("train", None)}
    if not trained:
        return tuple(sorted({sample.label for sample in samples}))
    for sample in samples:
        if sample.label not in trained:
            raise DatasetError(
                f"The class {sample.label!r} is in the split {sample.split!r} of {source} but has no training images. "
                f"Add images of it to train, or remove it from {sample.split}."
            )
    return tuple(sorted(trained))


def _extra_label_warnings(samples: Sequence[Sample], class_names: Sequence[str]) -> list[DataWarning]:
    unknown = sorted({label for sample in samples for label in sample.extra_labels} - set(class_names))
    return [
        DataWarning(
            f"{name!r} is only an extra label, never the first label of a training image: not used as a class",
            tuple(sample.name for sample in samples if name in sample.extra_labels),
        )
        for name in unknown
    ]


def _missing_class_warnings(samples: Sequence[Sample], class_names: Sequence[str]) -> list[DataWarning]:
    warnings = []
    effects = {"val": "it does not affect the choice of the epoch", "test": "its precision and recall are unknown"}
    for split, effect in effects.items():
        present = {sample.label for sample in samples if sample.split == split}
        missing = [name for name in class_names if name not in present] if present else []
        warnings += [DataWarning(f"No image of {name!r} in the split {split!r}: {effect}") for name in missing]
    return warnings
