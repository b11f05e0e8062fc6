"""Confirmation of near duplicates in detail: documents of one layout differ in nothing but their text.

Aligned images are compared block by block, at growing sizes, after the gray levels of one are mapped to those of the
other, so neither brightness nor clipped highlights count. The block that differs most decides: compression and scaling
change all blocks a little, another word changes one block entirely. Two images of one product in two colors may not
differ in gray levels, so dominant colors are compared too.
"""

import numpy as np
from numpy.typing import NDArray

from belvedere.data.near_duplicates.alignment import Floats, align, blur, warp
from belvedere.images.gray import to_gray
from belvedere.images.resize import resize_image
from belvedere.types.model import Preprocess

Pyramid = tuple[NDArray[np.uint8], ...]

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


def local_mismatch(first: Pyramid, second: Pyramid, window: Floats, mirrored: bool) -> float:
    """Return the mismatch of the blocks that differ most; the comparison ends at the first size at which it is large.

    Args:
        first: Grayscale image at several sizes, (s, s) each.
        second: Grayscale image at the same sizes, that the first may contain, or the other way round.
        window: Initial window, (4,).
        mirrored: Whether the first is mirrored before.
    """
    swaps, starts = [False, True], [window[None], _inverse(window)[None]]  # which one contains the other is unknown
    mismatch = 1.0
    for level, images in enumerate(zip(first, second, strict=True)):
        one, other = (image.astype(np.float32) for image in images)
        one = one[:, ::-1] if mirrored else one
        steps = FIRST_STEPS if level == 0 else LATER_STEPS if len(one) <= MAX_ALIGNED_SIZE else 0
        found: list[tuple[float, bool, Floats]] = []
        for swapped, start in zip(swaps, starts, strict=True):
            image, target = (other, one) if swapped else (one, other)
            aligned = align(image[None], target[None], start, steps)
            found.append((_mismatch(warp(image[None], aligned)[0], target), swapped, aligned))
        best, swapped, aligned = min(found, key=lambda each: each[0])
        swaps, starts = [swapped], [aligned]
        mismatch = min(best, _mismatch(one, other))  # not aligned too: clipped highlights mislead the alignment
        if mismatch > MAX_MISMATCH:
            break
    return mismatch


def _inverse(window: Floats) -> Floats:
    """Return the window of the second image that shows the first."""
    half, center = 1 / window[:2], -window[2:] / window[:2]
    inverse: Floats = np.concatenate([half, center]).astype(np.float32)
    return inverse


def _mismatch(first: Floats, second: Floats) -> float:
    """Return the largest mismatch of a block: 0 for copies, about 1 for unrelated details."""
    one, other = blur(np.stack([first, second]))  # sharpness is no difference
    return min(_one_way(one, other), _one_way(other, one))


def _one_way(first: Floats, second: Floats) -> float:
    unexplained = _block_variances(second - _map_levels(first, second))
    return float((unexplained / (_block_variances(second) + MIN_VARIANCE)).max())


def _map_levels(first: Floats, second: Floats) -> Floats:
    """Return the first image with each gray level replaced by the mean of the second image at its pixels."""
    levels = np.clip(first * (NUM_LEVELS / 256), 0, NUM_LEVELS - 1).astype(np.intp).ravel()
    counts = np.bincount(levels, minlength=NUM_LEVELS)
    used = counts > 0
    before, after = (np.bincount(levels, image.ravel(), NUM_LEVELS)[used] / counts[used] for image in (first, second))
    return np.interp(first, before, after).astype(np.float32)


def _block_variances(image: Floats) -> Floats:
    size = len(image) // NUM_BLOCKS
    variances: Floats = image.reshape(NUM_BLOCKS, size, NUM_BLOCKS, size).var((1, 3))
    return variances
