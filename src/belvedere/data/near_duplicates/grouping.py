"""Groups of images that are copies of one another."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.array_cache import CachedArray
from belvedere.data.hashing import hash_pixels
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE, make_thumbnail
from belvedere.data.near_duplicates.search import DuplicatePair, find_near_duplicates
from belvedere.errors import InvalidImageError
from belvedere.images.decode import read_image
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress


def group_near_duplicates(paths: Sequence[Path], progress: Progress) -> list[list[int]]:
    """Return groups of the positions of N image files that are copies of one another, identical files included.

    Unreadable files are in no group.
    """
    copies: defaultdict[bytes, list[int]] = defaultdict(list)
    with tempfile.TemporaryFile(buffering=0) as file:
        with progress.task("Reading images", len(paths)) as task:
            for index, (key, thumbnail) in enumerate(parallel_map(_read, paths)):
                file.write(thumbnail.tobytes())
                if key:
                    copies[key].append(index)
                task.advance(1)
        unique = [members[0] for members in copies.values()]
        thumbnails = CachedArray(file, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8, np.array(unique, np.int64))
        pairs = find_near_duplicates([paths[index] for index in unique], thumbnails, progress)
    identical = list(copies.values())
    groups = [members for members, _ in connected_components(pairs)]
    grouped = {row for members in groups for row in members}
    groups += [[row] for row in range(len(identical)) if row not in grouped and len(identical[row]) > 1]
    return sorted(sorted(index for row in members for index in identical[row]) for members in groups)


def _read(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    try:
        pixels = read_image(path)
    except InvalidImageError:
        return b"", np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    return hash_pixels(pixels), make_thumbnail(pixels)


def connected_components(pairs: Iterable[DuplicatePair]) -> Iterator[tuple[list[int], float]]:
    """Yield groups of connected images, each with the similarity of its least similar pair (union-find)."""
    parent: dict[int, int] = {}
    least: dict[int, float] = {}

    def find(index: int) -> int:
        while parent.setdefault(index, index) != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for pair in pairs:
        first, second = find(pair.first), find(pair.second)
        parent[second] = first
        least[first] = min(pair.similarity, least.get(first, 1.0), least.get(second, 1.0))
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in sorted(parent):
        members[find(index)].append(index)
    for root, indices in members.items():
        yield indices, least[root]
