"""Finds the images that a table names: paths of other systems and folders, and names without a suffix."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from belvedere.errors import DatasetError
from belvedere.images.listing import IMAGE_SUFFIXES
from belvedere.types.data import DataWarning

MAX_LEARNED = 100  # names that are looked for in every way
MAX_SHOWN = 3  # of the paths that were tried
MAX_SEARCHED = 1000  # folders that are looked into for a hint
_WEB_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_USUAL = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
_SUFFIXES = (*_USUAL, *sorted(IMAGE_SUFFIXES - set(_USUAL)))


class ImagePaths:
    r"""Finds the file of each name in a table.

    A name is looked for as it is, below the root folder. If that is no file, it is looked for with `/` for `\`, without
    leading folders (as in the path of another machine), in another Unicode form and with a suffix. The first name that
    is found decides how many leading folders the others lose, so that no file of another folder is taken.

    Args:
        root: Folder that the names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._dropped: int | None = None  # leading folders that names lose; None: not known yet
        self._suffixes: tuple[str, ...] = _SUFFIXES  # the last one that was found first
        self._tries = 0
        self._missing: list[tuple[str, str]] = []  # position and name
        self._num_found = 0
        self.example: tuple[str, Path] | None = None  # a name that is not the path, and its path

    def find(self, name: str, position: str) -> Path:
        """Return the path of a name; that below the root folder if there is no file."""
        plain = self._root / name
        if os.path.isfile(plain):  # noqa: PTH113 - not for a name that is invalid or too long
            self._num_found += 1
            return plain
        if _WEB_ADDRESS.match(name):
            raise DatasetError(f"{position}: the image is a web address, {name[:200]!r}. Download the images first.")
        self._tries += 1
        if self._dropped is not None or self._tries <= MAX_LEARNED:
            for dropped, path in self._candidates(name):
                if os.path.isfile(path):  # noqa: PTH113
                    self._dropped, self._num_found = dropped, self._num_found + 1
                    self._suffixes = tuple(dict.fromkeys((path.suffix, *self._suffixes)))
                    self.example = self.example or (name, path)
                    return path
        self._missing.append((position, name))
        return plain

    def check(self) -> list[DataWarning]:
        """Return what is to be said after the last name.

        Raises:
            DatasetError: There is no file for any name.
        """
        warnings = []
        if self.example is not None:
            name, path = self.example
            warnings.append(DataWarning(f"Paths of images: {name!r} is read as {path}"))
        if not self._missing:
            return warnings
        position, name = self._missing[0]
        tried = self._describe_tried(name)
        if not self._num_found:
            where = self._search(name)
            hint = f"It is in {where}: give `root` {where}" if where else "Give the folder of the images as `root`"
            raise DatasetError(f"No image found: {position}: {name[:200]!r}, tried {tried}. {hint}.")
        files = "1 image" if len(self._missing) == 1 else f"{len(self._missing):,} images"
        names = tuple(f"{each} ({where})" for where, each in self._missing)
        return [*warnings, DataWarning(f"{files} not found, tried {tried}", names)]

    def _candidates(self, name: str) -> Iterator[tuple[int, Path]]:
        spellings = dict.fromkeys((name.strip(), name.strip().replace("\\", "/")))
        forms = dict.fromkeys(unicodedata.normalize(form, each) for each in spellings for form in ("NFC", "NFD"))
        for each in dict.fromkeys((*spellings, *forms)):
            parts = [part for part in each.split("/") if part not in ("", ".")]
            counts = range(len(parts)) if self._dropped is None else dict.fromkeys((0, self._dropped))
            for dropped in counts:
                if dropped >= len(parts):
                    continue
                kept = each if dropped == 0 else "/".join(parts[dropped:])
                for suffix in self._possible_suffixes(kept):
                    yield dropped, self._root / (kept + suffix)

    def _possible_suffixes(self, name: str) -> Iterator[str]:
        has_suffix = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - not of a name such as ".."
        return iter(("",) if has_suffix else ("", *self._suffixes))

    def _describe_tried(self, name: str) -> str:
        paths = chain([self._root / name], (path for _, path in self._candidates(name)))
        tried = [str(path)[:300] for path in dict.fromkeys(paths)]
        more = len(tried) - MAX_SHOWN
        return ", ".join(tried[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")

    def _search(self, name: str) -> Path | None:
        """Return a folder below the root folder in which the name, or its last part, is a file."""
        whole = name.strip().replace("\\", "/")
        pending = [self._root]
        for folder in islice(pending, MAX_SEARCHED):  # grows meanwhile
            for part in dict.fromkeys((whole, whole.rpartition("/")[2])):
                if any(os.path.isfile(folder / (part + suffix)) for suffix in self._possible_suffixes(part)):  # noqa: PTH113
                    return folder
            with suppress(OSError), os.scandir(folder) as entries:
                pending += sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        return None
