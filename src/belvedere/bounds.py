"""How much work a file may make for its reader, told before the work begins.

Knows what makes a small file take long: pixels that are nowhere, scans over scans, decoders that are written in Python.
"""

import re

from PIL import ImageFile

from belvedere.errors import TooManyPixels, UnreadableImage

EMPTY_PIXELS, EMPTY_PER_BYTE = 20_000_000, 2000  # more of both: made to keep a reader busy; of one colour, PNG has 344
# Scans of a JPEG: a progressive one has about ten. More are read where they are quick, since the picture is small.
USUAL_SCANS, MOST_SCANS, SCANNED_PIXELS = 20, 100, 200_000_000
MOST_MARKERS = 10_000  # of a JPEG whose scans are counted one by one
# Bytes that Pillow's decoders in Python read in about a second.
SLOW_DECODERS = {"bmp_rle": 3_000_000, "ppm": 1_000_000, "ppm_plain": 4_000_000}

_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # but those without a length, of which any number may stand anywhere


class Refused(Exception):
    """A reason, on its way to an error with the file's name."""

    def __init__(self, reason: str, becomes: type[UnreadableImage] = UnreadableImage) -> None:
        super().__init__(reason)
        self.becomes = becomes


def check_pixels(width: int, height: int, max_pixels: int, size_bytes: int) -> None:
    """Raises Refused for a picture of too many pixels, or of many in very few bytes."""
    if width * height > max_pixels:
        raise Refused(f"{width:,} x {height:,} pixels, over the limit of {max_pixels:,}", TooManyPixels)
    if width * height > max(EMPTY_PIXELS, EMPTY_PER_BYTE * size_bytes):
        raise Refused(f"{width:,} x {height:,} pixels in {size_bytes:,} bytes: no photograph is that empty")


def check_scans(content: bytes, pixels: int) -> None:
    """Raises Refused for a JPEG that goes over its pixels again and again."""
    most = min(MOST_SCANS, max(USUAL_SCANS, SCANNED_PIXELS // max(1, pixels)))
    # A preview, or the film behind a phone's photograph, may look like scans: only where there are many, they are told.
    if content.count(b"\xff\xda") > most and _has_more_scans(content, most):
        raise Refused(f"a JPEG of more than {most} scans: a photograph has about ten")


def _has_more_scans(content: bytes, most: int) -> bool:
    """Goes from marker to marker, to the end of the first picture, as a decoder does."""
    place = scans = 0
    for _ in range(MOST_MARKERS):
        found = _MARKER.search(content, place)
        if found is None or content[found.start() + 1] == _END:
            return False
        scans += content[found.start() + 1] == _START_OF_SCAN
        if scans > most:
            return True
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return True


def check_decoder(image: ImageFile.ImageFile, size_bytes: int) -> None:
    """Raises Refused for a large file in a form that only a slow decoder reads, such as plain-text PPM."""
    limits = [SLOW_DECODERS[tile[0]] for tile in image.tile if tile[0] in SLOW_DECODERS]
    if limits and size_bytes > min(limits):
        raise Refused(
            f"{size_bytes:,} bytes of {image.format} in a form that is slow to read, over the limit of "
            f"{min(limits):,}: save it as PNG"
        )
