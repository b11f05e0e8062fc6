"""Near duplicates: copies that are resized, recompressed, slightly cropped, mirrored or brightened.

Candidates are nearest neighbors by descriptor, view by view. Most non-duplicates are rejected by their thumbnails in
three rounds; the rest are read again and aligned at twice the size. Those that are alike there are compared in detail.
"""

import itertools
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.array_cache import CachedArray
from belvedere.data.near_duplicates.alignment import align_best, high_pass, warp
from belvedere.data.near_duplicates.ann_index import InvertedFileIndex
from belvedere.data.near_duplicates.confirmation import (
    MAX_LAYOUT_MISMATCH,
    MAX_MISMATCH,
    Pyramid,
    detail_size,
    dominant_chroma,
    have_other_colors,
    local_mismatches,
    pyramid,
)
from belvedere.data.near_duplicates.descriptors import VIEWS, WHOLE, View, describe
from belvedere.errors import InvalidImageError
from belvedere.images.decode import DecodedImage, read_image
from belvedere.images.gray import to_gray
from belvedere.images.inputs import read_inputs
from belvedere.images.resize import resize_image
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.parallel import batched, parallel_map
from belvedere.runtime.progress import Progress, Task
from belvedere.types.model import Preprocess

NUM_NEIGHBORS = 3  # of each view
MAX_NEIGHBORS = 10  # of which the others are closer than this: documents of one layout crowd
CROWDED_COSINE = 0.97
MIN_COSINE = 0.82  # reached by 999 of 1000 copies whose sides are cropped by a tenth
DESCRIBE_CHUNK = 4096  # thumbnails
COMPARE_CHUNK = 1024  # pairs of thumbnails a thread takes at once; with fewer, threads wait for Python's lock
FILES_CHUNK, ALIGNED_FILES = 256, 64  # pairs of images that are read at once, and aligned at once
PREFETCH_CHUNKS = 8
DETAILS_CHUNK = 16  # pairs a thread takes at once, and compares together
MAX_DETAILS_PIXELS = 4 * 512**2  # of either side of the pairs that are compared together
SECOND_CHANCE_COSINE = 0.93  # of pairs that get a second coarse alignment, and are not rejected before the first
COARSE_STEPS, CROP_STEPS, THUMBNAIL_STEPS, FINE_STEPS = 3, 2, 8, 4
MAX_SHIFT = 2  # pixels of a halved thumbnail
MIN_SHIFTED_SIMILARITY = 0.35  # before alignment
MIN_COARSE_SIMILARITY, MIN_THUMBNAIL_SIMILARITY = 0.2, 0.4  # after each round
FINE_SIZE = 64  # pixels
MIN_SIMILARITY = 0.7  # of a duplicate
NUM_KEPT_IMAGES = 128
CROWD = 5  # similar images, from which they probably have one layout, and more of the details must match

_read_lock = threading.Lock()  # rows are read from one file by seeking

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Candidates:
    """Pairs of images that may be duplicates."""

    firsts: Rows  # (P,) positions of the images with the larger view
    seconds: Rows  # (P,)
    views: Rows  # (P,) of the firsts, positions in VIEWS
    cosines: Floats  # (P,) of the descriptors

    def __len__(self) -> int:
        return len(self.firsts)

    def select(self, rows: NDArray[np.bool_] | Rows) -> "Candidates":
        """Return some of the pairs."""
        return Candidates(self.firsts[rows], self.seconds[rows], self.views[rows], self.cosines[rows])


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two images of which one is a copy of the other, or both of a third."""

    first: int  # position
    second: int
    similarity: float  # of the details, 0 to 1


def find_near_duplicates(paths: Sequence[Path], thumbnails: CachedArray, progress: Progress) -> list[DuplicatePair]:
    """Return near duplicates among N files with different pixels and their thumbnails, (N, 32, 32), best first."""
    if len(paths) < 2:
        return []
    candidates = find_candidates(thumbnails, progress)
    with progress.task("Comparing thumbnails", len(candidates), "pairs") as task:
        likely, windows = _compare_thumbnails(candidates, thumbnails, task)
    order = _order_by_component(likely, len(paths))
    likely, windows = likely.select(order), windows[order]
    similar, similarities = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    with progress.task("Comparing images", len(likely), "pairs") as task:
        for start in range(0, len(likely), FILES_CHUNK):
            rows = np.arange(start, min(start + FILES_CHUNK, len(likely)))
            values = _compare_files(likely.select(rows), windows[rows], paths)
            # Copies of documents may be less similar at this size than other documents of their layout.
            kept = (values >= MIN_SIMILARITY) | (likely.cosines[rows] >= CROWDED_COSINE)
            similar.append(rows[kept])
            similarities.append(values[kept])
            task.advance(len(rows))
    rows = np.concatenate(similar)
    pairs = likely.select(rows)
    values = np.concatenate(similarities)
    confirmed = confirm(pairs, windows[rows], values >= MIN_SIMILARITY, paths, progress)
    return sorted(
        (
            DuplicatePair(min(pair), max(pair), min(1.0, value))
            for *pair, value, same in zip(
                *(column.tolist() for column in (pairs.firsts, pairs.seconds, values, confirmed)),
                strict=True,
            )
            if same
        ),
        key=lambda pair: (-pair.similarity, pair.first, pair.second),
    )


def _order_by_component(pairs: Candidates, num_images: int) -> Rows:
    """Return an order of the pairs in which those of connected images follow one another: few are read twice."""
    component, previous = np.arange(num_images), np.empty(0, np.intp)
    while not np.array_equal(component, previous):
        previous = component.copy()
        lower = np.minimum(component[pairs.firsts], component[pairs.seconds])
        np.minimum.at(component, pairs.firsts, lower)
        np.minimum.at(component, pairs.seconds, lower)
        component = component[component]
    return np.lexsort((pairs.seconds, pairs.firsts, component[pairs.firsts]))


def confirm(
    pairs: Candidates, windows: Floats, similar: NDArray[np.bool_], paths: Sequence[Path], progress: Progress
) -> NDArray[np.bool_]:
    """Return which pairs, (P,), do not differ in detail; each image is read again at a larger size.

    The limit is lower for pairs that were not `similar`, (P,), before, and among many similar images.
    """
    num_similar = np.bincount(np.concatenate([pairs.firsts, pairs.seconds]), minlength=len(paths))
    is_strict = ~similar | (np.minimum(num_similar[pairs.firsts], num_similar[pairs.seconds]) >= CROWD)

    @lru_cache(NUM_KEPT_IMAGES)  # the pairs are sorted by image
    def read(position: int) -> tuple[NDArray[np.uint8], Floats] | None:
        try:
            pixels = read_image(paths[position])
        except InvalidImageError:
            return None
        size = detail_size(*pixels.shape[:2])
        resized = resize_image(pixels, Preprocess(size, size))
        return to_gray(resized).round().astype(np.uint8), dominant_chroma(resized)

    @lru_cache(NUM_KEPT_IMAGES)
    def resized(position: int, size: int) -> Pyramid:
        image = read(position)
        return () if image is None else pyramid(image[0], size)

    def compare(rows: list[int]) -> NDArray[np.bool_]:
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for row in rows:
            images = [image for each in (firsts, seconds) if (image := read(each[row])) is not None]
            if len(images) == 2 and not have_other_colors(images[0][1], images[1][1]):
                by_size[min(len(gray) for gray, _ in images)].append(row)
        mismatches = dict.fromkeys(rows, np.inf)
        for size, same_size in by_size.items():
            for batch in batched(same_size, max(1, MAX_DETAILS_PIXELS // size**2)):
                first, second = (
                    [np.stack(level) for level in zip(*(resized(each[row], size) for row in batch), strict=True)]
                    for each in (firsts, seconds)
                )
                found = local_mismatches(first, second, windows[batch], _are_mirrored(pairs.views[batch]))
                mismatches.update(zip(batch, found.tolist(), strict=True))
        return np.array([*mismatches.values()]) <= np.where(is_strict[rows], MAX_LAYOUT_MISMATCH, MAX_MISMATCH)

    firsts, seconds = pairs.firsts.tolist(), pairs.seconds.tolist()
    same = [np.empty(0, np.bool_)]
    with progress.task("Comparing details", len(pairs), "pairs") as task:
        for results in parallel_map(compare, batched(range(len(pairs)), DETAILS_CHUNK), 2 * num_usable_cpus()):
            same.append(results)
            task.advance(len(results))
    return np.concatenate(same)


def find_candidates(thumbnails: CachedArray, progress: Progress) -> Candidates:
    """Find pairs with similar descriptors in any view, each pair once, in its most similar view."""
    chunks = [np.array(rows) for rows in batched(range(len(thumbnails)), DESCRIBE_CHUNK)]
    with progress.task("Searching duplicates", len(thumbnails) * (1 + len(VIEWS))) as task:
        index = InvertedFileIndex(_describe_all(thumbnails, chunks, task))
        found = []
        searches = list(itertools.product(range(len(VIEWS)), chunks))
        for (_, rows), pairs in zip(
            searches,
            parallel_map(lambda search: _search_view(index, thumbnails, *search), searches, 2 * num_usable_cpus()),
            strict=True,
        ):
            found.append(pairs)
            task.advance(len(rows))
    firsts, seconds, views, cosines = (np.concatenate(columns) for columns in zip(*found, strict=True))
    nearest_first = np.argsort(-cosines, kind="stable")
    keys = np.minimum(firsts, seconds) * len(thumbnails) + np.maximum(firsts, seconds)
    _, first_found = np.unique(keys[nearest_first], return_index=True)
    return Candidates(firsts, seconds, views, cosines).select(nearest_first[first_found])


def _describe_all(thumbnails: CachedArray, chunks: Sequence[Rows], task: Task) -> Floats:
    descriptors = []
    for rows in chunks:
        descriptors.append(describe(thumbnails[rows]))
        task.advance(len(rows))
    return np.concatenate(descriptors)


def _search_view(
    index: InvertedFileIndex, thumbnails: CachedArray, number: int, rows: Rows
) -> tuple[Rows, Rows, Rows, Floats]:
    """Return the columns of `Candidates` for one view of some images."""
    with _read_lock:
        chunk = thumbnails[rows]
    queries, seconds, cosines = index.search(describe(chunk, VIEWS[number]), rows, MAX_NEIGHBORS, MIN_COSINE)
    rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
    kept = (rank < NUM_NEIGHBORS) | (cosines >= CROWDED_COSINE)
    queries, seconds, cosines = queries[kept], seconds[kept], cosines[kept]
    return rows[queries], seconds, np.full(len(queries), number), cosines


def _compare_thumbnails(pairs: Candidates, thumbnails: CachedArray, task: Task) -> tuple[Candidates, Floats]:
    """Return the pairs whose thumbnails may be duplicates, and their windows."""
    likely, windows = [np.empty(0, np.intp)], [np.empty((0, 4), np.float32)]
    chunks = (np.array(chunk) for chunk in batched(range(len(pairs)), COMPARE_CHUNK))
    for num_compared, (rows, found) in parallel_map(
        lambda rows: (len(rows), _compare_chunk(rows, pairs, thumbnails)), chunks, PREFETCH_CHUNKS
    ):
        likely.append(rows)
        windows.append(found)
        task.advance(num_compared)
    return pairs.select(np.concatenate(likely)), np.concatenate(windows)


def _compare_chunk(rows: Rows, pairs: Candidates, thumbnails: CachedArray) -> tuple[Rows, Floats]:
    chunk = pairs.select(rows)
    with _read_lock:
        first, second = (thumbnails[positions].astype(np.float32) for positions in (chunk.firsts, chunk.seconds))
    first = _mirror(first, chunk.views)
    likely = _may_be_alike(first, second, chunk)
    first, second, rows, chunk = first[likely], second[likely], rows[likely], chunk.select(likely)
    details = high_pass(second)
    windows, likely = _align_coarsely(first, second, details, chunk)
    if likely.any():
        first, second, details, rows = first[likely], second[likely], details[likely], rows[likely]
        windows, similarity = align_best(first, second, [windows[likely]], THUMBNAIL_STEPS, (first, details))
        likely = similarity >= MIN_THUMBNAIL_SIMILARITY
    return rows[likely], windows[likely]


def _may_be_alike(first: Floats, second: Floats, pairs: Candidates) -> NDArray[np.bool_]:
    """Return which pairs to align: similar ones up to a shift, and those with a high cosine."""
    halved, details = _halve(first), high_pass(_halve(second))
    views = halved, warp(halved, _view_windows(pairs))  # a view may be similar by chance
    similarity = np.maximum(*(_shifted_similarity(high_pass(each), details) for each in views))
    return (similarity >= MIN_SHIFTED_SIMILARITY) | (pairs.cosines >= SECOND_CHANCE_COSINE)


def _shifted_similarity(first: Floats, second: Floats) -> Floats:
    """Return the highest correlation, (n,), of high-pass filtered images, (n, s, s), over small shifts."""
    size, highest = first.shape[1], np.full(len(first), -1, np.float32)
    shifts = range(-MAX_SHIFT, MAX_SHIFT + 1)
    for down, across in itertools.product(shifts, shifts):
        one = first[:, max(0, down) : size + down, max(0, across) : size + across]
        other = second[:, max(0, -down) : size - down, max(0, -across) : size - across]
        np.maximum(highest, np.einsum("nij,nij->n", one, other), out=highest)
    return highest


def _view_windows(pairs: Candidates) -> Floats:
    return np.array([view.window for view in VIEWS], np.float32)[pairs.views]


def _align_coarsely(
    first: Floats, second: Floats, details: Floats, pairs: Candidates
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return initial windows, and which pairs may be duplicates; pairs with a high cosine get a second chance."""
    starts = _view_windows(pairs), _repeat(WHOLE, len(pairs))  # a view may be similar by chance
    windows, similarity = align_best(
        _halve(first), _halve(second), starts, COARSE_STEPS, (first, details), with_details=False
    )
    again = (similarity < MIN_COARSE_SIMILARITY) & (pairs.cosines >= SECOND_CHANCE_COSINE)
    if again.any():  # a crop with fine details only, or one whose nearest view is another crop by chance
        first, second, details = first[again], second[again], details[again]
        crops = [_repeat(view, len(first)) for view in VIEWS if view.size < 1]
        windows[again], similarity[again] = align_best(
            first, second, crops, CROP_STEPS, (first, details), with_details=False
        )
    return windows, similarity >= MIN_COARSE_SIMILARITY


def _repeat(view: View, count: int) -> Floats:
    return np.tile(np.array(view.window, np.float32), (count, 1))


def _compare_files(pairs: Candidates, windows: Floats, paths: Sequence[Path]) -> Floats:
    """Return the similarity of pairs at twice the size of their thumbnails; unreadable files count as black."""
    positions = sorted({*pairs.firsts.tolist(), *pairs.seconds.tolist()})
    outcomes = read_inputs((paths[position] for position in positions), Preprocess(FINE_SIZE, FINE_SIZE))
    images = {
        position: to_gray(outcome.pixels)
        for position, outcome in zip(positions, outcomes, strict=True)
        if isinstance(outcome, DecodedImage)
    }
    black = np.zeros((FINE_SIZE, FINE_SIZE), np.float32)
    similarity = [np.empty(0, np.float32)]
    for rows in batched(range(len(pairs)), ALIGNED_FILES):
        chunk = pairs.select(np.array(rows))
        first, second = (
            np.stack([images.get(position, black) for position in chosen.tolist()])
            for chosen in (chunk.firsts, chunk.seconds)
        )
        first = _mirror(first, chunk.views)
        similarity.append(align_best(first, second, [windows[rows]], FINE_STEPS, (first, high_pass(second)))[1])
    return np.concatenate(similarity)


def _mirror(images: Floats, views: Rows) -> Floats:
    return np.where(_are_mirrored(views)[:, None, None], images[:, :, ::-1], images)


def _are_mirrored(views: Rows) -> NDArray[np.bool_]:
    return np.array([view.mirrored for view in VIEWS])[views]


def _halve(images: Floats) -> Floats:
    rows = images[:, ::2] + images[:, 1::2]
    return np.asarray((rows[:, :, ::2] + rows[:, :, 1::2]) / 4, np.float32)
