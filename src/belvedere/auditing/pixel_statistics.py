"""Statistics of the pixels of images of one shape, measured together."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.images.gray import Gray, to_gray

_MIN_SPECTRUM_SIZE = 32  # pixels of the shorter side
_BLUR_WINDOW = 9  # pixels

Images = NDArray[np.uint8]
Values = NDArray[np.floating]


def measure_pixels(small: Images, small_gray: Gray, center: Images) -> list[dict[str, Any]]:
    """Return the statistics of N images by the names of the fields of `ImageStatistics`.

    Args:
        small: Shrunken images, (N, H, W, 3), for color.
        small_gray: Their luminance, (N, H, W), for light.
        center: Their centers at full resolution, (N, H, W, 3), for sharpness.
    """
    gray = to_gray(center)
    columns = {
        "colorfulness": colorfulness(small),
        **light_statistics(small_gray),
        "blur": np.maximum(blur_effect(gray), blur_effect(gray.swapaxes(1, 2))),
        "high_frequency_ratio": high_frequency_ratio(gray),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def colorfulness(images: Images) -> Values:
    """Return the mean difference between the highest and the lowest channel, (N,), 0 to 1."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]  # numpy is slow along an axis of three
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    values: Values = (highest - lowest).mean((1, 2)) / 255
    return values


def light_statistics(images: Gray) -> dict[str, Values]:
    """Return the 5th and 95th percentile and the standard deviation, 0 to 1, and the entropy in bits, (N,) each."""
    levels = images.astype(np.uint8).reshape(len(images), -1)
    counts = np.stack([np.bincount(each, minlength=256) for each in levels])
    cumulative = np.cumsum(counts, 1) / levels.shape[1]
    p5, p95 = ((cumulative < fraction).sum(1) / 255 for fraction in (0.05, 0.95))
    coarse = counts.reshape(-1, 64, 4).sum(2) / levels.shape[1]
    entropy = -(coarse * np.log2(np.where(coarse > 0, coarse, 1))).sum(1) + 0.0  # without a negative zero
    return {"p5": p5, "p95": p95, "contrast": images.std((1, 2)) / 255, "entropy": entropy}


def blur_effect(images: Gray) -> Values:
    """Return the blur along the rows, (N,), 0 to 1.

    Blurring changes the gradients of a sharp image much, those of a blurred one little (Crété et al. 2007, "The blur
    effect", https://doi.org/10.1117/12.702790).
    """
    if images.shape[2] <= _BLUR_WINDOW:
        return np.zeros(len(images))
    margin = _BLUR_WINDOW // 2
    sharp = np.abs(np.diff(images[..., margin:-margin]))
    # The gradients of the image after a moving average.
    blurred = np.abs(images[..., _BLUR_WINDOW:] - images[..., :-_BLUR_WINDOW]) / _BLUR_WINDOW
    total, left = (each.sum((1, 2), dtype=np.float64) for each in (sharp, np.minimum(sharp, blurred)))
    blur: Values = np.divide(left, total, out=np.zeros(len(images)), where=total > 0)
    return blur


def high_frequency_ratio(images: Gray) -> Values:
    """Return how much of the detail is in the highest frequencies, which upscaling cannot create.

    Returns:
        Common logarithms, (N,), of the power above 0.35 cycles a pixel relative to 0.15 to 0.25; 0 for images that
        are too small.
    """
    count, height, width = images.shape
    if min(height, width) < _MIN_SPECTRUM_SIZE:
        return np.zeros(count)
    window, bands = _frequencies(height, width)
    spectrum = np.fft.rfft2((images - images.mean((1, 2), keepdims=True)) * window)
    highest, high = ((spectrum.real**2 + spectrum.imag**2).reshape(count, -1) @ bands).T
    values: Values = np.log10((highest + 1e-3) / (high + 1e-3))
    return values


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Gray, Gray]:
    """Return a Hann window, (height, width), and weights, (F, 2), that average the highest and the high frequencies."""
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    frequencies = np.maximum(np.abs(np.fft.fftfreq(height))[:, None], np.fft.rfftfreq(width)[None]).ravel()
    bands = np.stack([frequencies > 0.35, (frequencies > 0.15) & (frequencies < 0.25)], 1)
    return window, (bands / bands.sum(0)).astype(np.float32)
