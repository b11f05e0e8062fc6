"""Rejects images that would take a decoder very long, before they are decoded."""

import os
import re
from functools import cache
from io import BytesIO

from PIL import ImageFile

from belvedere.errors import ImageTooLargeError, InvalidImageError, UsageError

MAX_PIXELS = 100_000_000  # per decoded image, by default: 300 MB
MAX_MEGAPIXELS_VARIABLE = "BELVEDERE_MAX_MEGAPIXELS"  # environment variable with another limit
HIGHEST_MEGAPIXELS = 178  # Pillow rejects images of more pixels
# An image with more pixels than both is a decompression bomb; a PNG of one color has 344 pixels per byte.
MAX_SPARSE_PIXELS, MAX_PIXELS_PER_BYTE = 20_000_000, 2000
# Scans of a JPEG: progressive ones have about ten. Small images may have more, up to MAX_SCANNED_PIXELS in total.
TYPICAL_SCANS, MAX_SCANS, MAX_SCANNED_PIXELS = 20, 100, 200_000_000
MAX_MARKERS = 10_000  # of a JPEG, when its scans are counted
# Bytes that Pillow's pure Python decoders read in about half a second.
SLOW_DECODERS = {"bmp_rle": 2_000_000, "ppm": 1_000_000, "ppm_plain": 4_000_000}
SLOW_PIXELS = {"bmp_rle": 5_000_000}  # two bytes can fill a whole row, pixel by pixel
EMPTY_BLOCK_BYTES = 200_000  # packed bytes beyond the size of the plain pixels; empty blocks are slow to unpack
MAX_READS = 300_000  # by Pillow, of one file: a PNG of 200 MB takes 75,000; more than this take a second or two

_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # except those without a length, which may occur anywhere


class ImageRejectedError(Exception):
    """Reason for rejecting an image, raised where the file name is unknown."""

    def __init__(self, reason: str, error: type[InvalidImageError] = InvalidImageError) -> None:
        super().__init__(reason)
        self.error = error


class BoundedFile(BytesIO):
    """A file in memory with a limited number of reads.

    Pillow parses files in Python, with a read for each chunk, block, tag or byte. The limit bounds that work in any
    format, including structures that no other check covers.
    """

    def __init__(self, content: bytes, max_reads: int = MAX_READS) -> None:
        super().__init__(content)
        self.reads_left = max_reads

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO` does.

        Raises:
            ImageRejectedError: The limit is exceeded.
        """
        self.reads_left -= 1
        if self.reads_left < 0:
            raise ImageRejectedError(f"more than {MAX_READS:,} segments (decompression bomb?)")
        return super().read(size)


@cache
def default_max_pixels() -> int:
    """Return the limit of pixels per decoded image: `MAX_PIXELS`, or that of the environment.

    Raises:
        UsageError: The variable is not a number of megapixels.
    """
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE)
    return _to_pixels(MAX_MEGAPIXELS_VARIABLE, text) if text else MAX_PIXELS


def set_max_megapixels(megapixels: float) -> None:
    """Set the limit of this process and those that it starts.

    Raises:
        UsageError: It is not above 0, or more than Pillow reads.
    """
    _to_pixels("`max_megapixels`", megapixels)
    os.environ[MAX_MEGAPIXELS_VARIABLE] = str(megapixels)
    default_max_pixels.cache_clear()


def _to_pixels(name: str, megapixels: float | str) -> int:
    try:
        pixels = float(megapixels) * 1_000_000
    except ValueError:
        pixels = 0
    if not 1 <= pixels <= HIGHEST_MEGAPIXELS * 1_000_000:
        raise UsageError(f"{name} is not a number of megapixels up to {HIGHEST_MEGAPIXELS}: {megapixels}.")
    return round(pixels)


def check_pixels(width: int, height: int, max_pixels: int, size_bytes: int) -> None:
    """Raise `ImageRejectedError` for an image of too many pixels, or of many in very few bytes."""
    if width * height > max_pixels:
        raise ImageRejectedError(f"{width:,} x {height:,} pixels, over the limit of {max_pixels:,}", ImageTooLargeError)
    if width * height > max(MAX_SPARSE_PIXELS, MAX_PIXELS_PER_BYTE * size_bytes):
        raise ImageRejectedError(f"{width:,} x {height:,} pixels in {size_bytes:,} bytes (decompression bomb?)")


def check_scans(content: bytes, pixels: int) -> None:
    """Raise `ImageRejectedError` for a JPEG of too many scans, each of which passes over all pixels."""
    limit = min(MAX_SCANS, max(TYPICAL_SCANS, MAX_SCANNED_PIXELS // max(1, pixels)))
    # The count is an upper bound: previews and motion photos contain such bytes too. The markers tell exactly.
    if content.count(b"\xff\xda") > limit and has_more_scans(content, limit):
        raise ImageRejectedError(f"a JPEG of more than {limit} scans, far more than the usual ten")


def has_more_scans(content: bytes, limit: int) -> bool:
    """Return whether a JPEG has more scans than a limit, from marker to marker up to its end, as a decoder does."""
    position = scans = 0
    for _ in range(MAX_MARKERS):
        found = _MARKER.search(content, position)
        if found is None or content[found.start() + 1] == _END:
            return False
        scans += content[found.start() + 1] == _START_OF_SCAN
        if scans > limit:
            return True
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return True


def check_decoder(image: ImageFile.ImageFile, size_bytes: int) -> None:
    """Raise `ImageRejectedError` for a large file in an encoding with a slow decoder, such as plain-text PPM."""
    pixels = image.width * image.height
    for name in {tile[0] for tile in image.tile} & SLOW_DECODERS.keys():
        slow = f"of {image.format} in an encoding that is slow to decode, over the limit of"
        if size_bytes > SLOW_DECODERS[name]:
            raise ImageRejectedError(f"{size_bytes:,} bytes {slow} {SLOW_DECODERS[name]:,}: save it as PNG")
        if pixels > SLOW_PIXELS.get(name, pixels):
            raise ImageRejectedError(f"{pixels:,} pixels {slow} {SLOW_PIXELS[name]:,}: save it as PNG")
        if isinstance(image.fp, BoundedFile):
            image.fp.reads_left += size_bytes  # this decoder reads byte by byte
