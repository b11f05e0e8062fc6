"""Lists the images in folders, in sorted order."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from belvedere.errors import UsageError
from belvedere.images.inputs import Source
from belvedere.runtime.terminal import describe_error

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".png", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on
MAX_COUNTED = 1_000_000  # files counted before the work; with more, the total is unknown

Given = TypeVar("Given")


def list_images(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder whose suffix is that of an image, sorted by name.

    Hidden entries are left out. Links to folders are not followed, since they may be circular. The names of one folder
    are in memory at a time, and those of the folders above it: about 90 MB per million.

    Raises:
        OSError: A folder cannot be read.
    """
    stack = [_scan(folder)]  # no recursion, since folders may be nested thousands deep
    while stack:
        for path, is_folder in stack[-1]:
            if is_folder:
                stack.append(_scan(path))
                break
            yield path
        else:
            stack.pop()


def _scan(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the images and folders in a folder, sorted by name, each with whether it is a folder."""
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(entry.name)
            elif os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122 - a Path per name is slow
                continue
            names.append(entry.name)
    names.sort()
    return ((folder / name, name in folders) for name in names)


def iter_images(sources: Iterable[Given]) -> Iterator[Given | Path]:
    """Yield sources, with the images below it in place of each folder.

    Raises:
        UsageError: A folder cannot be read.
    """
    for source in sources:
        if not _is_folder(source):
            yield source
            continue
        try:
            yield from list_images(Path(str(source)))
        except OSError as error:
            raise UsageError(
                f"Cannot read the folder {error.filename}: {describe_error(error)}. Choose another folder."
            ) from error


def _is_folder(source: object) -> bool:
    try:
        return isinstance(source, Path | str) and Path(source).is_dir()
    except OSError:
        return False  # such as a name that is too long, which reading it reports


def count_images(sources: Iterable[Source], limit: int = MAX_COUNTED) -> int | None:
    """Count what `iter_images` yields, by names alone; None if there are more than `limit`."""
    count = sum(1 for _ in islice(iter_images(sources), limit + 1))
    return count if count <= limit else None
