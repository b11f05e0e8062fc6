"""How much work a file may make for its reader, told before the work begins.

Knows what makes a small file take long: pixels that are nowhere, scans over scans, decoders that are written in Python.
"""

import re
from io import BytesIO

from PIL import ImageFile

from belvedere.errors import ImageTooLargeError, InvalidImageError

EMPTY_PIXELS, EMPTY_PER_BYTE = 20_000_000, 2000  # more of both: made to keep a reader busy; of one colour, PNG has 344
# Scans of a JPEG: a progressive one has about ten. More are read where they are quick, since the picture is small.
USUAL_SCANS, MOST_SCANS, SCANNED_PIXELS = 20, 100, 200_000_000
MOST_MARKERS = 10_000  # of a JPEG whose scans are counted one by one
# Bytes that Pillow's decoders in Python read in about half a second.
SLOW_DECODERS = {"bmp_rle": 2_000_000, "ppm": 1_000_000, "ppm_plain": 4_000_000}
SLOW_PIXELS = {"bmp_rle": 5_000_000}  # filled one by one, to the end of a row, by two bytes
EMPTY_BLOCK_BYTES = 200_000  # of packed pixels beyond those of plain ones: blocks of no pixels take long to unpack
MAX_PIECES = 300_000  # in which Pillow reads a file: a PNG of 200 MB comes in 75,000; more take it a second or two

_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # but those without a length, of which any number may stand anywhere


class Refused(Exception):
    """A reason, on its way to an error with the file's name."""

    def __init__(self, reason: str, becomes: type[InvalidImageError] = InvalidImageError) -> None:
        super().__init__(reason)
        self.becomes = becomes


class BoundedFile(BytesIO):
    """A file in memory that can't be read in very many pieces.

    Pillow goes through the structure of a file in Python, by a read for each chunk, block, tag or byte: the number of
    reads bounds that work in any format, also where no other check knows of it.
    """

    def __init__(self, content: bytes, pieces: int = MAX_PIECES) -> None:
        super().__init__(content)
        self.pieces_left = pieces

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO` does.

        Raises:
            Refused: The file was read in too many pieces.
        """
        self.pieces_left -= 1
        if self.pieces_left < 0:
            raise Refused(f"more than {MAX_PIECES:,} pieces to go through: no photograph is made of that many")
        return super().read(size)


def check_pixels(width: int, height: int, max_pixels: int, size_bytes: int) -> None:
    """Raises Refused for a picture of too many pixels, or of many in very few bytes."""
    if width * height > max_pixels:
        raise Refused(f"{width:,} x {height:,} pixels, over the limit of {max_pixels:,}", ImageTooLargeError)
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
    pixels = image.width * image.height
    for name in {tile[0] for tile in image.tile} & SLOW_DECODERS.keys():
        slow = f"of {image.format} in a form that is slow to read, over the limit of"
        if size_bytes > SLOW_DECODERS[name]:
            raise Refused(f"{size_bytes:,} bytes {slow} {SLOW_DECODERS[name]:,}: save it as PNG")
        if pixels > SLOW_PIXELS.get(name, pixels):
            raise Refused(f"{pixels:,} pixels {slow} {SLOW_PIXELS[name]:,}: save it as PNG")
        if isinstance(image.fp, BoundedFile):
            image.fp.pieces_left += size_bytes  # bounded by its bytes, which are read one by one
