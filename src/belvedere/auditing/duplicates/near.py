"""Near duplicates: pictures that are copies of one another, resized, compressed again, cut a little, mirrored or lit.

Knows how likely pairs are found and how a pair is made sure of; does not know labels or groups.

Candidates are the nearest few by a small descriptor, view by view; most are told apart from copies by their thumbs, in
two rounds, and those that are left are laid over each other at twice the size, read from their files again.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.duplicates.alignment import align_best, high_pass
from belvedere.auditing.duplicates.ann_index import Neighbours
from belvedere.auditing.duplicates.descriptors import VIEWS, WHOLE, View, describe
from belvedere.auditing.image_statistics import to_grey
from belvedere.data.array_cache import CachedArray
from belvedere.images.decode import DecodedImage, read_inputs
from belvedere.runtime.parallel import chunks_of, parallel_map
from belvedere.runtime.progress import Progress, Task
from belvedere.types.model import Preprocess

NEAREST = 3  # of a view that are looked at
LEAST_COSINE = 0.82  # of copies that were cut by a tenth of their sides, 999 in 1000 are nearer
DESCRIBED_TOGETHER = 4096
COMPARED_TOGETHER = 256  # pairs that a thread takes at once
AHEAD = 8  # such handfuls
MIN_DUPLICATE_SIMILARITY = 0.93  # cosine from which a pair is worth a second look
COARSE_STEPS, CUT_STEPS, THUMB_STEPS, FINE_STEPS = 3, 2, 8, 4
COARSE_LIKENESS, THUMB_LIKENESS = 0.2, 0.4  # below which a pair is no copy, after each round
FINE_SIDE = 64  # pixels
COPY = 0.7  # likeness from which a pair is a copy

_reading = threading.Lock()  # rows are read from one file by seeking in it

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Pairs:
    """Pictures beside their likely copies."""

    firsts: Rows  # (P,) places of the larger views
    seconds: Rows  # (P,)
    views: Rows  # (P,) of the firsts, places in VIEWS
    cosines: Floats  # (P,) of the descriptors

    def __len__(self) -> int:
        return len(self.firsts)

    def take(self, chosen: NDArray[np.bool_] | Rows) -> "Pairs":
        """Returns some of them."""
        return Pairs(self.firsts[chosen], self.seconds[chosen], self.views[chosen], self.cosines[chosen])


@dataclass(frozen=True, slots=True)
class Copy:
    """Two pictures of which one was made from the other, or both from a third."""

    first: int  # place
    second: int
    likeness: float  # of their details, 0 to 1


def find_copies(paths: Sequence[Path], thumbs: CachedArray, progress: Progress) -> list[Copy]:
    """Finds near duplicates.

    Args:
        paths: N files, no two of which have the same pixels.
        thumbs: (N, 32, 32) uint8, of the same.
        progress: Shows how far it is.

    Returns:
        Pairs, surest first.
    """
    if len(paths) < 2:
        return []
    candidates = find_candidates(thumbs, progress)
    with progress.task("Comparing pictures", len(candidates), "pairs") as task:
        sure = _compare_thumbs(candidates, thumbs, task)
    copies: list[Copy] = []
    with progress.task("Looking closely", len(sure[0]), "pairs") as task:
        for start in range(0, len(sure[0]), COMPARED_TOGETHER):
            chosen = np.arange(start, min(start + COMPARED_TOGETHER, len(sure[0])))
            pairs = sure[0].take(chosen)
            alike = _compare_files(pairs, sure[1][chosen], paths)
            rows = zip(pairs.firsts.tolist(), pairs.seconds.tolist(), alike.tolist(), strict=True)
            copies += [Copy(min(pair), max(pair), min(1.0, value)) for *pair, value in rows if value >= COPY]
            task.advance(len(chosen))
    return sorted(copies, key=lambda copy: (-copy.likeness, copy.first, copy.second))


def find_candidates(thumbs: CachedArray, progress: Progress) -> Pairs:
    """Finds pairs that are near in some view: each pair once, in its nearest view."""
    with progress.task("Seeking copies", len(thumbs) * (1 + len(VIEWS))) as task:
        whole = np.concatenate([describe(part) for part in _each(thumbs, task)])
        near = Neighbours(whole)
        found = []
        for view, seen in enumerate(VIEWS):
            start = 0
            for part in _each(thumbs, task):
                own = np.arange(start, start + len(part))
                queries, seconds, cosines = near.search(describe(part, seen), own, NEAREST, LEAST_COSINE)
                found.append((own[queries], seconds, np.full(len(queries), view), cosines))
                start += len(part)
    firsts, seconds, views, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    nearest_first = np.argsort(-cosines, kind="stable")
    names = np.minimum(firsts, seconds) * len(thumbs) + np.maximum(firsts, seconds)
    _, first_found = np.unique(names[nearest_first], return_index=True)
    kept = nearest_first[first_found]
    return Pairs(firsts[kept], seconds[kept], views[kept], cosines[kept])


def _each(thumbs: CachedArray, task: Task) -> Iterable[NDArray[np.uint8]]:
    for start in range(0, len(thumbs), DESCRIBED_TOGETHER):
        part = thumbs[np.arange(start, min(start + DESCRIBED_TOGETHER, len(thumbs)))]
        yield part
        task.advance(len(part))


def _compare_thumbs(pairs: Pairs, thumbs: CachedArray, task: Task) -> tuple[Pairs, Floats]:
    """Keeps the pairs whose thumbs may be copies, with the windows in which they are."""
    kept, windows = [np.empty(0, np.intp)], [np.empty((0, 4), np.float32)]
    chunks = (np.array(chunk) for chunk in chunks_of(range(len(pairs)), COMPARED_TOGETHER))
    for compared, (rows, found) in parallel_map(
        lambda rows: (len(rows), _compare_some(rows, pairs, thumbs)), chunks, AHEAD
    ):
        kept.append(rows)
        windows.append(found)
        task.advance(compared)
    return pairs.take(np.concatenate(kept)), np.concatenate(windows)


def _compare_some(rows: Rows, pairs: Pairs, thumbs: CachedArray) -> tuple[Rows, Floats]:
    some = pairs.take(rows)
    with _reading:
        first, second = (thumbs[places].astype(np.float32) for places in (some.firsts, some.seconds))
    first = _mirror(first, some.views)
    details = high_pass(second)
    found, likely = _align_coarsely(first, second, details, some)
    if likely.any():
        first, second, details, rows = first[likely], second[likely], details[likely], rows[likely]
        found, alike = align_best(first, second, [found[likely]], THUMB_STEPS, (first, details))
        likely = alike >= THUMB_LIKENESS
    return rows[likely], found[likely]


def _align_coarsely(first: Floats, second: Floats, details: Floats, pairs: Pairs) -> tuple[Floats, NDArray[np.bool_]]:
    """Windows to go on from, and which pairs may be copies; those that are very near get a second chance."""
    begin = np.array([VIEWS[view].window for view in pairs.views], np.float32)
    begins = begin, _repeat(WHOLE, len(begin))  # a view may be near by chance
    found, alike = align_best(_halve(first), _halve(second), begins, COARSE_STEPS, (first, details), detailed=False)
    again = (alike < COARSE_LIKENESS) & (pairs.cosines >= MIN_DUPLICATE_SIMILARITY)
    if again.any():  # a cut copy with fine details only, or one that another cut view is nearer to by chance
        first, second, details = first[again], second[again], details[again]
        cut = [_repeat(view, len(first)) for view in VIEWS if view.size < 1]
        found[again], alike[again] = align_best(first, second, cut, CUT_STEPS, (first, details), detailed=False)
    return found, alike >= COARSE_LIKENESS


def _repeat(view: View, count: int) -> Floats:
    return np.tile(np.array(view.window, np.float32), (count, 1))


def _compare_files(pairs: Pairs, windows: Floats, paths: Sequence[Path]) -> Floats:
    """Says how alike pairs are at twice the size of their thumbs; nothing where a file can't be read any more."""
    places = sorted({*pairs.firsts.tolist(), *pairs.seconds.tolist()})
    size = Preprocess(FINE_SIDE, FINE_SIDE)
    pictures = {
        place: to_grey(outcome.pixels)
        for place, outcome in zip(places, read_inputs((paths[place] for place in places), size), strict=True)
        if isinstance(outcome, DecodedImage)
    }
    missing = np.zeros((FINE_SIDE, FINE_SIDE), np.float32)
    alike = [np.empty(0, np.float32)]
    for rows in chunks_of(range(len(pairs)), COMPARED_TOGETHER // 8):  # larger pictures, fewer at once
        some = pairs.take(np.array(rows))
        first, second = (
            np.stack([pictures.get(place, missing) for place in part.tolist()]) for part in (some.firsts, some.seconds)
        )
        first = _mirror(first, some.views)
        alike.append(align_best(first, second, [windows[rows]], FINE_STEPS, (first, high_pass(second)))[1])
    return np.concatenate(alike)


def _mirror(pictures: Floats, views: Rows) -> Floats:
    mirrored = np.array([view.mirrored for view in VIEWS])[views]
    return np.where(mirrored[:, None, None], pictures[:, :, ::-1], pictures)


def _halve(pictures: Floats) -> Floats:
    count, side, _ = pictures.shape
    halved: Floats = pictures.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4))
    return halved
