"""Decodes JPEGs over the limit of pixels at a reduced scale, such as photos of 108 and 200 megapixels.

libjpeg-turbo decodes at 1/2, 1/4 or 1/8 of the scale in a fraction of the memory, except for JPEGs of several scans.
"""

from belvedere.errors import ImageTooLargeError
from belvedere.images.limits import ImageRejectedError, check_pixels, has_more_scans
from belvedere.images.resize import RGB

STORED_FACTOR = 5  # a JPEG may have this multiple of the limit before it is reduced
BUFFERED_BYTES = 8  # per pixel of the limit: memory of the coefficients of a JPEG of several scans
SAMPLES = {"Gray": 1.0, "420": 1.5, "411": 1.5, "422": 2.0, "440": 2.0, "444": 3.0}  # per pixel, by subsampling


def find_reduction(content: bytes, size: tuple[int, int], samples: float, max_pixels: int, reduce: bool) -> int:
    """Return the denominator of the largest scale at which a JPEG is within the limit: 1, 2, 4 or 8.

    Args:
        content: The file.
        size: Width and height that its header states.
        samples: Samples per pixel: 3 for color, less where color is stored at a lower resolution.
        max_pixels: Maximal height times width, after decoding.
        reduce: Whether it may be reduced.

    Raises:
        ImageRejectedError: It has too many pixels even so, or would be held in memory as a whole and is too large.
    """
    width, height = size
    check_pixels(width, height, STORED_FACTOR * max_pixels if reduce else max_pixels, len(content))
    if width * height <= max_pixels:
        return 1
    if 2 * samples * width * height > BUFFERED_BYTES * max_pixels and has_several_scans(content):
        raise ImageRejectedError(
            f"{width:,} x {height:,} pixels in a progressive JPEG need too much memory: save it as baseline JPEG",
            ImageTooLargeError,
        )
    return next((each for each in (2, 4) if -(-width // each) * -(-height // each) <= max_pixels), 8)


def has_several_scans(content: bytes) -> bool:
    """Return whether a JPEG is progressive or has a scan per color: a decoder holds all of it in memory."""
    return has_more_scans(content, 1)


def scale_options(width: int, height: int, reduction: int, min_size: int) -> dict[str, int]:
    """Return arguments of simplejpeg: the scale of the limit, or a smaller one if both sides keep `min_size` pixels."""
    sides = {"min_width": -(-width // reduction), "min_height": -(-height // reduction)}
    return {name: min(side, min_size or side) for name, side in sides.items()} | {"min_factor": max(2, reduction)}


def reduction_warnings(reduction: int, pixels: RGB, size: tuple[int, int], min_size: int = 0) -> tuple[str, ...]:
    """Return what the limit of pixels changed."""
    height, width = pixels.shape[:2]
    if reduction == 1 or (min_size and min(height, width) >= min_size):
        return ()
    return (f"{size[0]:,} x {size[1]:,} pixels, decoded at {width:,} x {height:,}",)
