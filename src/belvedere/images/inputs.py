"""Converts images to one form: paths, bytes, arrays, tensors, Pillow images, files, iterables, paths on stdin."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidImageError, UnsupportedInputError, UsageError, find_named
from belvedere.images.content import IN_MEMORY, MAX_BYTES
from belvedere.images.decode import DecodedImage, decode_pillow, is_pillow, read_input
from belvedere.images.resize import resize_image
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import Preprocess

ACCEPTED = (
    "a path, bytes, an array or CPU tensor (height, width, 3) or (height, width) of uint8 from 0 to 255, a PIL image, "
    "a binary file, or an iterable of these"
)
LEAVE_OUT = "Leave the empty image out."
CHANNEL_ORDERS = ("RGB", "BGR")
MAX_NAME_BYTES = 1 << 14  # between two separators of a list; longer than the names of any system
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8, in lists written on Windows


@dataclass(frozen=True, slots=True)
class BorrowedImage(DecodedImage):
    """Pixels that must be copied or resized before the next image is taken.

    They are those of an iterator, which may use one buffer for all images, and those that a Pillow image was decoded
    to, since many of them would fill the memory.
    """


Source = Path | str | bytes | DecodedImage | InvalidImageError  # the error stands for an unreadable image


def to_sources(images: object, channel_order: str = "RGB") -> Iterator[Source]:
    """Yield the images of an input, as they are needed.

    Args:
        images: One of `ACCEPTED`. Tensors and other objects with `__array__` are arrays. An array of four dimensions
            is an iterable of images. An array (3, W, 3) is an image of 3 rows. A file is read from its position.
        channel_order: Order of the channels of arrays and tensors: "RGB", or "BGR" as OpenCV reads images. It cannot be
            detected. All other inputs have an order of their own.

    Yields:
        Paths and bytes unchanged, everything else as pixels or bytes.

    Raises:
        UnsupportedInputError: The input is none of these.
        UnknownNameError: The channel order is another one.
    """
    find_named("channel order", channel_order, dict.fromkeys(CHANNEL_ORDERS))
    source = _to_source(images, channel_order)
    if source is not None:
        yield source
        return
    if is_array := _is_array(images):
        images = _as_array(images)
    if isinstance(images, Mapping | str) or hasattr(images, "read") or not isinstance(images, Iterable):
        raise _unsupported(images)
    is_stream = not (is_array or isinstance(images, list | tuple))
    for each in _iterate(images):
        source = _to_source(each, channel_order)
        if source is None:
            raise _unsupported(each)
        if is_stream and isinstance(source, DecodedImage):
            source = BorrowedImage(source.pixels, source.warnings)
        yield source


def _iterate(images: Iterable[object]) -> Iterator[object]:
    try:
        return iter(images)
    except TypeError:  # such as an array without dimensions
        raise _unsupported(images) from None


def _is_array(image: object) -> bool:
    return hasattr(image, "__array__") and not isinstance(image, str | bytes) and not isinstance(image, type)


def _to_source(image: object, channel_order: str) -> Source | None:
    """Convert one image; return None if it is not one."""
    if isinstance(image, str | bytes):
        return image or (None if isinstance(image, str) else b"")
    if isinstance(image, os.PathLike):
        return Path(os.fsdecode(image))
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if is_pillow(image):
        if not image.width * image.height:
            raise UnsupportedInputError(
                f"Unsupported image: {image.width} x {image.height} pixels. Expected one or more. {LEAVE_OUT}"
            )
        try:
            decoded = decode_pillow(image)
        except InvalidImageError as error:
            return error.detached()
        return BorrowedImage(decoded.pixels, decoded.warnings)
    if _is_array(image):
        return _from_array(_as_array(image), channel_order)
    if callable(read := getattr(image, "read", None)) and not isinstance(image, TextIOBase | type):
        return _read_all(read)
    return None


def _read_all(read: Callable[[int], object]) -> Source | None:
    """Read a file to its end; return None if it is not binary. Raw files, such as pipes, return less than asked."""
    content = bytearray()
    try:
        while len(content) <= MAX_BYTES:
            block = read(MAX_BYTES + 1 - len(content))
            if not isinstance(block, bytes | bytearray | memoryview):
                return None
            if not block:
                break
            content += block
    except (OSError, ValueError) as error:
        return InvalidImageError(IN_MEMORY, f"the file cannot be read: {describe_error(error)}")
    except Exception:  # noqa: BLE001 - an object with another method `read`, such as an archive
        return None
    return bytes(content)


def _as_array(image: object) -> NDArray[np.generic]:
    device = str(getattr(image, "device", "cpu"))
    if device.startswith(("cuda", "mps", "xpu")):
        raise UnsupportedInputError(f"Unsupported tensor on {device}. Give a CPU tensor: `tensor.cpu()`.")
    try:
        return np.asarray(image)
    except Exception as error:  # of any library
        raise UnsupportedInputError(
            f"{type(image).__name__} cannot be converted to an array: {describe_error(error)}. Expected {ACCEPTED}."
        ) from error


def _from_array(values: NDArray[np.generic], channel_order: str) -> DecodedImage | None:
    """Convert pixels; return None if the array may be an iterable of images."""
    if values.dtype.kind in "OU" or (values.dtype == np.uint8 and values.ndim == 4):  # names, or a batch
        return None
    if values.dtype != np.uint8 or values.size == 0 or not (values.ndim == 2 or values.shape[2:] == (3,)):
        raise UnsupportedInputError(
            f"Unsupported array: shape {values.shape}, {values.dtype}. Expected (height, width, 3) or (height, width), "
            f"uint8. {_advice(values)}"
        )
    if values.ndim == 2:
        return DecodedImage(np.repeat(values[:, :, None], 3, axis=2))
    rgb = values[:, :, ::-1] if channel_order == "BGR" else values
    return DecodedImage(np.ascontiguousarray(rgb, np.uint8))


def _advice(values: NDArray[np.generic]) -> str:
    """Return what to do about an array that is not accepted."""
    if values.dtype.kind == "S":
        return "Give a list of bytes."
    if values.dtype.kind == "f":
        return "Scale to 0..255, round and convert: `(image * 255).round().astype(np.uint8)` if it is from 0 to 1."
    if values.dtype != np.uint8:
        return "Convert to uint8 from 0 to 255."
    if values.size == 0:
        return LEAVE_OUT
    if values.ndim == 3 and values.shape[0] == 3:
        return "Move the channels to the end: `image.transpose(1, 2, 0)`, or `tensor.permute(1, 2, 0)`."
    if values.ndim == 3 and values.shape[2] == 4:
        return "Leave out the alpha channel: `image[:, :, :3]`."
    if values.ndim == 3 and values.shape[2] == 1:
        return "Leave out the last axis: `image[:, :, 0]`."
    return "Give one image, or a list of images."


def _unsupported(given: object) -> UnsupportedInputError:
    received = "an empty name" if isinstance(given, str) and not given else type(given).__name__
    if isinstance(given, np.ndarray):
        received += f" of shape {given.shape}, {given.dtype}"
    return UnsupportedInputError(f"Unsupported input: {received}. Expected {ACCEPTED}.")


def source_name(source: Source) -> str:
    """Return the name of an image: its path, if it has one."""
    return str(source) if isinstance(source, Path | str) else IN_MEMORY


def read_source(source: Source, preprocess: Preprocess, *, draft: bool) -> DecodedImage | InvalidImageError:
    """Return an image as a model's input, or its error; see `read_input`."""
    if isinstance(source, InvalidImageError):
        return source
    if isinstance(source, DecodedImage):
        return DecodedImage(resize_image(source.pixels, preprocess), source.warnings)
    try:
        return read_input(source, preprocess, draft=draft)
    except InvalidImageError as error:
        return error.detached()


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


def resize_borrowed(sources: Iterable[Source], preprocess: Preprocess) -> Iterator[Source]:
    """Yield images, with a copy at the size of a model's input in place of each `BorrowedImage`."""
    for source in sources:
        if isinstance(source, BorrowedImage):
            resized = resize_image(source.pixels, preprocess)
            yield DecodedImage(resized.copy() if resized is source.pixels else resized, source.warnings)
        else:
            yield source


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
