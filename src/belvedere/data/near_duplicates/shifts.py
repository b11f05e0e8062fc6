"""Pairs of images that show the same up to a shift: copies, mirrored copies, and images of one burst or video.

Candidates are nearest neighbors by descriptor. A pair is accepted by the correlation of its high-pass filtered
thumbnails where they overlap, at the best shift (Lewis 1995, "Fast normalized cross-correlation"). This is many times
faster than the alignment of the audit, which also finds crops, but not two images of which none contains the other.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from belvedere.data.hashing import HashedSamples
from belvedere.data.image_cache import open_image_cache, read_image_array
from belvedere.data.near_duplicates.alignment import high_pass
from belvedere.data.near_duplicates.ann_index import InvertedFileIndex
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE, describe
from belvedere.images.gray import to_gray
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess

NUM_NEIGHBORS = 8  # of each image
MIN_COSINE = 0.85  # of the descriptors
MIN_CORRELATION = 0.7  # unrelated images with a plain horizon reach 0.7 at times
MAX_SHIFT = 5  # pixels of a thumbnail: a sixth of the image
CHUNK_SIZE = 256  # pairs that a thread compares at once
READ_CHUNK = 4096  # thumbnails

Rows = NDArray[np.intp]
Floats = NDArray[np.float32]

_FFT_SIZE = THUMBNAIL_SIZE + 16  # without wrap-around up to a shift of 16
_SHIFTS = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)


def find_shifted_pairs(
    contents: HashedSamples,
    progress: Progress,
    sides: Sequence[object] | None = None,
    other_sizes: Sequence[tuple[HashedSamples, Preprocess]] = (),
) -> Rows:
    """Find pairs of different files that show the same up to a shift, or a shift and a reflection.

    Args:
        contents: N images. Their thumbnails are cached; those that cannot be read are in no pair.
        progress: Progress display.
        sides: N values; only pairs with different ones are searched. Default: all pairs.
        other_sizes: As of `read_image_array`. Without any, and where most thumbnails were read so before, large JPEGs
            are decoded at a reduced scale.

    Returns:
        (P, 2) positions of the images, of identical files that of the first.
    """
    first_rows = {key: row for row, key in reversed(list(enumerate(contents.hashes)))}
    unique = contents.select(sorted(first_rows.values()))
    size = Preprocess(THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    if other_sizes:
        missing = [open_image_cache(size, draft=draft).find_missing(unique.hashes) for draft in (True, False)]
        if len(missing[0]) < len(missing[1]):  # little is left to decode
            other_sizes = ()
    found = read_image_array(unique, size, progress, draft=True, other_sizes=other_sizes)
    rows = np.array([first_rows[key] for key in found.hashes], np.intp)
    if len(rows) < 2:
        return np.empty((0, 2), np.intp)
    starts = range(0, len(rows), READ_CHUNK)
    chunks = (found.images[np.arange(start, min(start + READ_CHUNK, len(rows)))] for start in starts)
    thumbnails = np.concatenate([to_gray(chunk).round().astype(np.uint8) for chunk in chunks])
    index, similar = InvertedFileIndex(describe(thumbnails)), [np.empty((0, 2), np.intp)]
    for mirrored in (False, True):
        views = thumbnails[:, :, ::-1] if mirrored else thumbnails
        queries, neighbors, _ = index.search(describe(views), np.arange(len(rows)), NUM_NEIGHBORS, MIN_COSINE)
        pairs = np.stack([queries, neighbors], 1)
        _, once = np.unique(np.sort(pairs, 1), axis=0, return_index=True)
        pairs = pairs[once]
        if sides is not None:
            side = np.unique([str(sides[row]) for row in rows], return_inverse=True)[1]
            pairs = pairs[side[pairs[:, 0]] != side[pairs[:, 1]]]
        with progress.task("Comparing images", len(pairs), "pairs") as task:
            parts = np.split(pairs, range(CHUNK_SIZE, len(pairs), CHUNK_SIZE))
            for part, accepted in zip(
                parts, parallel_map(partial(_are_similar, views, thumbnails), parts), strict=True
            ):
                similar.append(part[accepted])
                task.advance(len(part))
    return rows[np.concatenate(similar)]


def _are_similar(views: NDArray[np.uint8], thumbnails: NDArray[np.uint8], pairs: Rows) -> NDArray[np.bool_]:
    first, second = (
        high_pass(each[column].astype(np.float32)) for each, column in zip((views, thumbnails), pairs.T, strict=True)
    )
    return shifted_correlation(first, second) >= MIN_CORRELATION


def shifted_correlation(first: Floats, second: Floats) -> Floats:
    """Return the highest correlation, (n,), of images with mean 0, (n, s, s), over the shifts of one of them."""
    if not len(first):
        return np.empty(0, np.float32)
    product = np.fft.irfft2(_transform(first) * _transform(second).conj(), (_FFT_SIZE, _FFT_SIZE))
    power = _overlap_sums(first**2, _SHIFTS) * _overlap_sums(second**2, -_SHIFTS)
    correlation = product[:, _SHIFTS][:, :, _SHIFTS] / np.sqrt(np.maximum(power, 1e-12))
    highest: Floats = correlation.max((1, 2)).astype(np.float32)
    return highest


def _transform(images: Floats) -> NDArray[np.complex128]:
    return np.fft.rfft2(images, (_FFT_SIZE, _FFT_SIZE))


def _overlap_sums(images: Floats, shifts: NDArray[np.int_]) -> Floats:
    """Return the sums of images, (n, s, s), over their overlap with another one at each shift, (n, 11, 11)."""
    size = images.shape[1]
    position, shift = np.arange(size), shifts[:, None]
    overlaps = ((position >= shift) & (position < size + shift)).astype(np.float32)  # (11, s)
    sums: Floats = overlaps @ images @ overlaps.T
    return sums
