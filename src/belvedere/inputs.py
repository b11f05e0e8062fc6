"""What `predict` takes: paths, bytes, arrays, Pillow images, open files, or several of these."""

import os
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import UnreadableImage, UnsupportedInputError
from belvedere.images import MAX_BYTES, DecodedImage, decode_pillow, is_pillow

TAKEN = (
    "a path, bytes, an array (height, width, 3) or (height, width) of uint8 in RGB order, a PIL image, a binary file, "
    "or an iterable of these"
)
IN_MEMORY = "picture"  # the name of an image that has no path

Source = Path | str | bytes | DecodedImage | UnreadableImage  # the last one: pixels that could not be had


def to_sources(given: object) -> Iterator[Source]:
    """Yield the images that a caller gave, one or several.

    Args:
        given: What `TAKEN` lists. Objects with the array protocol (`__array__`), such as CPU tensors, are arrays. An
            array of more dimensions is an iterable of images. Pixels are RGB: BGR can't be told from it.

    Yields:
        Paths and bytes as they are, everything else as pixels or as bytes.

    Raises:
        UnsupportedInputError: It is something else.
    """
    one = _to_source(given)
    if one is not None:
        yield one
        return
    if isinstance(given, Mapping | str | TextIOBase) or not isinstance(given, Iterable):
        raise _unsupported(given)
    for each in given:
        one = _to_source(each)
        if one is None:
            raise _unsupported(each)
        yield one


def _to_source(given: object) -> Source | None:
    """Convert one image; None for what is no image."""
    if isinstance(given, str | bytes):
        return given or (None if given == "" else b"")
    if isinstance(given, os.PathLike):
        return Path(os.fsdecode(given))
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if is_pillow(given):
        try:
            return decode_pillow(given)
        except UnreadableImage as error:
            return error
    if hasattr(given, "__array__"):
        return _from_array(np.asarray(given))
    if callable(read := getattr(given, "read", None)) and not isinstance(given, TextIOBase):
        content = read(MAX_BYTES + 1)
        return content if isinstance(content, bytes) else None
    return None


def _from_array(values: NDArray[np.generic]) -> DecodedImage | None:
    """Convert pixels; None for what may be an iterable of images."""
    if values.dtype.kind in "OSU" or (values.dtype == np.uint8 and values.ndim == 4):  # names, or a batch
        return None
    if values.dtype != np.uint8 or values.size == 0 or not (values.ndim == 2 or values.shape[2:] == (3,)):
        raise UnsupportedInputError(
            f"An array of pixels is (height, width, 3) or (height, width), uint8. Received: shape {values.shape}, "
            f"{values.dtype}. Reorder its axes, or scale it to 0..255 and convert it."
        )
    colored = values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)
    return DecodedImage(np.ascontiguousarray(colored, np.uint8))


def _unsupported(given: object) -> UnsupportedInputError:
    received = "an empty name" if given == "" else f"{type(given).__name__}"
    return UnsupportedInputError(f"An image is {TAKEN}. Received: {received}.")
