"""Statistics of single images, from one reading of each file."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.auditing.pixel_statistics import measure_pixels
from belvedere.data.hashing import hash_pixels
from belvedere.data.near_duplicates.descriptors import THUMBNAIL_SIZE, make_thumbnails
from belvedere.errors import InvalidImageError
from belvedere.images.content import read_content
from belvedere.images.decode import RGB, decode_image
from belvedere.images.formats import detect_format
from belvedere.images.gray import to_gray
from belvedere.images.resize import shrink
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.parallel import batched, parallel_map

STATISTICS_SIZE = 128  # longer side for light, color and thumbnail, pixels
MAX_STATISTICS_SIZE = 512  # that of a strip, whose shorter side keeps the pixels of a thumbnail
SHARPNESS_SIZE = 256  # center crop at full resolution, pixels
CHUNK_SIZE = 16  # images a thread reads, and measures together
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


Pixels = NDArray[np.uint8]
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


@dataclass(frozen=True, slots=True)
class _DecodedImage:
    """Pixels and first statistics of an image, kept until its chunk is measured."""

    statistics: ImageStatistics  # without those of the pixels
    pixels: tuple[RGB, RGB] | None = None  # of at most `STATISTICS_SIZE`, and the center; None: unreadable


def read_statistics(
    paths: Sequence[Path], pixel_functions: PixelFunctions | None = None
) -> Iterator[tuple[ImageStatistics, Pixels]]:
    """Yield statistics and a grayscale thumbnail, (32, 32), of each image, in order, on all cores."""
    num_chunks = 2 * num_usable_cpus()
    chunks = batched(paths, max(1, min(CHUNK_SIZE, -(-len(paths) // num_chunks))))  # work for every thread
    read = partial(_read_chunk, pixel_functions=pixel_functions or {})
    return chain.from_iterable(parallel_map(read, chunks, num_chunks))


def _read_chunk(paths: Sequence[Path], pixel_functions: PixelFunctions) -> list[tuple[ImageStatistics, Pixels]]:
    """Read images, and measure those of one shape together: in threads, a few long calls of numpy are quicker."""
    images = [_read_image(path, pixel_functions) for path in paths]
    statistics = [image.statistics for image in images]
    thumbnails = np.zeros((len(images), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    by_shape: defaultdict[tuple[tuple[int, ...], ...], list[tuple[int, RGB, RGB]]] = defaultdict(list)
    for row, image in enumerate(images):
        if image.pixels is not None:
            small, center = image.pixels
            by_shape[small.shape, center.shape].append((row, small, center))
    for same_shape in by_shape.values():
        rows, smalls, centers = zip(*same_shape, strict=True)
        small, center = np.stack(smalls), np.stack(centers)
        gray = to_gray(small)
        thumbnails[list(rows)] = make_thumbnails(gray)
        for row, measured in zip(rows, measure_pixels(small, gray, center), strict=True):
            statistics[row] = replace(statistics[row], **measured)
    return list(zip(statistics, thumbnails, strict=True))


def _read_image(path: Path, pixel_functions: PixelFunctions) -> _DecodedImage:
    try:
        content = read_content(path)
    except InvalidImageError as error:
        return _DecodedImage(ImageStatistics("", error.reason))
    sha256, name = hashlib.sha256(content).hexdigest(), detect_format(content)
    fits = extension_fits(name, path.suffix)
    try:
        decoded = decode_image(content)
    except InvalidImageError as error:
        return _DecodedImage(ImageStatistics(sha256, error.reason, name, fits))
    pixels = decoded.pixels
    statistics = ImageStatistics(
        sha256,
        format=name,
        extension_fits=fits,
        warnings=decoded.warnings,
        pixels_hash=hash_pixels(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
        pixel_scores={name: score(pixels) for name, score in pixel_functions.items()},
    )
    center = _center_crop(pixels, SHARPNESS_SIZE).copy()  # the whole image is not kept
    longer, shorter = max(pixels.shape[:2]), min(pixels.shape[:2])
    size = min(max(STATISTICS_SIZE, math.ceil(THUMBNAIL_SIZE * longer / shorter)), MAX_STATISTICS_SIZE)
    return _DecodedImage(statistics, (shrink(pixels, size), center))


def extension_fits(name: str, extension: str) -> bool:
    """Return whether an extension is that of a format; True for unknown formats."""
    return not name or extension.lower() in _EXTENSIONS[name]


def _center_crop(pixels: RGB, size: int) -> RGB:
    top, left = (max(0, (length - size) // 2) for length in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
