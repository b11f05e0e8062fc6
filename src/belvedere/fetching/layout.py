"""Paths of unpacked files: doubled folders are dropped, and names that could do harm are refused."""

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence

from belvedere.data.folders import IGNORED_FOLDERS
from belvedere.data.split_names import split_of
from belvedere.errors import ArchiveError
from belvedere.runtime.operating_system import problem_with_name

MAX_DEPTH = 16  # folders above a file
MAX_NAME_BYTES = 255  # of a folder or file, as most disks allow
_DRIVE = re.compile(r"[a-zA-Z]:")

Parts = tuple[str, ...]


def split_name(name: str) -> Parts:
    r"""Return the parts of the name of an archive's entry; `\` separates them too, as in archives made on Windows.

    Raises:
        ArchiveError: The name leads out of the folder, or is no name of a file.
    """
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    problem = ""
    if plain.startswith("/") or _DRIVE.match(plain):
        problem = "an absolute path"
    elif ".." in parts:
        problem = "a path out of the folder"
    elif len(parts) > MAX_DEPTH + 1:
        problem = f"more than {MAX_DEPTH} folders deep"
    elif any(problem_with_name(part) or len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts):
        problem = "not a valid name of a file here"
    if problem or not parts:
        raise refusal(f"an entry is {problem or 'without a name'}: {name[:200]!r}")
    return parts


def is_hidden(parts: Parts) -> bool:
    """Return whether a file is hidden, or made by a program, as `__MACOSX/._1.jpg`."""
    return any(part.startswith(".") or part.lower() in IGNORED_FOLDERS for part in parts)


def arrange(files: Sequence[Parts], folders: Mapping[str, str]) -> list[Parts | None]:
    """Return where each file is put.

    Args:
        files: Names of the files in the archive.
        folders: Folders that are unpacked, and their new names. Empty: all, under their own names.

    Returns:
        The parts of each new name; None for a file outside of `folders`.
    """
    if folders:
        return [_in_folder(parts, folders) for parts in files]
    plain = _drop_doubled(files)
    while _has_wrapper(plain):
        plain = _drop_doubled([parts[1:] for parts in plain])
    return list(plain)


class DistinctNames:
    """Names of files that stay different on a disk that ignores letter case or Unicode forms."""

    def __init__(self) -> None:
        # By the number of the folder above and the name: number, name as it was given, and whether it is a file.
        self._known: dict[tuple[int, str], tuple[int, str, bool]] = {}

    def add(self, parts: Parts) -> None:
        """Add the name of a file.

        Raises:
            ArchiveError: A file or folder has this name already, perhaps in another spelling.
        """
        above = 0
        for depth, part in enumerate(parts):
            is_file = depth == len(parts) - 1
            key = above, unicodedata.normalize("NFC", part).casefold()
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = len(self._known) + 1, part, is_file
            elif is_file or known[1:] != (part, False):
                one, other = ("/".join((*parts[:depth], name)) for name in (known[1], part))
                raise refusal(f"two entries have one name: {one} and {other}")
            above = known[0]


def refusal(reason: str) -> ArchiveError:
    """Return the error of an archive that is not unpacked."""
    return ArchiveError(f"The archive was refused: {reason}. Nothing was unpacked.")


def _drop_doubled(files: Sequence[Parts]) -> list[Parts]:
    """Drop folders that are the only thing in a folder of the same name, as in `seg_train/seg_train`."""
    only_child: dict[Parts, str] = {}  # empty if there are several
    for parts in files:
        for depth, part in enumerate(parts):
            if only_child.setdefault(parts[:depth], part) != part:
                only_child[parts[:depth]] = ""
    return [
        tuple(
            part
            for depth, part in enumerate(parts)
            if not 0 < depth < len(parts) - 1
            or part.casefold() != parts[depth - 1].casefold()
            or not only_child[parts[:depth]]
        )
        for parts in files
    ]


def _has_wrapper(files: Sequence[Parts]) -> bool:
    """Return whether all files are in one folder that is neither a class nor a split, as in `flowers/rose/1.jpg`."""
    tops = {parts[0] for parts in files}
    return len(tops) == 1 and split_of(*tops) is None and all(len(parts) > 2 for parts in files)


def _in_folder(parts: Parts, folders: Mapping[str, str]) -> Parts | None:
    for depth, part in enumerate(parts[:-1]):
        if part in folders:
            rest = parts[depth + 1 :]
            return (folders[part], *(rest[1:] if rest[0] == part and len(rest) > 1 else rest))
    return None
