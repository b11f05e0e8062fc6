"""Folders and tables of labeled photographs to samples and class names.

Knows the layouts people keep photographs in, and what in them is no photograph; does not open a photograph.

    PHOTOS/<class>/...                     class folders
    PHOTOS/train|val|test/<class>/...      also valid, validation, seg_train, seg_test, and seg_train/seg_train
    PHOTOS.csv, PHOTOS.parquet             columns image, label and, if there, split; `a|b` gives several labels, and
                                           `a:0.6|b:0.3` the share of the picture that each covers
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.apply import apply_journal
from belvedere.data.label_tables import read_rows
from belvedere.errors import DatasetError, UnknownNameError
from belvedere.images.decode import PICTURE_SUFFIXES
from belvedere.runtime.csv_files import unescape_formula
from belvedere.runtime.output_folder import MARK
from belvedere.runtime.progress import Progress
from belvedere.types.data import Note, Sample

SPLIT_ALIASES = {
    "train": ("train", "training", "seg_train"),
    "val": ("val", "valid", "validation", "seg_val"),
    "test": ("test", "testing", "seg_test"),
}
FOREIGN_FOLDERS = ("__macosx", "@eadir")  # what macOS's archives and Synology's disks put beside photographs
AREA = re.compile(r"0?\.\d+|1\.0*|[01]")  # a share, written as 0.27; 0 and 1 only where a table has other shares
NAMES_AREA = re.compile(r":\s*(0?\.\d+|1\.0*)\s*(\||$)")
TOLERANCE = 0.01 + 1e-9  # by which shares may add up to more
UNDIVIDED = ""  # the part of a sample where the layout names none
_PART_OF = {name: part for part, names in SPLIT_ALIASES.items() for name in names}


@dataclass(frozen=True)
class Dataset:
    """Labelled photographs, as they were found."""

    source: str  # the folder or table, as it was given
    class_names: tuple[str, ...]  # sorted first labels; of the photographs to train on, where the layout names them
    samples: tuple[Sample, ...]
    notes: tuple[Note, ...]  # what was ignored, and what is missing
    labels: str | None = None  # full path of the journal that was applied

    def part(self, name: str) -> tuple[Sample, ...]:
        """Returns the samples of one part: "train", "val", "test" or `UNDIVIDED`."""
        return tuple(sample for sample in self.samples if sample.part == name)

    def list_files(self) -> Iterator[Path | str]:
        """List what is read: the folder or table, the journal and the photographs; results never replace these."""
        yield from filter(None, (self.source, self.labels))
        yield from (sample.path for sample in self.samples)


def load_dataset(photos: Path | str, labels: Path | str | None = None, progress: Progress | None = None) -> Dataset:
    """Reads a data set: a folder in one of the known layouts, or a table.

    Args:
        photos: The folder, or a CSV or Parquet file.
        labels: A journal of corrections, which hold in place of the labels found; nothing on disk changes.
        progress: Shows how far the photographs of the journal are found.

    Returns:
        Its samples, in sorted order (a table's in its own), and its class names, sorted.

    Raises:
        DatasetError: It isn't there, can't be read, holds no classes, has an empty class, spells one class in two ways,
            or its test part has a class that its training part has not.
        UnknownNameError: A table's split is no part of a data set.
        UsageError: There is no such journal.
        MissingDependencyError: A Parquet table is given and pyarrow is not installed.
    """
    try:
        samples, notes = _read_any(Path(photos))
    except OSError as error:
        raise DatasetError(f"Can't read {error.filename or photos}: {error.strerror or error}.") from error
    if not samples:
        raise DatasetError(
            f"{photos} holds no labeled photographs. Expected one folder a class with pictures in it "
            f"(or train/ and test/ with such folders), or a table with the columns image and label."
        )
    if labels is not None:
        samples, corrections = apply_journal(samples, labels, progress)
        notes += corrections
    class_names = _class_names(samples, str(photos))
    notes += _further_labels(samples, class_names) + _missing_classes(samples, class_names)
    journal = None if labels is None else str(Path(labels).resolve())
    return Dataset(str(photos), class_names, tuple(samples), tuple(notes), journal)


def _read_any(path: Path) -> tuple[list[Sample], list[Note]]:
    if path.is_dir():
        return _read_layout(path)
    if path.is_file():
        return _read_table(path)
    raise DatasetError(f"There is no folder or table {path}. Give a folder of class folders, or a CSV table.")


def _read_layout(folder: Path) -> tuple[list[Sample], list[Note]]:
    parts = _part_folders(folder)
    ignored: list[Path] = []
    samples: list[Sample] = []
    for part, part_folder in (parts or {UNDIVIDED: folder}).items():
        samples += _read_classes(part_folder, part, ignored)
    if not parts:
        return samples, _ignored_notes(ignored) + _part_like_notes(folder)
    around = {folder, *(part.parent for part in parts.values())}
    inside = around.union(parts.values())
    ignored += [path for place in sorted(around) for path in sorted(place.iterdir()) if path not in inside]
    return samples, _ignored_notes(ignored)


def _part_like_notes(folder: Path) -> list[Note]:
    named = tuple(str(child) for child in _folders(folder) if child.name.lower() in _PART_OF)
    return [Note(f"{len(named)} taken as a class in spite of the name of a part", named)] if named else []


def _part_folders(folder: Path) -> dict[str, Path]:
    """The part folders of a layout that has some: a class that is called "train" makes none."""
    found: dict[str, Path] = {}
    for child in _folders(folder):
        part = _PART_OF.get(child.name.lower())
        if part is None or not any(True for _ in _folders(child)):
            continue
        if part in found:
            raise DatasetError(f"{folder} has two folders for one part: {found[part].name} and {child.name}. Keep one.")
        inner = list(_folders(child))
        doubled = (
            len(inner) == 1 and inner[0].name.lower() == child.name.lower() and any(True for _ in _folders(inner[0]))
        )
        found[part] = inner[0] if doubled else child  # Kaggle's seg_train/seg_train
    only_parts = all(child.name.lower() in _PART_OF for child in _folders(folder))
    return found if "train" in found or only_parts else {}


def _read_classes(folder: Path, part: str, ignored: list[Path]) -> list[Sample]:
    samples: list[Sample] = []
    ignored += [path for path in sorted(folder.iterdir()) if not path.is_dir() or _is_ignored_folder(path)]
    for class_folder in _folders(folder):
        found = [Sample(path, str(path), class_folder.name, part) for path in _walk(class_folder, ignored)]
        if not found:
            raise DatasetError(
                f"The class folder {class_folder} holds no photographs. Add some, or remove the folder: "
                "every folder here is taken as a class."
            )
        samples += found
    return samples


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_ignored_folder(path))


def _is_ignored_folder(folder: Path) -> bool:
    """Whether a folder is hidden, another program's, a result of ours, or a link that leads in a circle."""
    if folder.name.startswith(".") or folder.name.lower() in FOREIGN_FOLDERS or (folder / MARK).is_file():
        return True
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _walk(folder: Path, ignored: list[Path]) -> Iterator[Path]:
    """Pictures below a class folder, sorted; links to folders are not followed, lest one leads in a circle."""
    waiting = [folder]  # the next last; no call for each folder, of which there may be thousands in each other
    while waiting:
        path = waiting.pop()
        if path != folder and (
            path.name.startswith(".") or (path.is_dir() and (path.is_symlink() or _is_ignored_folder(path)))
        ):
            ignored.append(path)
        elif path.is_dir():
            waiting += sorted(path.iterdir(), reverse=True)
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            yield path
        else:
            ignored.append(path)


def _ignored_notes(ignored: Iterable[Path]) -> list[Note]:
    kinds: dict[str, list[str]] = {}
    for path in (path for path in ignored if path.name != MARK):
        kinds.setdefault(_kind_of_ignored(path), []).append(str(path))
    return [Note(f"{len(names)} skipped: {kind}", tuple(names)) for kind, names in sorted(kinds.items())]


def _kind_of_ignored(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        kind = "made by a program" if _is_ignored_folder(path) else "folder beside the splits"
        return "link to a folder" if path.is_symlink() else kind
    return "image outside the class folders" if path.suffix.lower() in PICTURE_SUFFIXES else "not an image"


def _read_table(path: Path) -> tuple[list[Sample], list[Note]]:
    samples, listed = [], list(read_rows(path))
    has_areas = any(NAMES_AREA.search(row["label"] or "") for _, row in listed)
    for place, row in listed:
        image = row["image"] or ""
        labels, areas = _split_label(unescape_formula(row["label"] or ""), has_areas, f"{path}, {place}")
        if not image.strip() or not all(labels):
            raise DatasetError(
                f"{path}, {place}: the cells image and label must both be filled. "
                f"Received: image {image[:80]!r}, label {(row['label'] or '')[:80]!r}."
            )
        part = _table_part(row, f"{path}, {place}")
        samples.append(Sample(path.parent / image, str(path.parent / image), labels[0], part, labels[1:], areas))
    unnamed = tuple(sample.image for sample in samples if sample.part == UNDIVIDED)
    if 0 < len(unnamed) < len(samples):
        return samples, [Note(f"{len(unnamed)} rows name no split: they count as photographs to train on", unnamed)]
    return samples, []


def _split_label(cell: str, has_areas: bool, place: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The labels of a cell, each once, and the share of the picture of each where they name one."""
    entries = [entry.strip() for entry in cell.split("|")]
    parts = [entry.rpartition(":") for entry in entries]
    shared = [bool(name.strip()) and AREA.fullmatch(area.strip()) is not None for name, _, area in parts]
    if not has_areas or not any(shared):
        return tuple(dict.fromkeys(entries)), ()
    if not all(shared):
        raise DatasetError(
            f"{place}: give every label a share, such as sea:0.6|forest:0.4, or none. Received: {cell[:200]!r}."
        )
    areas = {name.strip(): float(area) for name, _, area in parts if float(area)}
    if not areas or sum(areas.values()) > 1 + TOLERANCE:
        raise DatasetError(f"{place}: the shares must be over 0 and add up to 1 at most. Received: {cell[:200]!r}.")
    return tuple(areas), tuple(areas.values())


def _table_part(row: Mapping[str, str | None], place: str) -> str:
    value = (row.get("split") or "").strip().lower()
    if value and value not in _PART_OF:
        raise UnknownNameError(f"part of a data set ({place})", value[:80], _PART_OF)
    return _PART_OF.get(value, UNDIVIDED)


def spelling_of(label: str) -> str:
    """Returns what two spellings of one class have in common: all but case, spaces and the form of accents."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _class_names(samples: Sequence[Sample], source: str) -> tuple[str, ...]:
    spellings: dict[str, str] = {}
    for label in sorted({label for sample in samples for label in (sample.label, *sample.also)}):
        if label.encode(errors="replace").decode() != label:
            raise DatasetError(f"The class {label!r} of {source} has a name that is not UTF-8. Rename it.")
        first = spellings.setdefault(spelling_of(label), label)
        if first != label:
            raise DatasetError(
                f"{source} has one class spelt in two ways: {first!r} and {label!r}. Give both the same name."
            )
    learnt = {sample.label for sample in samples if sample.part in ("train", UNDIVIDED)}
    if not learnt:
        return tuple(sorted({sample.label for sample in samples}))
    for sample in samples:
        if sample.label not in learnt:
            raise DatasetError(
                f"The class {sample.label!r} is in the part {sample.part!r} of {source} but not in its training part, "
                f"so it can't be learnt. Add photographs of it to train, or remove it from {sample.part}."
            )
    return tuple(sorted(learnt))


def _further_labels(samples: Sequence[Sample], class_names: Sequence[str]) -> list[Note]:
    unlearnt = sorted({label for sample in samples for label in sample.also} - set(class_names))
    return [
        Note(f"{name!r} is never the first label of a photograph to train on: it is no class", images)
        for name in unlearnt
        if (images := tuple(sample.image for sample in samples if name in sample.also))
    ]


def _missing_classes(samples: Sequence[Sample], class_names: Sequence[str]) -> list[Note]:
    notes = []
    for part in ("val", "test"):
        present = {sample.label for sample in samples if sample.part == part}
        missing = [name for name in class_names if name not in present]
        if present and missing:
            what = (
                "precision and recall of it stay unknown" if part == "test" else "it does not help to choose the epoch"
            )
            notes += [Note(f"No photograph of {name!r} in the part {part!r}: {what}") for name in missing]
    return notes
