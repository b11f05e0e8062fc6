"""Reads class folders, alone, inside folders of splits, or with splits inside. `folder_checks` refuses unclear ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from belvedere.data.folder_checks import (
    ClassFolder,
    check_class_folders,
    check_filled,
    check_split_folders,
    find_inner_splits,
    find_unlabeled,
)
from belvedere.data.label_tables import ARCHIVE_SUFFIXES, TABLE_SUFFIXES
from belvedere.data.labels import compose
from belvedere.data.split_names import find_splits, is_filler, split_of
from belvedere.errors import DatasetError
from belvedere.images.listing import SkippedFiles, is_image
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample

NO_IMAGE = "not an image"
IGNORED_FOLDERS = ("__macosx", "@eadir")  # made by macOS archives and Synology disks


def read_folder(folder: Path, *, only_classes: bool = False) -> tuple[list[Sample], list[DataWarning]]:
    """Read a folder of class folders, or of splits with class folders.

    Args:
        folder: The folder.
        only_classes: Whether every folder in it is a class, whatever its name.

    Returns:
        The samples, sorted by path, and warnings on what was skipped.

    Raises:
        DatasetError: There are no images, a class folder has none, or the folders do not seem to be classes.
    """
    splits = {} if only_classes else _split_folders(folder)
    if splits:
        return _read_splits(folder, splits)
    ignored: list[Path] = []
    classes = _read_classes(folder, None, ignored)
    if only_classes:
        check_filled(classes)
    else:
        check_class_folders(folder, classes, ignored)
    if not classes:
        raise _nothing_found(folder, ignored)
    warnings = _ignored_warnings(ignored)
    if not only_classes and (inner := find_inner_splits(classes)):
        named = ", ".join(name if name == split else f"{name} as {split}" for name, split in sorted(inner.items()))
        return _divide(classes, inner), [DataWarning(f"Splits inside the class folders: {named}"), *warnings]
    return _samples(classes), warnings if only_classes else warnings + _split_name_warnings(folder, classes)


def _read_splits(folder: Path, splits: Mapping[str, Path]) -> tuple[list[Sample], list[DataWarning]]:
    ignored: list[Path] = []
    classes = [each for split, path in splits.items() for each in _read_classes(path, split, ignored)]
    beside = _list_beside(folder, splits)
    others = [path for path in _subfolders(folder) if path in beside and _has_image(path)]
    named = find_splits(path.name for path in _subfolders(folder))
    flat = {path: named[path.name] for path in others if path.name in named}
    if "train" not in splits and (training := next((path for path, split in flat.items() if split == "train"), None)):
        raise DatasetError(f"No class folders in {training}, only images. Sort them into one folder per class.")
    unlabeled = find_unlabeled(classes, splits)
    classes = [each for each in classes if each not in unlabeled]
    check_split_folders(folder, splits, [path for path in others if path not in flat], classes)
    warnings = _unlabeled_warnings([*flat, *(each.path for each in unlabeled)])
    skipped = [path for path in (*ignored, *beside) if path not in flat]
    return _samples(classes), [*warnings, *_ignored_warnings(skipped)]


def _unlabeled_warnings(folders: Iterable[Path]) -> list[DataWarning]:
    """Say that the images of held-out splits without class folders, as in many competitions, have no labels."""
    return [
        DataWarning(
            f"{count(sum(1 for _ in _walk(path, [])), 'image')} in {path} without class folders, and so without labels:"
            " not used. Sort them into class folders to measure with them, or predict them with the model",
        )
        for path in folders
    ]


def _samples(classes: Iterable[ClassFolder]) -> list[Sample]:
    return [sample for each in classes for sample in each.samples]


def _divide(classes: Iterable[ClassFolder], splits: dict[str, str]) -> list[Sample]:
    return [
        replace(sample, split=splits[sample.path.parts[len(each.path.parts)]])
        for each in classes
        for sample in each.samples
    ]


def _split_name_warnings(folder: Path, classes: Sequence[ClassFolder]) -> list[DataWarning]:
    splits = find_splits(each.path.name for each in classes)
    if len(splits) == len(classes) > 1:
        raise DatasetError(
            f"The folders {', '.join(sorted(splits))} in {folder} are named like splits and hold images, no class "
            "folders. Sort the images into class folders. If these folders are the classes, give `layout` classes."
        )
    named = tuple(str(each.path) for each in classes if each.path.name in splits)
    folders = count(len(named), "folder read as a class", "folders read as classes")
    message = f"{folders}, although named like a split"
    return [DataWarning(message, named)] if named else []


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the split folders; none where "train" is only the name of a class."""
    found: dict[str, Path] = {}
    children = list(_subfolders(folder))
    named = find_splits(child.name for child in children)
    for child in children:
        split = named.get(child.name)
        if split is None or not any(_subfolders(child)):
            continue
        if split in found:
            raise DatasetError(
                f"Two folders for one split ({split}) in {folder}: {found[split].name} and {child.name}. Keep one, or "
                "rename one to train, val or test."
            )
        found[split] = child
    is_used = "train" in found or len(named) == len(children)
    return {split: _descend(path, split) for split, path in found.items()} if is_used else {}


def _descend(folder: Path, split: str) -> Path:
    """Return the folder with the classes of a split: itself, or one below, as in Kaggle's seg_train/seg_train."""
    while True:
        inner = list(_subfolders(folder))
        if len(inner) != 1 or not any(_subfolders(inner[0])):
            return folder
        name = inner[0].name
        if name.lower() != folder.name.lower() and split_of(name) != split and not is_filler(name):
            return folder
        folder = inner[0]


def _list_beside(folder: Path, splits: Mapping[str, Path]) -> list[Path]:
    """Return what is in the folders above those of the splits, but for these."""
    above = {parent for path in splits.values() for parent in path.parents if parent.is_relative_to(folder)}
    expected = above.union(splits.values())
    return [path for parent in sorted(above) for path in sorted(parent.iterdir()) if path not in expected]


def _read_classes(folder: Path, split: str | None, ignored: list[Path]) -> list[ClassFolder]:
    classes = []
    ignored += [path for path in sorted(folder.iterdir()) if not path.is_dir() or _is_ignored_folder(path)]
    for path in _subfolders(folder):
        files: list[Path] = []
        label = compose(path.name)
        samples = [Sample(image, str(image), label, split) for image in _walk(path, files)]
        skipped = SkippedFiles(file.name for file in files if not file.is_dir() and not file.name.startswith("."))
        classes.append(ClassFolder(path, samples, skipped))
        ignored += files
    return classes


def _nothing_found(folder: Path, ignored: Iterable[Path]) -> DatasetError:
    files = [path for path in ignored if not path.is_dir() and not path.name.startswith(".")]
    others = [path for path in files if not is_image(path)]
    found = [count(len(files) - len(others), "image")] * (len(files) > len(others))
    found += [str(SkippedFiles(path.name for path in others))] * bool(others)
    held = f"no class folders, only {' and '.join(found)}" if found else "it is empty"
    unpack = " Unpack archives first." if any(path.suffix.lower() in ARCHIVE_SUFFIXES for path in others) else ""
    return DatasetError(
        f"No labeled images in {folder}: {held}.{unpack} Expected one folder of images per class (or train/ and test/ "
        "with such folders), or a table with the columns image and label."
    )


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
        elif is_image(path):
            yield path
        else:
            ignored.append(path)


def _has_image(folder: Path) -> bool:
    return next(_walk(folder, []), None) is not None


def _ignored_warnings(ignored: Iterable[Path]) -> list[DataWarning]:
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in (path for path in ignored if path.name != MARKER_FILE):
        kinds.setdefault((_ignored_kind(path), "folder" if path.is_dir() else "file"), []).append(path)
    warnings = []
    for (kind, noun), paths in sorted(kinds.items()):
        suffixes = f" ({SkippedFiles(path.name for path in paths).suffixes})" if kind == NO_IMAGE else ""
        warnings.append(DataWarning(f"{count(len(paths), noun)} skipped: {kind}{suffixes}", tuple(map(str, paths))))
    return warnings


def _ignored_kind(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        kind = "made by a program" if _is_ignored_folder(path) else "beside the splits"
        return "symbolic link" if path.is_symlink() else kind
    if path.suffix.lower() in TABLE_SUFFIXES:
        return "a table; if it holds the labels, give it instead of the folder"
    return "image outside the class folders" if is_image(path) else NO_IMAGE
