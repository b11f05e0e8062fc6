"""Finds folders that are not what they seem: splits under other names, a folder too many, a table beside the images.

Every error gives a way out. `layout` "classes" turns these checks off.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from belvedere.data.label_tables import TABLE_SUFFIXES
from belvedere.data.split_names import find_splits, is_filler, split_of
from belvedere.errors import DatasetError
from belvedere.images.listing import SkippedFiles, is_image
from belvedere.runtime.terminal import count
from belvedere.types.data import Sample

MAX_SHOWN = 5  # names in a message
# Parts of the names of folders that are no classes, and of those that stand beside splits.
_NO_CLASSES = ("anno", "label", "mask", "groundtruth", "ground_truth", "thumb", "xml")
# fmt: off
_BESIDE_SPLITS = (
    *_NO_CLASSES, "pred", "extra", "submission", "sample", "result", "output", "query", "gallery", "unsup", "unlabel",
)
# fmt: on


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose name is a class, if it is what it seems."""

    path: Path
    samples: list[Sample]
    skipped: SkippedFiles  # its other files

    @cached_property
    def subfolders(self) -> Counter[str]:
        """Number of images in each folder directly below; under "" those directly in this folder."""
        start = len(str(self.path)) + 1
        parts = (sample.name[start:].partition(os.sep) for sample in self.samples)
        return Counter(first if rest else "" for first, _, rest in parts)

    def outside(self, names: Iterable[str]) -> Iterator[Path]:
        """Yield the images that are not below one of these folders."""
        depth, known = len(self.path.parts), frozenset(names)
        return (path for path in (sample.path for sample in self.samples) if path.parts[depth] not in known)

    @property
    def is_divided(self) -> bool:
        """Whether most images are in folders below."""
        return self.subfolders[""] * 2 < len(self.samples)


def check_class_folders(folder: Path, classes: Sequence[ClassFolder], ignored: Iterable[Path]) -> None:
    """Check folders that were read as classes.

    Args:
        folder: The folder above them.
        classes: The folders.
        ignored: Files that are no images.

    Raises:
        DatasetError: They do not seem to be classes; the message has the way out.
    """
    filled = [each for each in classes if each.samples]
    places = {folder, *(each.path for each in classes)}
    tables = [path for path in ignored if path.suffix.lower() in TABLE_SUFFIXES and path.parent in places]
    has_images = bool(filled) or any(is_image(path) for path in ignored if path.parent == folder)
    _check_table(folder, filled, sorted(tables, key=_likelihood), has_images)
    _check_wrapper(folder, filled)
    _check_masks(folder, filled)
    check_filled(classes)
    _check_inner_splits(filled)
    _check_same_subfolders(folder, filled)


def check_filled(classes: Iterable[ClassFolder]) -> None:
    """Raise DatasetError for a class folder without images."""
    for each in classes:
        if not each.samples and each.skipped and _contains(each.path.name, _NO_CLASSES):
            raise DatasetError(
                f"No images in the class folder {each.path}, only {each.skipped}. Boxes, masks and other annotations "
                "are not read: sort the images into one folder per class, or give a table of images and labels."
            )
        if not each.samples and each.skipped:
            raise DatasetError(
                f"No images in the class folder {each.path}, only {each.skipped}. "
                "Convert them to JPEG or PNG, or remove the folder."
            )
        if not each.samples:
            raise DatasetError(f"No images in the class folder {each.path}. Add some, or remove the folder.")


def check_split_folders(
    folder: Path, splits: Mapping[str, Path], others: Sequence[Path], classes: Sequence[ClassFolder]
) -> None:
    """Check folders that were read as splits.

    Args:
        folder: The folder above them.
        splits: The folders.
        others: Folders beside them that hold images and are not named like a split.
        classes: The class folders in them.

    Raises:
        DatasetError: One of them may be a class, or a class folder is empty or the only one.
    """
    check_filled(classes)
    _check_masks(folder, classes)
    names = [{each.path.name for each in classes if each.path.parent == path} for path in splits.values()]
    is_sure = len(names) > 1 and any(first & second for first in names for second in names if first is not second)
    others = [path for path in others if not _contains(path.name, _BESIDE_SPLITS)]
    if others and not is_sure:
        named, beside = _list(path.name for path in splits.values()), _list(path.name for path in others)
        raise DatasetError(
            f"{folder} holds {named}, with the folders {_list(set.union(*names))}, beside {beside}. If all of them are "
            f"classes, give `layout` classes. If {named} are splits, move the others away."
        )
    [first, *rest] = classes
    name = first.path.name
    if {each.path.name for each in rest} <= {name} and first.is_divided and len(first.subfolders) > 1:
        raise DatasetError(
            f"The splits in {folder} hold only the folder {name}, with the folders {_list(first.subfolders)}. "
            f"If these are the classes, move them up, out of {name}. If {name} is a class, give `layout` classes."
        )


def find_unlabeled(classes: Sequence[ClassFolder], splits: Mapping[str, Path]) -> list[ClassFolder]:
    """Return folders that are the only one in their split and no class of another, as test/images and test/unknown."""
    names = Counter(each.path.name for each in classes)
    alone = Counter(each.path.parent for each in classes)
    held_out = {path for split, path in splits.items() if split != "train" and "train" in splits}
    return [
        each
        for each in classes
        if each.path.parent in held_out
        and alone[each.path.parent] == names[each.path.name] == 1
        and (is_filler(each.path.name) or split_of(each.path.name) or _contains(each.path.name, ("unknown", "unlabel")))
    ]


def find_inner_splits(classes: Sequence[ClassFolder]) -> dict[str, str]:
    """Return the splits of folders below classes (cat/train, cat/test) that hold all images; none if they do not."""
    names = {name for each in classes for name in each.subfolders}
    found = find_splits(names)
    return found if names == found.keys() and len({*found.values()}) > 1 else {}


def _likelihood(table: Path) -> tuple[bool, bool, Path]:
    """Return a key by which the table that seems to hold the labels is the first."""
    name = f"{table.parent.name}/{table.name}".lower()
    return "submission" in name or "test" in name, not any(word in name for word in ("train", "label", "meta")), table


def _check_table(folder: Path, classes: Sequence[ClassFolder], tables: Sequence[Path], has_images: bool) -> None:
    names = [each.path.name for each in classes]
    if not tables or (len(names) > 1 and not all(is_filler(name) or split_of(name) for name in names)):
        return
    beside = f"beside {_list(names)}" if names else "beside images" if has_images else "and no images"
    way_out = "If the folders are classes, give `layout` classes." if names else ""
    if wrapped := _wrapped(classes):
        way_out = f"If the names of folders are the labels, give {wrapped}."
    listed = _list(path.relative_to(folder).as_posix() for path in tables)
    raise DatasetError(
        f"{folder} holds {count(len(tables), 'table')} ({listed}) {beside}. "
        f"If a table holds the labels, give it instead of the folder: {tables[0]}. {way_out}".rstrip()
    )


def _check_wrapper(folder: Path, classes: Sequence[ClassFolder]) -> None:
    if wrapped := _wrapped(classes):
        inner = wrapped.relative_to(folder).parts[0]
        raise DatasetError(
            f"The folder {inner} in {folder} does not seem to be a class. Did you mean {wrapped}, with the folders "
            f"{_list(_below(classes, wrapped))}? If {inner} is a class, give `layout` classes."
        )


def _check_masks(folder: Path, classes: Sequence[ClassFolder]) -> None:
    """Raise DatasetError for folders of images and of their masks, which are no classes."""
    names = {each.path.name for each in classes}
    others = [name for name in names if not is_filler(name)]
    if len(names) > len(others) > 0 and all(_contains(name, _NO_CLASSES) for name in others):
        raise DatasetError(
            f"The folders {_list(names)} in {folder} do not seem to be classes. Sort the images into one folder per "
            "class, or give a table with the columns image and label. If they are classes, give `layout` classes."
        )


def _wrapped(classes: Sequence[ClassFolder]) -> Path | None:
    """Return the folder below that seems to be the one to give, if there is one."""
    likely = [each for each in classes if not _contains(each.path.name, _NO_CLASSES)]
    if len(likely) != 1 or (len(classes) > 1 and not is_filler(likely[0].path.name)) or not likely[0].is_divided:
        return None
    [one] = likely
    common = Path(os.path.commonpath([sample.path.parent for sample in one.samples]))
    return common if len(_below([one], common)) > 1 else None


def _below(classes: Iterable[ClassFolder], folder: Path) -> list[str]:
    paths = (sample.path for each in classes for sample in each.samples if sample.path.is_relative_to(folder))
    depth = len(folder.parts)
    return sorted({path.parts[depth] for path in paths if len(path.parts) > depth + 1})


def _check_inner_splits(classes: Sequence[ClassFolder]) -> None:
    if find_inner_splits(classes):
        return
    for each in classes:
        found = find_splits(each.subfolders)
        if len({*found.values()}) > 1:
            outside = next(path.parent for other in classes for path in other.outside(found))
            raise DatasetError(
                f"{each.path} holds {_list(found)}, named like splits, but there are images outside such folders, as "
                f"in {outside}. Make folders train and test with the class folders in them, or give `layout` classes "
                "to ignore these names."
            )


def _check_same_subfolders(folder: Path, classes: Sequence[ClassFolder]) -> None:
    below = [set(each.subfolders) - {""} for each in classes]
    common = set.intersection(*below) if len(below) > 1 else set()
    largest = max(map(len, below), default=0)
    if len(common) < 2 or len(common) * 2 < largest or find_inner_splits(classes):
        return
    if all(each.is_divided for each in classes):
        raise DatasetError(
            f"In {folder}, the folders {_list(each.path.name for each in classes)} hold the same folders, "
            f"{_list(common)}. If the former are splits, rename them to train, val and test. If they are "
            "classes, as with a folder for each patient or day in every class, give `layout` classes."
        )


def _contains(name: str, words: Iterable[str]) -> bool:
    return any(word in name.lower() for word in words)


def _list(names: Iterable[str]) -> str:
    listed = sorted(names)
    shown, more = listed[:MAX_SHOWN], len(listed) - MAX_SHOWN
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
