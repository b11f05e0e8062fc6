"""Reads labeled images from a folder or a table; docs/datasets.md describes all forms.

DATA/<class>/...                   class folders
DATA/train|val|test/<class>/...    also under other names of splits, and the other way round: DATA/<class>/train/...
DATA.csv                           or .tsv, .xlsx, .jsonl, .parquet: columns image, label and, optionally, split and
                                   group; `a|b` gives several labels, and `a:0.6|b:0.3` the fraction of the image that
                                   each covers
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.apply import apply_corrections
from belvedere.data.folders import read_folder
from belvedere.data.labels import normalize_label
from belvedere.data.table_samples import read_table
from belvedere.errors import DatasetError, UsageError, find_named
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import NONE_OF_THESE, DataWarning, Sample
from belvedere.types.result import Result, short_repr

SAME_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".heif": ".heic", ".hif": ".heic"}
LAYOUTS = {"auto": False, "classes": True}  # whether every folder is a class


@dataclass(frozen=True, repr=False)
class Dataset(Result):
    """Labeled images. In a notebook, it shows their number and a few images of each class."""

    source: str  # folder or table, as given
    class_names: tuple[str, ...]  # sorted first labels; of the training images, if the dataset names splits
    samples: tuple[Sample, ...]
    warnings: tuple[DataWarning, ...]  # ignored files and missing classes
    corrections: str | None = None  # full path of the corrections file that was applied
    root: str | None = None  # folder of the images of a table, if given
    layout: str = "auto"  # see `load_dataset`
    group_column: str | None = None  # column of the groups, if given

    def __repr__(self) -> str:
        return short_repr(self, source=self.source, num_images=len(self.samples), num_classes=len(self.class_names))

    def split(self, name: str | None) -> tuple[Sample, ...]:
        """Return the samples of one split.

        Args:
            name: "train", "val" or "test"; None for the samples without a split.
        """
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
    root: Path | str | None = None,
    layout: str = "auto",
    group_column: str | None = None,
) -> Dataset:
    """Read a dataset: a folder of class folders, such a folder for each split, or a table.

    Args:
        data: Folder, or table: CSV, Excel, JSON lines or Parquet.
        corrections: Corrections file. Its decisions replace the labels found; no file changes.
        progress: Reports the search for the corrected images.
        root: Folder that the image paths of a table are relative to; default: that of the table.
        layout: "auto", or "classes": every folder in `data` is a class, whatever its name.
        group_column: Column of a table with the groups of the images; default: `group`, if it has one.

    Returns:
        The samples, sorted by path (those of a table in its order), and the sorted class names.

    Raises:
        DatasetError: It does not exist, cannot be read, has no classes or an empty class, spells one class in two ways
            or names it "none of these", or a class occurs in another split but not in the training split. Its folders
            do not seem to be classes, or no image of a table is found.
        UnknownNameError: A table names an unknown split, or has no `group_column`, or the layout is another one.
        UsageError: The corrections file does not exist, `root` or `layout` do not apply, or `group_column` holds the
            images, the labels or the splits.
        MissingDependencyError: The package for Parquet or Excel is not installed.
    """
    path = Path(data)
    only_classes = find_named("layout", layout, LAYOUTS)
    try:
        if not path.is_dir() and not path.is_file():
            raise DatasetError(f"No such folder or table: {path}. Give a folder of class folders, or a CSV table.")
        if path.is_dir() and root is not None:
            raise UsageError(f"`root` is for tables, and {path} is a folder. Leave it out.")
        if path.is_file() and only_classes:
            raise UsageError(f"`layout` is for folders, and {path} is a file. Leave it out.")
        if path.is_dir():
            samples, warnings = read_folder(path, only_classes=only_classes)
        else:
            samples, warnings = read_table(path, None if root is None else Path(root), group_column)
    except OSError as error:
        raise DatasetError(
            f"Cannot read {error.filename or data}: {describe_error(error)}. Check the path and its permissions."
        ) from error
    if not samples:
        raise DatasetError(f"No labeled images in {data}. Expected a row with image and label for each.")
    if corrections is not None:
        samples, applied = apply_corrections(samples, corrections, progress)
        warnings += applied
    class_names = _class_names(samples, str(data))
    warnings += _extra_label_warnings(samples, class_names) + _missing_class_warnings(samples, class_names)
    warnings += _format_warnings(samples)
    applied_file = None if corrections is None else str(Path(corrections).resolve())
    base = None if root is None else str(root)
    return Dataset(str(data), class_names, tuple(samples), tuple(warnings), applied_file, base, layout, group_column)


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


def _class_names(samples: Sequence[Sample], source: str) -> tuple[str, ...]:
    spellings: dict[str, str] = {}
    for label in sorted({label for sample in samples for label in (sample.label, *sample.extra_labels)}):
        if label.encode(errors="replace").decode() != label:
            raise DatasetError(f"Class name {label!r} in {source} is not UTF-8. Rename it.")
        if normalize_label(label) == NONE_OF_THESE:
            raise DatasetError(
                f"A class in {source} is named {label!r}, which is the prediction for images of no class. Rename it, "
                "such as to 'other'; or leave its images out, since none are needed for this prediction."
            )
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


def _format_warnings(samples: Sequence[Sample]) -> list[DataWarning]:
    """Warn about classes that differ from all others by the format of their files, which a network can learn."""
    suffixes: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        suffix = sample.path.suffix.lower()
        suffixes[sample.label].add(SAME_FORMAT.get(suffix, suffix))
    classes_with = Counter(suffix for found in suffixes.values() for suffix in found)
    return [
        DataWarning(
            f"All images of {label} are {', '.join(sorted(found))}, and those of the other classes are not: "
            "the network may learn the file format"
        )
        for label, found in sorted(suffixes.items())
        if len(suffixes) > 1 and all(suffix and classes_with[suffix] == 1 for suffix in found)
    ]


def _missing_class_warnings(samples: Sequence[Sample], class_names: Sequence[str]) -> list[DataWarning]:
    warnings = []
    effects = {"val": "it does not affect the choice of the epoch", "test": "its precision and recall are unknown"}
    for split, effect in effects.items():
        present = {sample.label for sample in samples if sample.split == split}
        missing = [name for name in class_names if name not in present] if present else []
        warnings += [DataWarning(f"No image of {name!r} in the split {split!r}: {effect}") for name in missing]
    return warnings
