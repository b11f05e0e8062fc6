"""Finds the images that a table names: paths of other systems and folders, and names without a suffix."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from belvedere.errors import DatasetError
from belvedere.images.listing import IMAGE_SUFFIXES
from belvedere.types.data import DataWarning

MAX_LEARNED = 100  # names that are looked for in every way
MAX_NAME, MAX_DROPPED = 4096, 32  # characters of a name, and folders that it may lose
MAX_SHOWN = 3  # of the paths that were tried
MAX_SEARCHED = 1000  # folders that are looked into for a hint
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
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
        self._folders: dict[Path, tuple[PurePosixPath, str]] = {}  # of names that lost folders, and the name
        self._missing: list[tuple[str, str]] = []  # position and name
        self._num_found = 0
        self.example: tuple[str, Path] | None = None  # a name that is not the path, and its path

    def find(self, name: str, position: str) -> Path:
        """Return the path of a name; that below the root folder if there is no file.

        Raises:
            DatasetError: The name is an address, or names in two folders are the same file without their folders.
        """
        if os.path.isfile(os.path.join(self._root, name)):  # noqa: PTH113, PTH118 - a tenth of the time
            self._learn(0)
            return self._root / name
        if _ADDRESS.match(name):
            raise DatasetError(f"{position}: not a path but an address, {name[:200]!r}. Download the images first.")
        self._tries += 1
        if self._dropped is not None or self._tries <= MAX_LEARNED:
            for dropped, path in self._candidates(name):
                if os.path.isfile(path):  # noqa: PTH113
                    if dropped:
                        self._check_folder(path, name, position)
                    self._learn(dropped)
                    self._suffixes = tuple(dict.fromkeys((path.suffix, *self._suffixes)))
                    self.example = self.example or (name, path)
                    return path
        self._missing.append((position, name))
        return self._root / name

    def _learn(self, dropped: int) -> None:
        self._num_found += 1
        if self._dropped is None:
            self._dropped = dropped

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
            found = " and in ".join(map(str, self._search(name)))
            hint = f"It is in {found}: give that" if found else "Give the folder of the images"
            raise DatasetError(f"No image found: {position}: {name[:200]!r}, tried {tried}. {hint} as `root`.")
        files = "1 image" if len(self._missing) == 1 else f"{len(self._missing):,} images"
        names = tuple(f"{each} ({where})" for where, each in self._missing)
        return [*warnings, DataWarning(f"{files} not found, tried {tried}", names)]

    def _check_folder(self, path: Path, name: str, position: str) -> None:
        folder = PurePosixPath(name.strip().replace("\\", "/")).parent
        known, other = self._folders.setdefault(path, (folder, name))
        if known != folder:
            raise DatasetError(
                f"{position}: {other[:200]!r} and {name[:200]!r} would both be read as {path}. "
                "Give the folder that holds their folders as `root`."
            )

    def _candidates(self, name: str) -> Iterator[tuple[int, Path]]:
        if len(name) > MAX_NAME:
            return
        spellings = dict.fromkeys((name.strip(), name.strip().replace("\\", "/")))
        forms = dict.fromkeys(unicodedata.normalize(form, each) for each in spellings for form in ("NFC", "NFD"))
        for each in dict.fromkeys((*spellings, *forms)):
            parts = [part for part in each.split("/") if part not in ("", ".")]
            counts = range(min(len(parts), MAX_DROPPED)) if self._dropped is None else dict.fromkeys((0, self._dropped))
            for dropped in counts:
                if dropped >= len(parts):
                    continue
                kept = each if dropped == 0 else "/".join(parts[dropped:])
                yield from ((dropped, self._root / variant) for variant in self._variants(kept))

    def _variants(self, name: str) -> Iterator[str]:
        """Yield a name, then with its suffix in another case or, if it has none, with those of images."""
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - also for a name such as ".."
        has_suffix = suffix.lower() in IMAGE_SUFFIXES
        suffixes = self._suffixes if len(self._missing) <= MAX_LEARNED else self._suffixes[:1]
        variants = (stem + suffix.lower(), stem + suffix.upper()) if has_suffix else (name + each for each in suffixes)
        yield from dict.fromkeys((name, *variants))

    def _describe_tried(self, name: str) -> str:
        paths = chain([self._root / name], (path for _, path in self._candidates(name)))
        tried = [str(path)[:300] for path in dict.fromkeys(paths)]
        more = len(tried) - MAX_SHOWN
        return ", ".join(tried[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")

    def _search(self, name: str) -> list[Path]:
        """Return folders below the root folder in which the name, or its last part, is a file."""
        whole = name.strip().replace("\\", "/")
        pending, found = [self._root], list[Path]()
        names = tuple(dict.fromkeys((*self._variants(whole), *self._variants(whole.rpartition("/")[2]))))
        for folder in islice(pending, MAX_SEARCHED):  # grows meanwhile
            if any(os.path.isfile(folder / each) for each in names):  # noqa: PTH113
                found.append(folder)
            with suppress(OSError), os.scandir(folder) as entries:
                pending += sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        return found[:MAX_SHOWN]
