"""Pixels as the bytes of a JPEG, for a page to show.

Knows how a picture leaves Belvedere; does not know where it came from.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

JPEG_QUALITY = 88


def to_jpeg(pixels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Encodes a picture, (H, W, 3)."""
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


def to_data_uri(pixels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> str:
    """Encodes a picture, (H, W, 3), as a source that stands inside a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(to_jpeg(pixels, quality)).decode()}"
