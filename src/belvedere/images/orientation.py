"""Makes images upright by their EXIF orientation, 1 to 8 (Exif 2.32, tag 0x0112)."""

import numpy as np
from PIL import Image

from belvedere.images.containers import check_exif, check_text_exif
from belvedere.images.damage import DECODE_ERRORS
from belvedere.images.jpeg_headers import may_have_exif
from belvedere.images.resize import RGB

ORIENTATION_TAG = 0x0112
_MARKS = (b"Exif\x00\x00", b"tiff:Orientation")  # EXIF; XMP, which Pillow reads if EXIF has none


def checked_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF data of an image.

    Raises:
        ImageRejectedError: They are not safe to parse.
    """
    if isinstance(exif := image.info.get("exif"), bytes):
        check_exif(exif)
    elif isinstance(text := image.info.get("Raw profile type exif"), str):  # in a PNG
        check_text_exif(text)
    return Image.Image.getexif(image)  # that of a PNG would decode the pixels to find EXIF data after them


def may_have_orientation(jpeg: bytes) -> bool:
    """Return whether the orientation of a JPEG has to be read."""
    return may_have_exif(jpeg) and any(mark in jpeg for mark in _MARKS)


def read_orientation(image: Image.Image) -> int:
    """Return the orientation of an image; 1 if it has none."""
    if image.format == "HEIF":  # is upright by properties of its own, which the decoder applies
        return 1
    try:
        value = checked_exif(image).get(ORIENTATION_TAG, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def make_upright(pixels: RGB, orientation: int) -> tuple[RGB, tuple[str, ...]]:
    """Return upright pixels, (H, W, 3), and a warning if they were rotated or mirrored."""
    if orientation == 1:
        return pixels, ()
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    upright = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(upright), (f"rotated by its EXIF orientation ({orientation})",)
