"""Bytes to RGB uint8 pixels: the only place where a picture is decoded.

Knows file formats, colour models, orientation, damage and limits, and how pixels are fitted to a model's input; does
not know labels, models or what the pixels are for.

JPEGs take the fast path (simplejpeg, libjpeg-turbo); everything else, and every JPEG that is unusual or damaged, goes
through Pillow. Both decode a JPEG with the accurate inverse transform and smooth chroma, and agree within
`JPEG_AGREEMENT` levels. Colour profiles are not applied. Grey of 16 bits becomes 8 by v / 257, rounded; colour of 16
bits keeps its high byte, which is all that Pillow gives: at most one level apart.
"""

import math
import stat
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from belvedere.errors import InvalidImageError
from belvedere.images.containers import (
    MAX_SEGMENTS,
    check_container,
    check_exif,
    check_fill_bytes,
    check_text_exif,
    count_frames,
)
from belvedere.images.limits import BoundedFile, Refused, check_decoder, check_pixels, check_scans
from belvedere.images.quiet import pillow_warnings
from belvedere.images.resize import resize_image
from belvedere.runtime.parallel import parallel_map
from belvedere.types.model import Preprocess

# fmt: off
PICTURE_SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg",
    ".png", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
))
# fmt: on
# Only formats that Pillow decodes by itself: EPS, for one, would start another program.
PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG_AGREEMENT = 0  # largest difference between the two paths for one JPEG, in levels, with the wheels of PyPI
MAX_PIXELS = 100_000_000  # of one picture: 300 MB decoded
MAX_BYTES = 200_000_000  # of one file
LARGE_PIXELS = 50_000_000  # above this, one picture at a time: Pillow needs several copies of it on the way
READING_VERSION = 1  # raised when the same file would give other pixels: what was cached before is not taken then
REDUCED_STILL = 3.0  # times the model's input that a picture decoded at a reduced scale still has, at least

RGB = NDArray[np.uint8]
_ORIENTATION_TAG = 0x0112
_alone = threading.Lock()
_APPLICATION_1, _START_OF_SCAN = b"\xff\xe1", b"\xff\xda"  # of a JPEG: where EXIF and XMP are; where pixels begin
_ORIENTATION_MARKS = (b"Exif\x00\x00", b"tiff:Orientation")  # EXIF, and XMP, which Pillow asks where EXIF is silent
# What Pillow's parsers raise on bytes that are not what they claim to be.
_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture's pixels and what was decided in reading them."""

    pixels: RGB  # (H, W, 3)
    notes: tuple[str, ...] = ()  # such as "first of 12 frames"


def read_image(source: Path | str | bytes) -> RGB:
    """Reads a picture.

    Args:
        source: A path, or the bytes of a file.

    Returns:
        RGB pixels, (H, W, 3), upright by its EXIF orientation; transparency is laid over white.

    Raises:
        InvalidImageError: It can't be read, or is over `MAX_PIXELS` or `MAX_BYTES`; the message names file and reason.
    """
    return decode_image(source).pixels


def decode_image(
    source: Path | str | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, least_side: int = 0
) -> DecodedImage:
    """Reads a picture as `read_image`, and says what was decided in reading it.

    Args:
        source: A path, or the bytes of a file.
        max_pixels: Height times width that is refused above, before anything of that size is decoded.
        max_bytes: Size of the file that is refused above, before it is read.
        least_side: Where over 0, a JPEG may be decoded at half its scale or less, as long as no side of it becomes
            shorter than this.

    Returns:
        The pixels, (H, W, 3), and the notes.

    Raises:
        InvalidImageError: As `read_image`.
    """
    name = "picture" if isinstance(source, bytes) else str(source)
    with _refusing(name):
        content = read_content(source, max_bytes)
        check_container(content)
        is_jpeg = content[:3] == b"\xff\xd8\xff"
        return _decode_jpeg(content, max_pixels, least_side) if is_jpeg else _decode_any(content, max_pixels)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn a refusal, or memory that does not suffice for one picture, into the error of that picture."""
    try:
        yield
    except Refused as refused:
        raise refused.becomes(name, str(refused)) from None
    except MemoryError:
        raise InvalidImageError(name, "needs more memory than there is") from None


def is_pillow(given: object) -> TypeGuard[Image.Image]:
    """Return whether an object is an image of Pillow's."""
    return isinstance(given, Image.Image)


def decode_pillow(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Convert an image that Pillow opened or made, by the same rules as a file: upright, over white, 8 bits.

    Raises:
        InvalidImageError: Its file is damaged, or it is over `max_pixels`.
    """
    try:
        if image.width * image.height > max_pixels:
            raise Refused(f"{image.width * image.height:,} pixels, over the limit of {max_pixels:,}")
        with pillow_warnings.ignored():
            return _turn(_to_rgb(image), _orientation(image))
    except Refused as refused:
        raise InvalidImageError("picture", str(refused)) from None
    except _DECODE_ERRORS as error:
        raise InvalidImageError("picture", _reason(error)) from error


def read_content(source: Path | str | bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a file's bytes, if it is a file that may be a picture.

    Raises:
        InvalidImageError: There is no such file, it can't be opened, or it is empty or over `max_bytes`.
    """
    if isinstance(source, bytes):
        content, size = source, len(source)
    else:
        try:
            path = Path(source)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise InvalidImageError(str(source), "is a folder" if path.is_dir() else "is not a regular file")
            size = status.st_size
            content = path.read_bytes() if size <= max_bytes else b""
        except FileNotFoundError:
            raise InvalidImageError(str(source), "no such file") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InvalidImageError(str(source), f"can't be opened: {reason}") from error
    name = "picture" if isinstance(source, bytes) else str(source)
    if size == 0:
        raise InvalidImageError(name, "empty file")
    if size > max_bytes:
        raise InvalidImageError(name, f"{size:,} bytes, over the limit of {max_bytes:,}")
    return content


def read_input(
    source: Path | str | bytes, preprocess: Preprocess, *, reduced: bool = False, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Reads a picture as a model's input: the one way from a file to pixels, in training and in use.

    Args:
        source: A path, or the bytes of a file.
        preprocess: The model's input.
        reduced: Whether a JPEG much larger than the input may be decoded at a reduced scale, which is several times
            quicker and moves pixels by a level or two. Never in training: what is learnt from is read in full.
        max_pixels: As `decode_image`.

    Returns:
        Pixels (preprocess.height, preprocess.width, 3) and the notes.

    Raises:
        InvalidImageError: As `read_image`.
    """
    least_side = math.ceil(REDUCED_STILL * max(preprocess.height, preprocess.width)) if reduced else 0
    with _refusing("picture" if isinstance(source, bytes) else str(source)):
        decoded = decode_image(source, max_pixels=max_pixels, least_side=least_side)
        return DecodedImage(resize_image(decoded.pixels, preprocess), decoded.notes)


def read_inputs(
    sources: Iterable[Path | str | bytes], preprocess: Preprocess
) -> Iterator[DecodedImage | InvalidImageError]:
    """Reads many pictures as `read_input`, ahead of the caller and on every core, in memory that stays flat.

    Args:
        sources: Paths, or the bytes of files; taken as they are needed.
        preprocess: The model's input.

    Returns:
        For each source, in order, the picture or the error that names what is wrong with it.
    """

    def read(source: Path | str | bytes) -> DecodedImage | InvalidImageError:
        try:
            return read_input(source, preprocess)
        except InvalidImageError as error:
            return error.detached()

    return parallel_map(read, sources)


def _decode_jpeg(content: bytes, max_pixels: int, least_side: int) -> DecodedImage:
    """The fast path, or the slow one where that must decide: CMYK, damage, a header the fast one does not know."""
    damage = ""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        check_pixels(width, height, max_pixels, len(content))
        check_scans(content, width * height)
        try:
            if colours in ("YCbCr", "Gray", "RGB"):
                size = {"min_height": least_side, "min_width": least_side, "min_factor": 2} if least_side else {}
                pixels: RGB = simplejpeg.decode_jpeg(content, colorspace="RGB", **size)
                return _turn(pixels, _jpeg_orientation(content))
            simplejpeg.decode_jpeg(content, colorspace="CMYK")  # only to hear of damage: Pillow converts the colours
        except ValueError as error:
            damage = " ".join(str(error).split())
    except ValueError:
        pass
    decoded = _decode_any(content, max_pixels)
    return DecodedImage(decoded.pixels, (*decoded.notes, f"damaged JPEG data: {damage}")) if damage else decoded


def _jpeg_orientation(content: bytes) -> int:
    if not (_may_have_exif(content) and any(mark in content for mark in _ORIENTATION_MARKS)):
        return 1
    with pillow_warnings.ignored():
        try:
            image = _open(content)
        except Refused:  # the fast decoder has read it
            return 1
        with image:
            return _orientation(image)


def _may_have_exif(content: bytes) -> bool:
    """Whether a JPEG has a segment for EXIF or XMP, or odd ones: a walk from head to head, which is quick."""
    place = 2
    for _ in range(MAX_SEGMENTS):
        marker = content[place : place + 2]
        if marker == _START_OF_SCAN:
            return False
        if marker == _APPLICATION_1 or marker[:1] != b"\xff":
            return True
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return True


def _decode_any(content: bytes, max_pixels: int) -> DecodedImage:
    with pillow_warnings.ignored(), _open(content) as image:
        check_pixels(*image.size, max_pixels, len(content))
        check_decoder(image, len(content))
        if image.format in ("JPEG", "MPO"):
            check_scans(content, image.width * image.height)
            check_fill_bytes(content)
        try:
            with _alone if image.width * image.height > LARGE_PIXELS else nullcontext():
                pixels = _to_rgb(image)
        except _DECODE_ERRORS as error:
            raise Refused(_reason(error)) from error
        decoded = _turn(pixels, _orientation(image))  # asked after decoding: Pillow turns TIFFs itself
        notes = _frame_notes(image, content)
    return DecodedImage(decoded.pixels, notes + decoded.notes)


def _open(content: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(BoundedFile(content), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise Refused("not a picture in a format that can be read") from None
    except _DECODE_ERRORS as error:
        raise Refused(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"far more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if "truncated" in text.lower() else f"damaged: {text}"


def _orientation(image: Image.Image) -> int:
    try:
        if isinstance(exif := image.info.get("exif"), bytes):
            check_exif(exif)
        elif isinstance(text := image.info.get("Raw profile type exif"), str):  # a PNG's, as Pillow reads it
            check_text_exif(text)
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frame_notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    if image.format == "MPO":  # a phone's JPEG with a preview or a depth map behind the picture
        return ()
    # Pillow would go through the frames of a GIF or the pages of a TIFF one by one; the others state their number.
    frames = count_frames(content) if image.format in ("GIF", "TIFF") else int(getattr(image, "n_frames", 1))
    if frames is None:
        return ("first of several frames",)
    return (f"first of {frames} frames",) if frames > 1 else ()


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I;16"):
        # 16 bits to 8 by v / 257, rounded: 65,535 becomes 255.
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        return _wide_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        paper = Image.new("RGB", coloured.size, "white")
        paper.paste(coloured, mask=coloured.getchannel("A"))
        return np.array(paper)
    return np.array(image.convert("RGB"))  # a copy: what numpy borrows from Pillow is read-only


def _wide_to_rgb(image: Image.Image) -> RGB:
    """32-bit pixels have no agreed range; those that fit 16 bits are taken as such."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
        raise Refused(f"{'floating-point' if image.mode == 'F' else '32-bit'} pixels, whose range nobody states")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turn(pixels: RGB, orientation: int) -> DecodedImage:
    """Makes a picture upright by its EXIF orientation, 1 to 8 (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return DecodedImage(pixels)
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    turned = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return DecodedImage(np.ascontiguousarray(turned), (f"turned by its EXIF orientation ({orientation})",))
