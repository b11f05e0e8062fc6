"""Converts Pillow images to RGB pixels.

Transparency is blended with white. 16-bit gray becomes 8-bit by v / 257, rounded; 16-bit color keeps its high byte,
which is all that Pillow provides.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from belvedere.images.limits import ImageRejectedError
from belvedere.images.resize import RGB

_DEPTHS = (8, 10, 12, 14)  # bits of cameras and scanners whose values are stored in 16 bits


def to_rgb(image: Image.Image) -> RGB:
    """Return the pixels of an image, (H, W, 3).

    Raises:
        ImageRejectedError: The range of its values is unknown.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        pixels = _gray16_to_rgb(values)
        if isinstance(key := image.info.get("transparency"), int):
            pixels[values == key] = 255
        return pixels
    if image.mode in ("I", "F"):  # 32 bits have no standard range; only values of 16 bits are accepted
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
            kind = "floating-point" if image.mode == "F" else "32-bit"
            raise ImageRejectedError(f"{kind} pixels are not supported: value range unknown")
        return _gray16_to_rgb(values.astype(np.uint32))
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # many Windows programs leave alpha empty
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGB", rgba.size, "white")
        background.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(background)
    return np.array(image.convert("RGB"))  # a copy, since arrays on Pillow's memory are read-only


def _gray16_to_rgb(values: NDArray[np.uint32]) -> RGB:
    gray = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def has_deep_colors(image: ImageFile.ImageFile) -> bool:
    """Return whether a file that is not yet decoded has 16 bits per sample."""
    return any(";16" in str(tile.args) for tile in image.tile)


def transparency_warnings(image: Image.Image) -> tuple[str, ...]:
    """Return whether a TIFF is transparent: bands such as near infrared are often marked as alpha."""
    is_opaque = image.mode not in ("RGBA", "LA") or image.getchannel("A").getextrema()[0] == 255
    return () if is_opaque else ("transparency was blended with white",)


def depth_warnings(image: Image.Image, is_deep: bool) -> tuple[str, ...]:
    """Return whether an image of 16 bits is dark since its values have fewer bits.

    Args:
        image: A decoded image.
        is_deep: Whether its file has 16 bits per sample, of which Pillow keeps the high byte in color.
    """
    if image.mode.startswith("I"):
        highest = int(np.asarray(image).max())
    elif is_deep and image.mode in ("RGB", "RGBA", "LA"):
        highest = int(np.asarray(image.convert("RGB")).max()) * 256 + 255
    else:
        return ()
    bits = next((each for each in _DEPTHS if highest < 1 << each), 0)
    if not bits or not highest:
        return ()
    values = f"no value over {(1 << bits) - 1:,} of 65,535"
    return (f"dark: {values}. If these are {bits}-bit values, multiply them by {1 << 16 - bits}",)
