"""Says why a damaged image file is not read, and finds data that were lost without an error of the decoder."""

import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from belvedere.images.containers import find_boxes, find_scan
from belvedere.images.formats import COPY_AGAIN, describe_format, detect_format
from belvedere.images.jpeg_headers import END_MARKER, has_all_coefficients
from belvedere.images.limits import ImageRejectedError, default_max_pixels
from belvedere.images.resize import RGB
from belvedere.runtime.terminal import describe_error

# Errors that Pillow's parsers raise on malformed files.
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
ZERO_BYTES = 4096  # at the end of compressed pixels, which never have so many zeros: a block of a file system
JPEG_ZERO_BYTES = 512  # in the pixels of a damaged JPEG: a block of a disk; whole ones of one color have as many
MISSING_ROWS = 8  # of a JPEG: a row of blocks

_AS_IN_COPY = "as in an incomplete copy"
_NOT_OPENED = ("not identified by this driver", "cannot load this image")
_MISSING_COLORS = (128, 64)  # of pixels that libjpeg-turbo has no data for; CMYK
_END_OF_DATA = (EOFError, IndexError, struct.error)


def describe_failure(error: Exception, content: bytes) -> str:
    """Return why a decoder failed, and what to do.

    Args:
        error: What the decoder raised.
        content: The bytes of the file.
    """
    if isinstance(error, Image.DecompressionBombError):
        return f"far more pixels than the limit of {default_max_pixels():,}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if reason := describe_missing_bytes(content):
        return reason
    text = describe_error(error)
    if isinstance(error, UnidentifiedImageError) or text in _NOT_OPENED:
        return describe_format(content)
    if "truncated" in text.lower() or isinstance(error, _END_OF_DATA) or isinstance(error.__cause__, _END_OF_DATA):
        return f"truncated: its {len(content):,} bytes end before the image does: {COPY_AGAIN}"
    return f"damaged ({text}): {COPY_AGAIN}"


def describe_missing_bytes(content: bytes) -> str:
    """Return how much of a file is there, if it states a larger size; else empty."""
    kind, stated = detect_format(content), 0
    if kind == "WebP":
        stated = 8 + int.from_bytes(content[4:8], "little")
    elif kind == "BMP":
        stated = int.from_bytes(content[2:6], "little")
    elif kind in ("AVIF", "HEIF"):
        end = max((after for _, _, after in find_boxes(content, 0, len(content))), default=0)
        stated = end + int.from_bytes(content[end : end + 4], "big")
    return f"truncated: {len(content):,} of {stated:,} bytes are there: {COPY_AGAIN}" if stated > len(content) else ""


def check_zeros(content: bytes) -> None:
    """Check that the pixels of a WebP, AVIF or HEIF do not end with zeros, which their decoders read as pixels.

    Raises:
        ImageRejectedError: They do, as after an incomplete copy.
    """
    kind, ends = detect_format(content), list[int]()
    if kind == "WebP":
        ends = [8 + int.from_bytes(content[4:8], "little")]
    elif kind in ("AVIF", "HEIF"):
        ends = [after for name, _, after in find_boxes(content, 0, len(content)) if name == b"mdat"]
    if any(content.endswith(bytes(ZERO_BYTES), 0, end) for end in ends):
        raise ImageRejectedError(f"damaged: zeros in place of its pixels, {_AS_IN_COPY}: {COPY_AGAIN}")


def check_scans_are_whole(content: bytes) -> None:
    """Check that a JPEG of which a decoder reported damage has all scans, and no block of zeros in them.

    Raises:
        ImageRejectedError: Data of its pixels are lost.
    """
    if not has_all_coefficients(content):
        raise ImageRejectedError(f"truncated: a JPEG without its last scans: {COPY_AGAIN}")
    start, end = find_scan(content), content.rfind(END_MARKER)
    if content.find(bytes(JPEG_ZERO_BYTES), start, end if end > start else len(content)) >= 0:
        raise ImageRejectedError(f"damaged: zeros in place of its pixels, {_AS_IN_COPY}: {COPY_AGAIN}")


def check_rows(pixels: RGB) -> None:
    """Check that a damaged JPEG has its last rows of pixels; the decoder fills those without data with gray.

    Raises:
        ImageRejectedError: They are missing.
    """
    for color in _MISSING_COLORS:
        has_data = np.flatnonzero((pixels[::-1] != color).any(axis=(1, 2)))
        missing = int(has_data[0]) if len(has_data) else len(pixels)
        if missing >= MISSING_ROWS:
            rows = f"the last {missing:,} of {len(pixels):,} rows of pixels are missing"
            raise ImageRejectedError(f"damaged: {rows}: {COPY_AGAIN}")
