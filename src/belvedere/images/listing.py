"""Folders of pictures, walked in order and in flat memory, however many files they hold.

Knows names and the order of a folder; does not open a file, nor ask the disk about one.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TypeVar

from belvedere.errors import UsageError
from belvedere.images.decode import PICTURE_SUFFIXES
from belvedere.images.inputs import Source

COUNTED = 1_000_000  # files that are counted before the work; of more, nobody is told how many are left

Given = TypeVar("Given")

NAMES_AT_ONCE = 100_000  # of one folder, sorted in memory; a larger folder is sorted in pieces on disk

Entry = tuple[str, bool]  # a name, and whether it is a folder's


def list_pictures(folder: Path) -> Iterator[Path]:
    """Walks a folder for files whose suffix is a picture's, in sorted order.

    Hidden ones are left out, and links to folders not followed, lest one leads in a circle.

    Raises:
        OSError: A folder can't be read.
    """
    listed = [(folder, _sorted_entries(folder))]  # and the folders in it that it is at: there may be thousands
    while listed:
        place, entries = listed[-1]
        for name, is_folder in entries:
            if is_folder:
                listed.append((place / name, _sorted_entries(place / name)))
                break
            yield place / name
        else:
            listed.pop()


def _sorted_entries(folder: Path) -> Iterator[Entry]:
    with os.scandir(folder) as listing:
        entries = (
            (entry.name, is_folder)
            for entry in listing
            if not entry.name.startswith(".")
            and ((is_folder := entry.is_dir(follow_symlinks=False)) or _is_picture(entry.name))
        )
        pieces = list(_sort_in_pieces(entries))
    return merge(*pieces)


def _sort_in_pieces(entries: Iterator[Entry]) -> Iterator[Iterable[Entry]]:
    while piece := sorted(islice(entries, NAMES_AT_ONCE)):
        # Most folders are one piece, which need not touch the disk.
        yield piece if len(piece) < NAMES_AT_ONCE else _through_disk(piece)
        del piece  # before the next is gathered


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122 - a Path for each name takes longer


def _through_disk(entries: list[Entry]) -> Iterator[Entry]:
    """Keeps entries in a file without a name until they are asked for."""
    file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - closed when it has been read
    file.writelines(f"{json.dumps(entry)}\n" for entry in entries)
    file.seek(0)

    def read() -> Iterator[Entry]:
        with file:
            for line in file:
                name, is_folder = json.loads(line)
                yield name, is_folder

    return read()


def expand(sources: Iterable[Given]) -> Iterator[Given | Path]:
    """Puts in a folder's place the pictures in it, sorted; leaves everything else as it is.

    Raises:
        UsageError: A folder can't be read.
    """
    for source in sources:
        if not _is_folder(source):
            yield source
            continue
        try:
            yield from list_pictures(Path(str(source)))
        except OSError as error:
            raise UsageError(f"Can't read the folder {error.filename}: {error.strerror}. Give another.") from error


def _is_folder(source: object) -> bool:
    try:
        return isinstance(source, Path | str) and Path(source).is_dir()
    except OSError:
        return False  # such as a name that is too long: reading it as a file says so


def count_pictures(sources: Iterable[Source], most: int = COUNTED) -> int | None:
    """Counts what `expand` gives, by names alone; None where it is more than `most`."""
    counted = sum(1 for _ in islice(expand(sources), most + 1))
    return counted if counted <= most else None
