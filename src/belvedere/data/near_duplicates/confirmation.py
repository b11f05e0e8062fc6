"""Confirmation of near duplicates in detail: documents of one layout differ in nothing but their text.

Aligned images are compared block by block, at growing sizes, after the gray levels of one are mapped to those of the
other, so neither brightness nor clipped highlights count. The block that differs most decides: compression and scaling
change all blocks a little, another word changes one block entirely. Two images of one product in two colors may not
differ in gray levels, so dominant colors are compared too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.data.near_duplicates.alignment import Floats, align, blur, warp
from belvedere.images.gray import to_gray
from belvedere.images.resize import resize_image
from belvedere.types.model import Preprocess

Pixels = NDArray[np.uint8]
Pyramid = tuple[Pixels, ...]

MIN_SIZE, MAX_SIZE = 64, 512  # pixels
NUM_BLOCKS = 16  # in each direction
NUM_LEVELS = 32  # gray levels that are mapped
MIN_VARIANCE = 400.0  # of the gray levels of a block; noise of compression is below
MAX_MISMATCH = 0.5  # of a duplicate: 0.3 loses 5 of 500 planted copies of scenes, and 0.5 none
MAX_LAYOUT_MISMATCH = 0.15  # the same among many similar images; copies of documents reach 0.07, others 0.18 at least
MAX_ALIGNED_SIZE = 256  # pixels; windows are precise enough for larger images after these
FIRST_STEPS, LATER_STEPS = 6, 2
COLOR_SIZE = 32  # pixels
MIN_CHROMA = 15.0  # of a dominant color; grayscale copies have less
MIN_COLOR_COSINE = 0.5  # one in 1,000 edited copies of scenes has less


def detail_size(height: int, width: int) -> int:
    """Return the size at which an image is compared, at most its shorter side; halves of it have whole blocks."""
    side = min(max(min(height, width), MIN_SIZE), MAX_SIZE)
    unit = NUM_BLOCKS << (side.bit_length() - MIN_SIZE.bit_length())
    return side // unit * unit


def pyramid(image: NDArray[np.uint8], size: int) -> Pyramid:
    """Return a grayscale image at growing sizes, the last one `size`, each half of the next."""
    sizes = [size]
    while sizes[-1] >= 2 * MIN_SIZE:
        sizes.append(sizes[-1] // 2)
    return tuple(resize_image(image, Preprocess(each, each)) for each in reversed(sizes))


def dominant_chroma(pixels: NDArray[np.uint8]) -> Floats:
    """Return red and blue minus luminance, (2,), of RGB pixels, (H, W, 3): their mean, weighted by their length."""
    small = resize_image(pixels, Preprocess(COLOR_SIZE, COLOR_SIZE))
    chroma = (small[..., ::2] - to_gray(small)[..., None]).reshape(-1, 2)
    weights = np.linalg.norm(chroma, axis=1)
    mean: Floats = (weights @ chroma / np.maximum(weights.sum(), 1)).astype(np.float32)
    return mean


def have_other_colors(first: Floats, second: Floats) -> bool:
    """Return whether two dominant colors, (2,) each, differ in hue; brightness and saturation do not count."""
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    return bool(min(lengths) >= MIN_CHROMA and first @ second < MIN_COLOR_COSINE * lengths[0] * lengths[1])


def local_mismatches(
    first: Sequence[Pixels], second: Sequence[Pixels], windows: Floats, mirrored: NDArray[np.bool_]
) -> Floats:
    """Return the mismatch, (n,), of the blocks that differ most in each of n pairs.

    The comparison of a pair ends at the first size at which its mismatch is large.

    Args:
        first: Grayscale images at several sizes, (n, s, s) each.
        second: Grayscale images at the same sizes, that the first may contain, or the other way round.
        windows: Initial windows, (n, 4).
        mirrored: Whether the first is mirrored before, (n,).
    """
    rows, swapped = np.arange(len(windows)), np.zeros(len(windows), np.bool_)
    mismatches = np.ones(len(windows), np.float32)
    for level, images in enumerate(zip(first, second, strict=True)):
        one, other = (image[rows].astype(np.float32) for image in images)
        one = np.where(mirrored[rows, None, None], one[:, :, ::-1], one)
        if level == 0:  # which one contains the other is unknown
            best, other_windows = _align_and_compare(other, one, _inverses(windows), FIRST_STEPS)
            mismatch, windows = _align_and_compare(one, other, windows, FIRST_STEPS)
            swapped = best < mismatch
            best = np.minimum(best, mismatch)
            windows = np.where(swapped[:, None], other_windows, windows)
        else:
            image, target = (np.where(swapped[:, None, None], *pair) for pair in ((other, one), (one, other)))
            steps = LATER_STEPS if one.shape[1] <= MAX_ALIGNED_SIZE else 0
            best, windows = _align_and_compare(image, target, windows, steps)
        # Not aligned too: clipped highlights mislead the alignment.
        mismatches[rows] = np.minimum(best, _mismatches(one, other))
        kept = mismatches[rows] <= MAX_MISMATCH
        rows, swapped, windows = rows[kept], swapped[kept], windows[kept]
        if not len(rows):
            break
    return mismatches


def _align_and_compare(images: Floats, targets: Floats, windows: Floats, steps: int) -> tuple[Floats, Floats]:
    """Return the mismatches, (n,), of aligned images, and their windows, (n, 4)."""
    aligned = align(images, targets, windows, steps) if steps else windows
    return _mismatches(warp(images, aligned), targets), aligned


def _inverses(windows: Floats) -> Floats:
    """Return the windows, (n, 4), of the second images that show the first."""
    half, center = 1 / windows[:, :2], -windows[:, 2:] / windows[:, :2]
    inverses: Floats = np.concatenate([half, center], 1).astype(np.float32)
    return inverses


def _mismatches(first: Floats, second: Floats) -> Floats:
    """Return the largest mismatch of a block, (n,): 0 for copies, about 1 for unrelated details."""
    one, other = blur(first), blur(second)  # sharpness is no difference
    return np.minimum(_one_way(one, other), _one_way(other, one))


def _one_way(first: Floats, second: Floats) -> Floats:
    unexplained = _block_variances(second - _map_levels(first, second))
    worst: Floats = (unexplained / (_block_variances(second) + MIN_VARIANCE)).max((1, 2))
    return worst


def _map_levels(first: Floats, second: Floats) -> Floats:
    """Return the first images with each gray level replaced by the mean of the second image at its pixels."""
    levels = np.clip(first * (NUM_LEVELS / 256), 0, NUM_LEVELS - 1).astype(np.intp)
    flat = (levels + NUM_LEVELS * np.arange(len(first))[:, None, None]).ravel()
    counts, *sums = (
        np.bincount(flat, weights, NUM_LEVELS * len(first)).reshape(-1, NUM_LEVELS)
        for weights in (None, first.ravel(), second.ravel())
    )
    before, after = (each / np.maximum(counts, 1) for each in sums)
    mapped = [
        np.interp(image, before[row, used], after[row, used])
        for row, (image, used) in enumerate(zip(first, counts > 0, strict=True))
    ]
    return np.array(mapped, np.float32)


def _block_variances(images: Floats) -> Floats:
    size = images.shape[1] // NUM_BLOCKS
    variances: Floats = images.reshape(-1, NUM_BLOCKS, size, NUM_BLOCKS, size).var((2, 4))
    return variances
