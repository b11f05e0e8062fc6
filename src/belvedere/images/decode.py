"""Decodes image files to RGB uint8 pixels.

simplejpeg (libjpeg-turbo) decodes JPEGs; Pillow decodes all other formats, and JPEGs that are unusual or damaged. Both
decode a JPEG to the same pixels within `JPEG_AGREEMENT` levels. Color profiles are not applied. 16-bit gray becomes
8-bit by v / 257, rounded; 16-bit color keeps its high byte, which is all that Pillow provides.
"""

import math
import stat
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
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
from belvedere.images.limits import BoundedFile, ImageRejectedError, check_decoder, check_pixels, check_scans
from belvedere.images.quiet import pillow_warnings
from belvedere.images.resize import RGB as RGB
from belvedere.images.resize import resize_image
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import Preprocess

# Formats that Pillow decodes by itself; EPS, for example, would start another program.
PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG_AGREEMENT = 0  # largest difference between the two JPEG decoders, in levels, with the wheels of PyPI
MAX_PIXELS = 100_000_000  # per image: 300 MB decoded
MAX_BYTES = 200_000_000  # per file
LARGE_PIXELS = 50_000_000  # larger images are decoded one at a time, since Pillow needs several copies
DECODER_VERSION = 1  # increased when the pixels of a file change, which invalidates caches
DRAFT_FACTOR = 3.0  # smallest size of an image decoded at reduced scale, relative to the model's input
IN_MEMORY = "image"  # name of an image without a path

_ORIENTATION_TAG = 0x0112
_large_image_lock = threading.Lock()
_APPLICATION_1, _START_OF_SCAN = b"\xff\xe1", b"\xff\xda"  # JPEG segments: EXIF or XMP; pixels
_ORIENTATION_MARKS = (b"Exif\x00\x00", b"tiff:Orientation")  # EXIF; XMP, which Pillow reads if EXIF has none
# Errors that Pillow's parsers raise on malformed files.
_DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels of an image, and how it was decoded."""

    pixels: RGB  # (H, W, 3)
    warnings: tuple[str, ...] = ()  # such as "first of 12 frames"


def read_image(source: Path | str | bytes) -> RGB:
    """Decode an image.

    Args:
        source: A path, or the bytes of a file.

    Returns:
        RGB pixels, (H, W, 3), upright by EXIF orientation; transparency is blended with white.

    Raises:
        InvalidImageError: The image cannot be read, or exceeds `MAX_PIXELS` or `MAX_BYTES`.
    """
    return decode_image(source).pixels


def decode_image(
    source: Path | str | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, min_size: int = 0
) -> DecodedImage:
    """Decode an image as `read_image`, with warnings.

    Args:
        source: A path, or the bytes of a file.
        max_pixels: Maximal height times width, checked before decoding.
        max_bytes: Maximal size of the file, checked before reading.
        min_size: If over 0, a JPEG may be decoded at half its scale or less, while both sides keep this many pixels.

    Returns:
        Pixels, (H, W, 3), and warnings.

    Raises:
        InvalidImageError: As `read_image`.
    """
    with _naming_errors(source):
        content = read_content(source, max_bytes)
        check_container(content)
        is_jpeg = content[:3] == b"\xff\xd8\xff"
        return _decode_jpeg(content, max_pixels, min_size) if is_jpeg else _decode_with_pillow(content, max_pixels)


def _name_of(source: Path | str | bytes) -> str:
    return IN_MEMORY if isinstance(source, bytes) else str(source)


@contextmanager
def _naming_errors(source: Path | str | bytes) -> Iterator[None]:
    """Convert a rejection, or a lack of memory, to an `InvalidImageError` with the file name."""
    try:
        yield
    except ImageRejectedError as rejected:
        raise rejected.error(_name_of(source), str(rejected)) from None
    except MemoryError:
        raise InvalidImageError(_name_of(source), "not enough memory") from None


def is_pillow(given: object) -> TypeGuard[Image.Image]:
    """Return whether an object is a Pillow image."""
    return isinstance(given, Image.Image)


def decode_pillow(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Convert a Pillow image by the same rules as a file: upright, over white, 8 bits.

    Raises:
        InvalidImageError: Its file is damaged, or it exceeds `max_pixels`.
    """
    try:
        if image.width * image.height > max_pixels:
            raise ImageRejectedError(f"{image.width * image.height:,} pixels, over the limit of {max_pixels:,}")
        with pillow_warnings.ignored():
            return _apply_orientation(_to_rgb(image), _orientation(image))
    except ImageRejectedError as rejected:
        raise InvalidImageError(IN_MEMORY, str(rejected)) from None
    except _DECODE_ERRORS as error:
        raise InvalidImageError(IN_MEMORY, _reason(error)) from error


def read_content(source: Path | str | bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the bytes of a file that may be an image.

    Raises:
        InvalidImageError: The file does not exist, cannot be opened, is empty or exceeds `max_bytes`.
    """
    name = _name_of(source)
    if isinstance(source, bytes):
        content, size = source, len(source)
    else:
        try:
            path = Path(source)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise InvalidImageError(name, "is a folder" if path.is_dir() else "is not a regular file")
            size = status.st_size
            content = path.read_bytes() if size <= max_bytes else b""
        except InvalidImageError:  # a ValueError
            raise
        except FileNotFoundError:
            raise InvalidImageError(name, "no such file") from None
        except (OSError, ValueError) as error:
            raise InvalidImageError(name, f"cannot be opened: {describe_error(error)}") from error
    if size == 0:
        raise InvalidImageError(name, "empty file")
    if size > max_bytes:
        raise InvalidImageError(name, f"{size:,} bytes, over the limit of {max_bytes:,}")
    return content


def read_input(
    source: Path | str | bytes, preprocess: Preprocess, *, draft: bool = False, max_pixels: int = MAX_PIXELS
) -> DecodedImage:
    """Read an image as a model's input, in training and in prediction.

    Args:
        source: A path, or the bytes of a file.
        preprocess: Input of the model.
        draft: Whether a JPEG much larger than the input may be decoded at a reduced scale, which is several times
            faster and changes pixels by a level or two. Training always decodes in full.
        max_pixels: As `decode_image`.

    Returns:
        Pixels, (preprocess.height, preprocess.width, 3), and warnings.

    Raises:
        InvalidImageError: As `read_image`.
    """
    min_size = math.ceil(DRAFT_FACTOR * max(preprocess.height, preprocess.width)) if draft else 0
    with _naming_errors(source):
        decoded = decode_image(source, max_pixels=max_pixels, min_size=min_size)
        return DecodedImage(resize_image(decoded.pixels, preprocess), decoded.warnings)


def read_inputs(
    sources: Iterable[Path | str | bytes], preprocess: Preprocess
) -> Iterator[DecodedImage | InvalidImageError]:
    """Yield images as `read_input` or their errors, in order, on all cores, ahead of the caller, in constant memory."""

    def read(source: Path | str | bytes) -> DecodedImage | InvalidImageError:
        try:
            return read_input(source, preprocess)
        except InvalidImageError as error:
            return error.detached()

    return parallel_map(read, sources)


def _decode_jpeg(content: bytes, max_pixels: int, min_size: int) -> DecodedImage:
    """Decode with simplejpeg, or with Pillow if the JPEG is CMYK, damaged or has an unusual header."""
    damage = ""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        check_pixels(width, height, max_pixels, len(content))
        check_scans(content, width * height)
        try:
            if colors in ("YCbCr", "Gray", "RGB"):
                scale = {"min_height": min_size, "min_width": min_size, "min_factor": 2} if min_size else {}
                pixels: RGB = simplejpeg.decode_jpeg(content, colorspace="RGB", **scale)
                return _apply_orientation(pixels, _jpeg_orientation(content))
            simplejpeg.decode_jpeg(content, colorspace="CMYK")  # only to detect damage: Pillow converts the colors
        except ValueError as error:
            damage = describe_error(error)
    except ValueError:
        pass
    decoded = _decode_with_pillow(content, max_pixels)
    return DecodedImage(decoded.pixels, (*decoded.warnings, f"damaged JPEG data: {damage}")) if damage else decoded


def _jpeg_orientation(content: bytes) -> int:
    if not (_may_have_exif(content) and any(mark in content for mark in _ORIENTATION_MARKS)):
        return 1
    with pillow_warnings.ignored():
        try:
            image = _open(content)
        except ImageRejectedError:  # but the fast decoder succeeded
            return 1
        with image:
            return _orientation(image)


def _may_have_exif(content: bytes) -> bool:
    """Return whether a JPEG has an EXIF or XMP segment, or an irregular one; reads segment headers only."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker = content[position : position + 2]
        if marker == _START_OF_SCAN:
            return False
        if marker == _APPLICATION_1 or marker[:1] != b"\xff":
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return True


def _decode_with_pillow(content: bytes, max_pixels: int) -> DecodedImage:
    with pillow_warnings.ignored(), _open(content) as image:
        check_pixels(*image.size, max_pixels, len(content))
        check_decoder(image, len(content))
        if image.format in ("JPEG", "MPO"):
            check_scans(content, image.width * image.height)
            check_fill_bytes(content)
        try:
            with _large_image_lock if image.width * image.height > LARGE_PIXELS else nullcontext():
                pixels = _to_rgb(image)
        except _DECODE_ERRORS as error:
            raise ImageRejectedError(_reason(error)) from error
        decoded = _apply_orientation(pixels, _orientation(image))  # read after decoding: Pillow rotates TIFFs itself
        warnings = _frame_warnings(image, content)
    return DecodedImage(decoded.pixels, warnings + decoded.warnings)


def _open(content: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(BoundedFile(content), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise ImageRejectedError("not an image in a supported format") from None
    except _DECODE_ERRORS as error:
        raise ImageRejectedError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"far more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    text = describe_error(error)
    return text if "truncated" in text.lower() else f"damaged: {text}"


def read_exif(source: Path | str | bytes, directory: int) -> Mapping[int, object]:
    """Return a directory of an image's EXIF data; empty where it has none, or they cannot be read.

    Raises:
        InvalidImageError: The file cannot be opened.
    """
    content = read_content(source)
    try:
        check_container(content)
        with pillow_warnings.ignored(), _open(content) as image:
            return dict(_checked_exif(image).get_ifd(directory))
    except (ImageRejectedError, *_DECODE_ERRORS):
        return {}


def _checked_exif(image: Image.Image) -> Image.Exif:
    if isinstance(exif := image.info.get("exif"), bytes):
        check_exif(exif)
    elif isinstance(text := image.info.get("Raw profile type exif"), str):  # in a PNG
        check_text_exif(text)
    return image.getexif()


def _orientation(image: Image.Image) -> int:
    try:
        value = _checked_exif(image).get(_ORIENTATION_TAG, 1)
    except _DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frame_warnings(image: Image.Image, content: bytes) -> tuple[str, ...]:
    if image.format == "MPO":  # JPEG of a phone with a preview or a depth map
        return ()
    # Pillow would parse each frame of a GIF and each page of a TIFF; other formats state the number.
    frames = count_frames(content) if image.format in ("GIF", "TIFF") else int(getattr(image, "n_frames", 1))
    if frames is None:
        return ("first of several frames",)
    return (f"first of {frames} frames",) if frames > 1 else ()


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I;16"):
        return _gray16_to_rgb(np.asarray(image).astype(np.uint32))
    if image.mode in ("I", "F"):  # 32 bits have no standard range; only values of 16 bits are accepted
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
            kind = "floating-point" if image.mode == "F" else "32-bit"
            raise ImageRejectedError(f"{kind} pixels are not supported: value range unknown")
        return _gray16_to_rgb(values.astype(np.uint32))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGB", rgba.size, "white")
        background.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(background)
    return np.array(image.convert("RGB"))  # a copy, since arrays on Pillow's memory are read-only


def _gray16_to_rgb(values: NDArray[np.uint32]) -> RGB:
    gray = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _apply_orientation(pixels: RGB, orientation: int) -> DecodedImage:
    """Make an image upright by its EXIF orientation, 1 to 8 (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return DecodedImage(pixels)
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    upright = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return DecodedImage(np.ascontiguousarray(upright), (f"rotated by its EXIF orientation ({orientation})",))
