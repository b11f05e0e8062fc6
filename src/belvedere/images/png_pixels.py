"""Decodes the pixels of a PNG, and finds those that are missing.

Pillow stops without an error where the packed data end between two rows, and leaves the other pixels black. So the last
pixel is set to a value before decoding, which must be another one afterward. If the pixel has that value by chance, a
second value decides.
"""

from collections.abc import Callable

from PIL import Image, ImageFile

from belvedere.images.formats import COPY_AGAIN
from belvedere.images.limits import ImageRejectedError
from belvedere.images.png_chunks import without_checksum

_MARKS, _BILEVEL_MARKS = (91, 92), (0, 255)  # no gray value of 2 or 4 bits is 91
_SHORT_GRAY = {"L;2": 2, "L;4": 4}  # bits of gray values that Pillow scales to 0..255
_DEEP_COLORS = "RGB;16B"


def load_png(
    image: ImageFile.ImageFile, content: bytes, is_right: bool, reopen: Callable[[bytes], ImageFile.ImageFile]
) -> tuple[ImageFile.ImageFile, tuple[str, ...]]:
    """Decode the pixels of a PNG, of which all must be there.

    Args:
        image: The PNG, not yet decoded.
        content: Its file.
        is_right: Whether the checksums of all chunks are right.
        reopen: Opens a file once more.

    Returns:
        The decoded image, and warnings.

    Raises:
        ImageRejectedError: Pixels or colors are missing.
        OSError: The packed data are damaged.
    """
    first, second = _BILEVEL_MARKS if image.mode == "1" else _MARKS
    warnings = _convert_color_key(image)
    colors = len(image.palette.palette) // 3 if image.palette else 0
    try:
        is_whole = _decode(image, first) or _decode(reopen(content), second)
    except OSError:
        if not is_right:
            raise
        # The last four bytes are a checksum of all pixels.
        image, is_whole = reopen(without_checksum(content)), True
        _convert_color_key(image)
        image.load()
        warnings += ("damaged PNG data: wrong checksum",)
    if not is_whole:
        raise ImageRejectedError(f"damaged: the packed pixels of this PNG end before its last row: {COPY_AGAIN}")
    if image.mode == "P" and (highest := int(image.getextrema()[1])) >= colors:  # type: ignore[arg-type]
        raise ImageRejectedError(f"damaged: pixels of color {highest} in a palette of {colors} colors: {COPY_AGAIN}")
    return image, warnings


def _decode(image: ImageFile.ImageFile, mark: int) -> bool:
    """Decode a PNG; return whether its last pixel, as they are stored, differs from `mark`."""
    width, height = image.size
    x, y = width - 1, height - 1
    if image.info.get("interlace"):  # the last pass has the odd rows, and the one before it the odd columns
        x, y = (x, y - height % 2) if y else (max(0, x - width % 2), 0)
    marked = Image.new(image.mode, image.size, None)
    bands = len(marked.getbands())
    value = mark if bands == 1 else (mark,) * bands
    marked.putpixel((x, y), value)
    image.im = marked.im
    image.load()
    return image.getpixel((x, y)) != value


def _convert_color_key(image: ImageFile.ImageFile) -> tuple[str, ...]:
    """Convert the color that a PNG states as transparent as Pillow converts its pixels."""
    key = image.info.get("transparency")
    form = str(image.tile[0].args) if image.tile else ""
    if isinstance(key, int) and image.mode == "L":
        bits = _SHORT_GRAY.get(form, 8)
        image.info["transparency"] = (key & (1 << bits) - 1) * 255 // ((1 << bits) - 1)
    elif isinstance(key, tuple):
        if form == _DEEP_COLORS:
            image.info["transparency"] = tuple(value >> 8 for value in key)
            return ("the transparent color of 16 bits was compared by its high bytes",)
        image.info["transparency"] = tuple(value & 255 for value in key)
    return ()
