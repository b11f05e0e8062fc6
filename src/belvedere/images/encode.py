"""Encodes images: as JPEG for pages, as PNG without loss."""

import base64
import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images.decode import RGB, read_image
from belvedere.images.resize import shrink

JPEG_QUALITY = 88


def thumbnail(source: Path | str | bytes, max_size: int) -> RGB:
    """Return RGB pixels, (H, W, 3), of an image that is shrunk until no side is longer than `max_size` pixels.

    Raises:
        InvalidImageError: The image cannot be read.
    """
    return shrink(read_image(source), max_size)


def thumbnail_or_none(source: Path | str | bytes, max_size: int) -> RGB | None:
    """Return the thumbnail of an image; None if it cannot be read."""
    try:
        return thumbnail(source, max_size)
    except InvalidImageError:
        return None


def to_jpeg(pixels: RGB, quality: int = JPEG_QUALITY) -> bytes:
    """Encode pixels, (H, W, 3), as the bytes of a JPEG file."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


def compress_jpeg(pixels: RGB, quality: int) -> RGB:
    """Return pixels, (H, W, 3), with the artifacts of JPEG compression."""
    decoded: RGB = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, quality=quality))
    return decoded


def to_png(pixels: RGB) -> bytes:
    """Encode pixels, (H, W, 3), as the bytes of a PNG file, without loss; fast rather than small."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", compress_level=1)
    return content.getvalue()


def to_data_uri(pixels: RGB, quality: int = JPEG_QUALITY) -> str:
    """Encode pixels, (H, W, 3), as a JPEG data URI, for the `src` of an HTML image."""
    return f"data:image/jpeg;base64,{base64.b64encode(to_jpeg(pixels, quality)).decode()}"
