"""What one picture says of itself, measured from a single reading of its file.

Knows bytes and pixels; does not know what is too dark or too small: that is for `files`, which sees the whole set.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidImageError
from belvedere.images.decode import RGB, decode_image, read_content
from belvedere.images.resize import resize_image, within
from belvedere.runtime.parallel import parallel_map
from belvedere.types.model import Preprocess

THUMB_SIDE = 32  # of the small grey picture that duplicates are sought by
LOOKED_AT_SIDE = 128  # longer side of what light and colour are measured on
SHARPNESS_SIDE = 256  # of the middle of the whole picture, which sharpness is measured on
READ_TOGETHER = 8  # files that a thread takes at once
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_THUMB = Preprocess(THUMB_SIDE, THUMB_SIDE)
_BLUR_WINDOW = 9  # pixels
_MAGIC = {  # first bytes -> the suffixes that fit them
    b"\xff\xd8\xff": ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    b"\x89PNG": ("PNG", (".png", ".apng")),
    b"GIF8": ("GIF", (".gif",)),
    b"BM": ("BMP", (".bmp", ".dib")),
    b"II*\x00": ("TIFF", (".tif", ".tiff")),
    b"MM\x00*": ("TIFF", (".tif", ".tiff")),
}


@dataclass(frozen=True, slots=True)
class Measures:
    """One picture in numbers; everything behind `reason` is empty where it can't be read."""

    sha256: str  # of the file; empty where that can't be opened
    reason: str = ""  # why it can't be read
    kind: str = ""  # of its content, such as "JPEG"; empty where the first bytes say none
    suffix_fits: bool = True
    notes: tuple[str, ...] = ()  # what was decided in reading it
    pixels_hash: bytes = b""  # of the decoded pixels and their size
    width: int = 0  # pixels
    height: int = 0
    colour: float = 0.0  # mean distance of the highest channel from the lowest, 0 to 1
    low: float = 0.0  # luminance that 5% of the picture lies below, 0 to 1
    high: float = 0.0  # luminance that 95% of it lies below
    spread: float = 0.0  # standard deviation of the luminance
    entropy: float = 0.0  # of the luminance in 64 steps, bits
    blur: float = 0.0  # 0 sharp to 1 blurred
    high_frequency_ratio: float = (
        0.0  # power of the high_frequency_ratio details in that of fine ones, common logarithm
    )

    @property
    def readable(self) -> bool:
        """Whether there are pixels."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Measured:
    """A picture's measures, and its thumb."""

    measures: Measures
    thumb: NDArray[np.uint8]  # (32, 32), grey; black where the picture can't be read


def measure_all(paths: Iterable[Path]) -> Iterator[Measured]:
    """Reads and measures pictures, each once, on every core, in order and in flat memory."""
    return parallel_map(measure, paths, together=READ_TOGETHER)


def measure(path: Path) -> Measured:
    """Reads one file and measures it; what can't be read says why."""
    black = np.zeros((THUMB_SIDE, THUMB_SIDE), np.uint8)
    try:
        content = read_content(path)
    except InvalidImageError as error:
        return Measured(Measures("", error.reason), black)
    sha256, (kind, fits) = hashlib.sha256(content).hexdigest(), name_kind(content, path.suffix)
    try:
        decoded = decode_image(content)
    except InvalidImageError as error:
        return Measured(Measures(sha256, error.reason, kind, fits), black)
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    small = resize_image(pixels, within(height, width, LOOKED_AT_SIDE))
    low, high, spread, entropy = _measure_light(to_grey(small))
    middle = to_grey(_middle(pixels, SHARPNESS_SIDE))
    measures = Measures(
        sha256,
        kind=kind,
        suffix_fits=fits,
        notes=decoded.notes,
        pixels_hash=hash_pixels(pixels),
        width=width,
        height=height,
        colour=_measure_colour(small),
        low=low,
        high=high,
        spread=spread,
        entropy=entropy,
        blur=max(measure_blur(middle), measure_blur(middle.T)),
        high_frequency_ratio=measure_finest(middle),
    )
    return Measured(measures, to_grey(resize_image(pixels, _THUMB)).round().astype(np.uint8))


def name_kind(content: bytes, suffix: str) -> tuple[str, bool]:
    """Says of what kind a file's content is by its first bytes, and whether its suffix is one of that kind's."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP", suffix.lower() == ".webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", suffix.lower() == ".avif"
    for magic, (kind, suffixes) in _MAGIC.items():
        if content.startswith(magic):
            return kind, suffix.lower() in suffixes
    return "", True


def hash_pixels(pixels: RGB) -> bytes:
    """Hashes decoded pixels and their size: BLAKE2b, 16 bytes."""
    found = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()


def to_grey(pixels: RGB) -> NDArray[np.float32]:
    """Luminance, (H, W), 0 to 255."""
    grey: NDArray[np.float32] = pixels.astype(np.float32) @ LUMINANCE
    return grey


def _middle(pixels: RGB, side: int) -> RGB:
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _measure_colour(pixels: RGB) -> float:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]  # numpy is slow along an axis of three
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float((highest - lowest).mean() / 255)


def _measure_light(grey: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """What 5% and 95% of a picture lie below, the standard deviation, all 0 to 1, and bits of information."""
    counts = np.bincount(grey.ravel().astype(np.intp), minlength=256)
    below = np.cumsum(counts) / grey.size
    shares = counts.reshape(64, 4).sum(1) / grey.size
    shares = shares[shares > 0]
    low, high = (float(np.searchsorted(below, share) / 255) for share in (0.05, 0.95))
    return low, high, float(grey.std() / 255), float(-(shares * np.log2(shares)).sum())


def measure_blur(grey: NDArray[np.float32]) -> float:
    """Says how blurred a picture is along its rows, from 0 to 1.

    Blurring a sharp picture once more changes its steps much, a blurred one's little (Crété et al. 2007, "The blur
    effect", https://doi.org/10.1117/12.702790).
    """
    if grey.shape[1] <= _BLUR_WINDOW:
        return 0.0
    sums = np.zeros((grey.shape[0], grey.shape[1] + 1), np.float32)
    np.cumsum(grey - grey.mean(), axis=1, out=sums[:, 1:])
    blurred = (sums[:, _BLUR_WINDOW:] - sums[:, :-_BLUR_WINDOW]) / _BLUR_WINDOW
    margin = _BLUR_WINDOW // 2
    sharp = np.abs(np.diff(grey[:, margin:-margin], axis=1))
    lost = np.maximum(0, sharp - np.abs(np.diff(blurred, axis=1)))
    total = float(sharp.sum())
    return 0.0 if total == 0 else (total - float(lost.sum())) / total


def measure_finest(grey: NDArray[np.float32]) -> float:
    """Says how much of a picture's fine detail is of the high_frequency_ratio, which enlarging can't make.

    Returns:
        Power of the frequencies above 0.35 of a pixel's in that of those from 0.15 to 0.25, common logarithm; 0 where
        the picture is too small to tell.
    """
    height, width = grey.shape
    if min(height, width) < THUMB_SIDE:
        return 0.0
    window, is_finest, is_fine = _frequencies(height, width)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    return float(np.log10((power[is_finest].mean() + 1e-3) / (power[is_fine].mean() + 1e-3)))


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """A window that lets a picture fade out at its edges, and which of its frequencies are the highest and the high."""
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    higher = np.maximum(np.abs(np.fft.fftfreq(height))[:, None], np.fft.rfftfreq(width)[None])
    return window, higher > 0.35, (higher > 0.15) & (higher < 0.25)
