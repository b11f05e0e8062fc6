"""Lists the images in folders, in sorted order, and counts the other files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from belvedere.errors import UsageError
from belvedere.images.formats import START_BYTES, detect_format
from belvedere.images.inputs import Source
from belvedere.runtime.terminal import count, describe_error

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".png", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on
MAX_COUNTED = 1_000_000  # files counted before the work; with more, the total is unknown
MAX_SUFFIXES, MAX_SHOWN, MAX_SUFFIX_LENGTH = 100, 6, 16  # of skipped files: counted apart, and shown

Given = TypeVar("Given")


class SkippedFiles:
    """Counts files that are no images, by suffix; as text, such as "3 files (2 .txt, 1 without suffix)"."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self.total = 0
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Count a file."""
        suffix = os.path.splitext(name)[1].lower()[:MAX_SUFFIX_LENGTH] or "without suffix"  # noqa: PTH122
        self.total += 1
        if suffix in self._counts or len(self._counts) < MAX_SUFFIXES:  # the memory stays bounded
            self._counts[suffix] += 1

    def __bool__(self) -> bool:
        return bool(self.total)

    def __str__(self) -> str:
        return f"{count(self.total, 'file')} ({self.suffixes})"

    @property
    def suffixes(self) -> str:
        """The most frequent suffixes, with their numbers if there are several."""
        shown = self._counts.most_common(MAX_SHOWN)
        if len(shown) == 1:
            return shown[0][0]
        rest = self.total - sum(number for _, number in shown)
        return ", ".join([*(f"{number:,} {suffix}" for suffix, number in shown), *([f"{rest:,} others"] * bool(rest))])


def is_image(path: Path | str) -> bool:
    """Return whether a file has the suffix of an image, or no suffix and the content of one."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path per name is slow
    return suffix in IMAGE_SUFFIXES or (not suffix and _starts_like_image(path))


def _starts_like_image(path: Path | str) -> bool:
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - reading a pipe would wait
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return bool(detect_format(file.read(START_BYTES)))
    except OSError:
        return False


def list_images(folder: Path, skipped: SkippedFiles | None = None) -> Iterator[Path]:
    """Yield the images below a folder, sorted by name; see `is_image`.

    Args:
        folder: The folder.
        skipped: Counts the other files.

    Hidden entries are left out. Links to folders are not followed, since they may be circular. The names of one folder
    are in memory at a time, and those of the folders above it: about 90 MB per million.

    Raises:
        OSError: A folder cannot be read.
    """
    stack = [_scan(folder, skipped)]  # no recursion, since folders may be nested thousands deep
    while stack:
        for path, is_folder in stack[-1]:
            if is_folder:
                stack.append(_scan(path, skipped))
                break
            yield path
        else:
            stack.pop()


def _scan(folder: Path, skipped: SkippedFiles | None) -> Iterator[tuple[Path, bool]]:
    """Yield the images and folders in a folder, sorted by name, each with whether it is a folder."""
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(entry.name)
            elif not is_image(entry.path):
                if skipped is not None:
                    skipped.add(entry.name)
                continue
            names.append(entry.name)
    names.sort()
    return ((folder / name, name in folders) for name in names)


def iter_images(sources: Iterable[Given], skipped: SkippedFiles | None = None) -> Iterator[Given | Path]:
    """Yield sources, with the images below it in place of each folder; count the other files of folders in `skipped`.

    Raises:
        UsageError: A folder cannot be read.
    """
    for source in sources:
        if not is_folder(source):
            yield source
            continue
        try:
            yield from list_images(Path(str(source)), skipped)
        except OSError as error:
            raise UsageError(
                f"Cannot read the folder {error.filename}: {describe_error(error)}. Choose another folder."
            ) from error


def is_folder(source: object) -> bool:
    """Return whether a source of images is a folder."""
    try:
        return isinstance(source, Path | str) and Path(source).is_dir()
    except OSError:
        return False  # such as a name that is too long, which reading it reports


def count_images(sources: Iterable[Source], limit: int = MAX_COUNTED) -> int | None:
    """Count what `iter_images` yields, by names alone; None if there are more than `limit`."""
    number = sum(1 for _ in islice(iter_images(sources), limit + 1))
    return number if number <= limit else None
