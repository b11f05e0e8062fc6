"""Converts the inputs of `predict` to images: paths, bytes, arrays, Pillow images, files, iterables, paths on stdin."""

import os
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOBase
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidImageError, UnsupportedInputError, UsageError
from belvedere.images.decode import MAX_BYTES, DecodedImage, decode_pillow, is_pillow
from belvedere.runtime.terminal import describe_error

ACCEPTED = (
    "a path, bytes, an array (height, width, 3) or (height, width) of uint8 in RGB order, a PIL image, a binary file, "
    "or an iterable of these"
)
MAX_NAME_BYTES = 1 << 14  # between two separators of a list; longer than the names of any system
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8, in lists written on Windows

Source = Path | str | bytes | DecodedImage | InvalidImageError  # the error stands for an unreadable Pillow image


def to_sources(given: object) -> Iterator[Source]:
    """Yield the images in an input.

    Args:
        given: One of `ACCEPTED`. Objects with `__array__`, such as CPU tensors, are arrays. An array of more dimensions
            is an iterable of images. Pixels must be RGB; BGR cannot be detected.

    Yields:
        Paths and bytes unchanged, everything else as pixels or bytes.

    Raises:
        UnsupportedInputError: The input is none of these.
    """
    source = _to_source(given)
    if source is not None:
        yield source
        return
    if isinstance(given, Mapping | str | TextIOBase) or not isinstance(given, Iterable):
        raise _unsupported(given)
    for each in given:
        source = _to_source(each)
        if source is None:
            raise _unsupported(each)
        yield source


def _to_source(given: object) -> Source | None:
    """Convert one image; return None if it is not one."""
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
    """Convert pixels; return None if the array may be an iterable of images."""
    if values.dtype.kind in "OSU" or (values.dtype == np.uint8 and values.ndim == 4):  # names, or a batch
        return None
    if values.dtype != np.uint8 or values.size == 0 or not (values.ndim == 2 or values.shape[2:] == (3,)):
        raise UnsupportedInputError(
            f"Unsupported array: shape {values.shape}, {values.dtype}. Expected (height, width, 3) or (height, width), "
            "uint8. Reorder the axes, or scale to 0..255 and convert."
        )
    rgb = values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)
    return DecodedImage(np.ascontiguousarray(rgb, np.uint8))


def _unsupported(given: object) -> UnsupportedInputError:
    received = "an empty name" if given == "" else type(given).__name__
    return UnsupportedInputError(f"Unsupported input: {received}. Expected {ACCEPTED}.")


def read_paths(file: BinaryIO, separator: bytes = b"\n") -> Iterator[str]:
    """Read a list of file names, such as the output of `find`, as it arrives. Empty names are left out.

    Args:
        file: Input.
        separator: Separator of names. A carriage return before a newline is removed.

    Raises:
        UsageError: The input is not a list of names, or cannot be read.
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
        if max(map(len, (*names, rest))) > MAX_NAME_BYTES:
            raise _not_names()
        yield from names
    yield rest


def _read_blocks(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Read available bytes without waiting for more; reject content that is not a list of names."""
    is_first = True
    try:
        while block := file.read1(1 << 16):  # type: ignore[attr-defined]
            if (is_first and block.startswith(IMAGE_STARTS)) or (separator != b"\0" and b"\0" in block):
                raise _not_names()
            yield block.removeprefix(BYTE_ORDER_MARK) if is_first else block
            is_first = False
    except OSError as error:
        raise UsageError(
            f"Cannot read names from stdin: {describe_error(error)}. Give the names as arguments."
        ) from error


def _not_names() -> UsageError:
    return UsageError("Not a list of paths on stdin. Expected one per line, or paths separated by NUL bytes.")
