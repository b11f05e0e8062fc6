"""What `predict` takes: paths, bytes, arrays, Pillow images, open files, or several of these; names on stdin."""

import os
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOBase
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidImageError, UnsupportedInputError, UsageError
from belvedere.images.decode import MAX_BYTES, DecodedImage, decode_pillow, is_pillow

TAKEN = (
    "a path, bytes, an array (height, width, 3) or (height, width) of uint8 in RGB order, a PIL image, a binary file, "
    "or an iterable of these"
)
LONGEST_NAME = 1 << 14  # bytes between two separators, above which a list of names is none; no system has longer ones
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8, before a list that was written on Windows
IN_MEMORY = "picture"  # the name of an image that has no path

Source = Path | str | bytes | DecodedImage | InvalidImageError  # the last one: pixels that could not be had


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
        except InvalidImageError as error:
            return error.detached()
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


def read_paths(file: BinaryIO, separator: bytes = b"\n") -> Iterator[str]:
    """Read names of files, such as `find` prints, as they come; empty ones are left out.

    Args:
        file: Where they come from.
        separator: What ends each. Before an end of line a carriage return is left out.

    Raises:
        UsageError: What comes is no list of names, or can't be read.
    """
    for name in _split(_read_blocks(file, separator), separator):
        if separator == b"\n":
            name = name.removesuffix(b"\r")
        if name:
            yield os.fsdecode(name)


def _split(blocks: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *names, rest = (rest + block).split(separator)
        if max(map(len, (*names, rest))) > LONGEST_NAME:
            raise _no_names()
        yield from names
    yield rest


def _read_blocks(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Read what there is, without waiting for more; refuse what no list of names begins with or holds."""
    is_first = True
    try:
        while block := file.read1(1 << 16):  # type: ignore[attr-defined]
            if (is_first and block.startswith(IMAGE_STARTS)) or (separator != b"\0" and b"\0" in block):
                raise _no_names()
            yield block.removeprefix(BYTE_ORDER_MARK) if is_first else block
            is_first = False
    except OSError as error:
        raise UsageError(f"Can't read names from stdin: {error.strerror}. Give them, or name the pictures.") from error


def _no_names() -> UsageError:
    return UsageError("What comes on stdin is no list of names: one a line, or between NULs with --null.")
