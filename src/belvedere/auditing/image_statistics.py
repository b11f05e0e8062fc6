"""Statistics of single images, from one reading of each file."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.hashing import hash_pixels
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE, make_thumbnail
from belvedere.errors import InvalidImageError
from belvedere.images.content import read_content
from belvedere.images.decode import RGB, decode_image
from belvedere.images.formats import detect_format
from belvedere.images.gray import Gray, to_gray
from belvedere.images.resize import shrink
from belvedere.runtime.parallel import parallel_map

STATISTICS_SIZE = 128  # longer side for light and color, pixels
SHARPNESS_SIZE = 256  # center crop at full resolution, pixels
CHUNK_SIZE = 8  # files a thread takes at once
_BLUR_WINDOW = 9  # pixels
_EXTENSIONS = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
}


@dataclass(frozen=True, slots=True)
class CheckScore:
    """Result of a check for one image."""

    score: float = 0.0  # 0 to 1; 1: certainly an issue
    message: str = ""
    error: str = ""  # why there is no score


PixelFunctions = Mapping[str, Callable[[RGB], CheckScore]]  # by the names of the checks


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Statistics of one image; defaults where it cannot be read."""

    sha256: str  # of the file; empty where it cannot be opened
    error: str = ""  # reason why it cannot be read
    format: str = ""  # of the content, such as "JPEG"; empty where it is unknown
    extension_fits: bool = True
    warnings: tuple[str, ...] = ()  # from decoding
    pixels_hash: bytes = b""  # of the decoded pixels and their shape
    width: int = 0  # pixels
    height: int = 0
    colorfulness: float = 0.0  # mean difference between the highest and the lowest channel, 0 to 1
    p5: float = 0.0  # percentiles of the luminance, 0 to 1
    p95: float = 0.0
    contrast: float = 0.0  # standard deviation of the luminance, 0 to 1
    entropy: float = 0.0  # of the luminance in 64 levels, bits
    blur: float = 0.0  # 0 sharp to 1 blurred
    high_frequency_ratio: float = 0.0  # power of the highest frequencies relative to high ones, common logarithm
    pixel_scores: Mapping[str, CheckScore] = field(default_factory=dict)  # of registered checks of pixels

    @property
    def readable(self) -> bool:
        """Whether the image could be decoded."""
        return not self.error


def read_statistics(
    paths: Iterable[Path], pixel_functions: PixelFunctions | None = None
) -> Iterator[tuple[ImageStatistics, NDArray[np.uint8]]]:
    """Yield statistics and a grayscale thumbnail, (32, 32), of each image, in order, on all cores."""
    return parallel_map(partial(compute_statistics, pixel_functions=pixel_functions), paths, chunk_size=CHUNK_SIZE)


def compute_statistics(
    path: Path, pixel_functions: PixelFunctions | None = None
) -> tuple[ImageStatistics, NDArray[np.uint8]]:
    """Read an image, and return its statistics and grayscale thumbnail, which is black for an unreadable file."""
    black = np.zeros((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    try:
        content = read_content(path)
    except InvalidImageError as error:
        return ImageStatistics("", error.reason), black
    sha256, name = hashlib.sha256(content).hexdigest(), detect_format(content)
    fits = extension_fits(name, path.suffix)
    try:
        decoded = decode_image(content)
    except InvalidImageError as error:
        return ImageStatistics(sha256, error.reason, name, fits), black
    pixels = decoded.pixels
    small = shrink(pixels, STATISTICS_SIZE)
    p5, p95, contrast, entropy = _light_statistics(to_gray(small))
    center = to_gray(_center_crop(pixels, SHARPNESS_SIZE))
    statistics = ImageStatistics(
        sha256,
        format=name,
        extension_fits=fits,
        warnings=decoded.warnings,
        pixels_hash=hash_pixels(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
        colorfulness=_colorfulness(small),
        p5=p5,
        p95=p95,
        contrast=contrast,
        entropy=entropy,
        blur=max(blur_effect(center), blur_effect(center.T)),
        high_frequency_ratio=high_frequency_ratio(center),
        pixel_scores={name: score(pixels) for name, score in (pixel_functions or {}).items()},
    )
    return statistics, make_thumbnail(pixels)


def extension_fits(name: str, extension: str) -> bool:
    """Return whether an extension is that of a format; True for unknown formats."""
    return not name or extension.lower() in _EXTENSIONS[name]


def _center_crop(pixels: RGB, size: int) -> RGB:
    top, left = (max(0, (length - size) // 2) for length in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


def _colorfulness(pixels: RGB) -> float:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]  # numpy is slow along an axis of three
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float((highest - lowest).mean() / 255)


def _light_statistics(gray: Gray) -> tuple[float, float, float, float]:
    """Return the 5th and 95th percentile and the standard deviation, 0 to 1, and the entropy in bits."""
    counts = np.bincount(gray.ravel().astype(np.intp), minlength=256)
    cumulative = np.cumsum(counts) / gray.size
    levels = counts.reshape(64, 4).sum(1) / gray.size
    levels = levels[levels > 0]
    p5, p95 = (float(np.searchsorted(cumulative, fraction) / 255) for fraction in (0.05, 0.95))
    return p5, p95, float(gray.std() / 255), float(-(levels * np.log2(levels)).sum())


def blur_effect(gray: Gray) -> float:
    """Return the blur along the rows, from 0 to 1.

    Blurring changes the gradients of a sharp image much, those of a blurred one little (Crété et al. 2007, "The blur
    effect", https://doi.org/10.1117/12.702790).
    """
    if gray.shape[1] <= _BLUR_WINDOW:
        return 0.0
    sums = np.zeros((gray.shape[0], gray.shape[1] + 1), np.float32)
    np.cumsum(gray - gray.mean(), axis=1, out=sums[:, 1:])
    blurred = (sums[:, _BLUR_WINDOW:] - sums[:, :-_BLUR_WINDOW]) / _BLUR_WINDOW
    margin = _BLUR_WINDOW // 2
    sharp = np.abs(np.diff(gray[:, margin:-margin], axis=1))
    lost = np.maximum(0, sharp - np.abs(np.diff(blurred, axis=1)))
    total = float(sharp.sum())
    return 0.0 if total == 0 else (total - float(lost.sum())) / total


def high_frequency_ratio(gray: Gray) -> float:
    """Return how much of an image's detail is in the highest frequencies, which upscaling cannot create.

    Returns:
        Common logarithm of the power above 0.35 cycles a pixel relative to 0.15 to 0.25; 0 for images that are too
        small.
    """
    height, width = gray.shape
    if min(height, width) < THUMBNAIL_SIZE:
        return 0.0
    window, highest, high = _frequencies(height, width)
    power = np.abs(np.fft.rfft2((gray - gray.mean()) * window)) ** 2
    return float(np.log10((power[highest].mean() + 1e-3) / (power[high].mean() + 1e-3)))


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Gray, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a Hann window, and masks of the highest and of the high frequencies."""
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    frequencies = np.maximum(np.abs(np.fft.fftfreq(height))[:, None], np.fft.rfftfreq(width)[None])
    return window, frequencies > 0.35, (frequencies > 0.15) & (frequencies < 0.25)
