"""Decodes image files to RGB uint8 pixels.

simplejpeg (libjpeg-turbo) decodes JPEGs, pillow-heif HEIF, and Pillow all other formats, and JPEGs that are unusual or
damaged. The two JPEG decoders give the same pixels within `JPEG_AGREEMENT` levels. Color profiles are not applied.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar

import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin

from belvedere.errors import InvalidImageError
from belvedere.images.containers import check_container, check_fill_bytes, count_frames
from belvedere.images.content import IN_MEMORY, MAX_BYTES, name_of, read_content
from belvedere.images.damage import DECODE_ERRORS, check_rows, check_scans_are_whole, check_zeros, describe_failure
from belvedere.images.formats import describe_misread, is_heif
from belvedere.images.heif import open_heif
from belvedere.images.jpeg_headers import END_MARKER, describe_frame, has_all_coefficients
from belvedere.images.jpeg_scale import SAMPLES, find_reduction, has_several_scans, reduction_warnings, scale_options
from belvedere.images.limits import (
    BoundedFile,
    ImageRejectedError,
    check_decoder,
    check_pixels,
    check_scans,
    default_max_pixels,
)
from belvedere.images.orientation import checked_exif, make_upright, may_have_orientation, read_orientation
from belvedere.images.pixels import depth_warnings, has_deep_colors, to_rgb, transparency_warnings
from belvedere.images.png_chunks import PNG_HEAD, WRONG_CHECKSUM, keep_pixels, without_pixels
from belvedere.images.png_pixels import load_png
from belvedere.images.quiet import pillow_warnings
from belvedere.images.resize import RGB as RGB
from belvedere.images.resize import resize_image
from belvedere.images.tiff_layout import TiffLayout, read_layout, split
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import Preprocess

# Formats that Pillow decodes by itself; EPS, for example, would start another program.
PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
JPEG_AGREEMENT = 0  # largest difference between the two JPEG decoders, in levels, with the wheels of PyPI
LARGE_PIXELS = 50_000_000  # larger images are decoded one at a time, since Pillow needs several copies
DECODER_VERSION = 3  # increased when the pixels of a file change, which invalidates caches
DRAFT_FACTOR = 3.0  # smallest size of an image decoded at reduced scale, relative to the model's input

Header = TypeVar("Header")
_large_image_lock = threading.RLock()  # the planes of a TIFF take it once more
_JPEG = b"\xff\xd8\xff"
# Messages of libjpeg-turbo: the end marker is missing; a lossless JPEG, whose colors are not converted.
_NO_END_MARKER, _LOSSLESS = "Premature end of JPEG file", "Unsupported color conversion request"


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
        InvalidImageError: The image cannot be read, or exceeds the limit of pixels or `MAX_BYTES`.
    """
    return decode_image(source).pixels


def decode_image(
    source: Path | str | bytes,
    *,
    max_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
    min_size: int = 0,
    reduce: bool = True,
) -> DecodedImage:
    """Decode an image as `read_image`, with warnings.

    Args:
        source: A path, or the bytes of a file.
        max_pixels: Maximal height times width, checked before decoding. Default: `default_max_pixels`.
        max_bytes: Maximal size of the file, checked before reading.
        min_size: If over 0, a JPEG may be decoded at half its scale or less, while both sides keep this many pixels.
        reduce: Whether a JPEG over `max_pixels` is decoded at the largest scale that is within it: 1/2, 1/4 or 1/8.

    Returns:
        Pixels, (H, W, 3), and warnings.

    Raises:
        InvalidImageError: As `read_image`.
    """
    with _naming_errors(source):
        content = read_content(source, max_bytes)
        check_container(content)
        max_pixels = max_pixels or default_max_pixels()
        if content[:3] == _JPEG:
            return _decode_jpeg(content, max_pixels, min_size, reduce)
        return _decode_with_pillow(content, max_pixels)


@contextmanager
def _naming_errors(source: Path | str | bytes) -> Iterator[None]:
    """Convert a rejection, or a lack of memory, to an `InvalidImageError` with the file name."""
    try:
        yield
    except ImageRejectedError as rejected:
        raise rejected.error(name_of(source), str(rejected)) from None
    except MemoryError:
        raise InvalidImageError(name_of(source), "not enough memory") from None


def is_pillow(given: object) -> TypeGuard[Image.Image]:
    """Return whether an object is a Pillow image."""
    return isinstance(given, Image.Image)


def decode_pillow(image: Image.Image, *, max_pixels: int | None = None) -> DecodedImage:
    """Convert a Pillow image by the same rules as a file: upright, over white, 8 bits.

    Raises:
        InvalidImageError: Its file is damaged, or it exceeds `max_pixels`.
    """
    max_pixels = max_pixels or default_max_pixels()
    try:
        if image.width * image.height > max_pixels:
            raise ImageRejectedError(f"{image.width * image.height:,} pixels, over the limit of {max_pixels:,}")
        with pillow_warnings.ignored():
            return _upright(to_rgb(image), read_orientation(image))
    except ImageRejectedError as rejected:
        raise InvalidImageError(IN_MEMORY, str(rejected)) from None
    except DECODE_ERRORS as error:
        raise InvalidImageError(IN_MEMORY, describe_failure(error, b"")) from error


def read_input(
    source: Path | str | bytes,
    preprocess: Preprocess,
    *,
    draft: bool = False,
    max_pixels: int | None = None,
    reduce: bool = True,
) -> DecodedImage:
    """Read an image as a model's input.

    Args:
        source: A path, or the bytes of a file.
        preprocess: Input of the model.
        draft: Whether to decode a JPEG much larger than the input at a reduced scale; training decodes in full.
        max_pixels: As `decode_image`.
        reduce: As `decode_image`.

    Returns:
        Pixels, (preprocess.height, preprocess.width, 3), and warnings.

    Raises:
        InvalidImageError: As `read_image`.
    """
    [found] = read_resized(source, (preprocess,), draft=draft, max_pixels=max_pixels, reduce=reduce)
    return found


def read_resized(
    source: Path | str | bytes,
    preprocesses: Sequence[Preprocess],
    *,
    draft: bool = False,
    max_pixels: int | None = None,
    reduce: bool = True,
) -> list[DecodedImage]:
    """Read an image at several sizes, as `read_input`, but decode it once."""
    largest = max(max(each.height, each.width) for each in preprocesses)
    min_size = math.ceil(DRAFT_FACTOR * largest) if draft else 0
    with _naming_errors(source):
        decoded = decode_image(source, max_pixels=max_pixels, min_size=min_size, reduce=reduce)
        return [DecodedImage(resize_image(decoded.pixels, each), decoded.warnings) for each in preprocesses]


def _decode_jpeg(content: bytes, max_pixels: int, min_size: int, reduce: bool) -> DecodedImage:
    """Decode with simplejpeg, or with Pillow if the JPEG is CMYK, damaged or has an unusual header."""
    warnings: tuple[str, ...] = ()
    try:
        height, width, colors, subsampling = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        colors = ""
    if colors:
        reduction = find_reduction(content, (width, height), SAMPLES.get(subsampling, 4.0), max_pixels, reduce)
        check_scans(content, width * height)
        scale = scale_options(width, height, reduction, min_size) if reduction > 1 or min_size else {}
        try:
            with _large_image_lock if reduction > 1 and has_several_scans(content) else nullcontext():
                content, pixels, warnings = _decode_whole_jpeg(content, colors, scale)
            if pixels is not None:
                warnings += reduction_warnings(reduction, pixels, (width, height), min_size)
                return _upright(pixels, _jpeg_orientation(content), warnings)
        except ValueError as error:
            warnings = (f"damaged JPEG data: {describe_error(error)}",)
    if reason := describe_frame(content):
        raise ImageRejectedError(reason)
    if warnings:
        check_scans_are_whole(content)
    return _decode_with_pillow(content, max_pixels, reduce, warnings)


def _decode_whole_jpeg(
    content: bytes, colors: str, scale: Mapping[str, int]
) -> tuple[bytes, RGB | None, tuple[str, ...]]:
    """Return a JPEG with its end marker, its pixels unless Pillow has to convert them, and warnings.

    Raises:
        ValueError: It is damaged.
    """
    try:
        return content, _decode_fast(content, colors, scale), ()
    except ValueError as error:
        if not (str(error).startswith(_NO_END_MARKER) and has_all_coefficients(content)):
            raise
        whole = content + END_MARKER
        try:
            return whole, _decode_fast(whole, colors, scale), ("JPEG without an end marker",)
        except ValueError:  # the first message says more
            raise error from None


def _decode_fast(content: bytes, colors: str, scale: Mapping[str, int]) -> RGB | None:
    if colors in ("YCbCr", "Gray", "RGB"):
        try:
            pixels: RGB = simplejpeg.decode_jpeg(content, colorspace="RGB", **scale)
            return pixels
        except ValueError as error:
            if str(error) != _LOSSLESS:
                raise
    # only to detect damage: Pillow converts the colors
    simplejpeg.decode_jpeg(content, colorspace="Gray" if colors == "Gray" else "CMYK", **scale)
    return None


def _jpeg_orientation(content: bytes) -> int:
    if not may_have_orientation(content):
        return 1
    with pillow_warnings.ignored():
        try:
            image = _open(content)
        except ImageRejectedError:  # but the fast decoder succeeded
            return 1
        with image:
            return read_orientation(image)


def _decode_with_pillow(
    content: bytes, max_pixels: int, reduce: bool = True, damage: tuple[str, ...] = ()
) -> DecodedImage:
    """Decode with Pillow; `damage` are warnings of another decoder."""
    if reason := describe_misread(content):
        raise ImageRejectedError(reason)
    layout = read_layout(content)
    if layout and layout.is_split:
        with _lock_if_large(layout.pixels):
            return _decode_planes(content, layout, max_pixels)
    whole = content
    if content.startswith(PNG_HEAD):
        content, damage = keep_pixels(content)
    with pillow_warnings.ignored(), _open(content) as image:
        stored, reduction = image.size, 1
        if image.format in ("JPEG", "MPO"):
            reduction = find_reduction(content, stored, len(image.getbands()), max_pixels, reduce)
            check_scans(content, image.width * image.height)
            check_fill_bytes(content)
        if reduction > 1:
            image.draft(None, (image.width // reduction, image.height // reduction))
        check_pixels(*image.size, max_pixels, len(content))
        check_decoder(image, len(content))
        is_deep = has_deep_colors(image)
        try:
            with _lock_if_large(stored[0] * stored[1]):
                if image.format == "PNG":
                    image, found = load_png(image, content, WRONG_CHECKSUM not in damage, _open)
                    damage += found
                pixels, warnings = to_rgb(image), damage + depth_warnings(image, is_deep)
        except DECODE_ERRORS as error:
            raise ImageRejectedError(describe_failure(error, whole)) from error
        if damage and image.format in ("JPEG", "MPO"):
            check_rows(pixels)
        warnings += _frame_warnings(image, whole) + reduction_warnings(reduction, pixels, stored)
        if layout:
            warnings += layout.warnings + transparency_warnings(image)
        # The orientation is read after decoding, since Pillow rotates TIFFs itself.
        return _upright(pixels, read_orientation(image), warnings)


def _lock_if_large(pixels: int) -> AbstractContextManager[object]:
    return _large_image_lock if pixels > LARGE_PIXELS else nullcontext()


def _decode_planes(content: bytes, layout: TiffLayout, max_pixels: int) -> DecodedImage:
    """Decode each band of a TIFF as a gray image, and join them."""
    bands: list[Image.Image] = []
    found: list[tuple[str, ...]] = []
    for part in split(content, layout):  # one after the other, since each is decoded to three equal bands
        decoded = _decode_with_pillow(part, max_pixels)
        gray = decoded.pixels[:, :, 0]
        bands.append(Image.fromarray(255 - gray if layout.is_inverted else gray.copy()))
        found.append(decoded.warnings)
        del decoded, gray  # before the next band is decoded
    image = Image.merge(layout.mode, bands)
    shared = [text for text in found[0] if all(text in each for each in found)]
    warnings = (*shared, *_first_of(count_frames(content)), *layout.warnings, *transparency_warnings(image))
    return DecodedImage(to_rgb(image), warnings)


def _open(content: bytes) -> ImageFile.ImageFile:
    try:
        check_zeros(content)
        if content[:3] == _JPEG:
            return JpegImagePlugin.jpeg_factory(BoundedFile(content))  # without Pillow's own limit of pixels
        return open_heif(content) if is_heif(content) else Image.open(BoundedFile(content), formats=PILLOW_FORMATS)
    except DECODE_ERRORS as error:
        raise ImageRejectedError(describe_failure(error, content)) from error


def read_header(source: Path | str | bytes, read: Callable[[Image.Image, Image.Exif], Header]) -> Header | None:
    """Return what a function reads from an image that is not decoded and its EXIF data; None if that fails.

    Raises:
        InvalidImageError: The file cannot be opened.
    """
    content = read_content(source)
    try:
        check_container(content)
        if content.startswith(PNG_HEAD):
            content = without_pixels(keep_pixels(content)[0])
        with pillow_warnings.ignored(), _open(content) as image:
            return read(image, checked_exif(image))
    except (ImageRejectedError, *DECODE_ERRORS):
        return None


def _frame_warnings(image: Image.Image, content: bytes) -> tuple[str, ...]:
    if image.format == "MPO":  # JPEG of a phone with a preview or a depth map
        return ()
    # Pillow would parse each frame of a GIF and each page of a TIFF, and is given the first image of a PNG.
    is_counted = image.format in ("GIF", "TIFF", "PNG")
    frames = count_frames(content) if is_counted else int(getattr(image, "n_frames", 1))
    return _first_of(frames, "primary image" if image.format == "HEIF" else "first")


def _first_of(frames: int | None, name: str = "first") -> tuple[str, ...]:
    if frames is None:
        return ("first of several frames",)
    return (f"{name} of {frames} frames",) if frames > 1 else ()


def _upright(pixels: RGB, orientation: int, warnings: tuple[str, ...] = ()) -> DecodedImage:
    pixels, found = make_upright(pixels, orientation)
    return DecodedImage(pixels, warnings + found)
