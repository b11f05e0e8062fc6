"""Opens HEIF files, such as the HEIC of phones, with pillow-heif."""

from PIL import ImageFile

from belvedere.errors import MissingDependencyError
from belvedere.images.containers import find_boxes
from belvedere.images.damage import describe_missing_bytes
from belvedere.images.limits import BoundedFile, ImageRejectedError
from belvedere.runtime.dependencies import require
from belvedere.runtime.terminal import describe_error

NAME = "HEIC (HEIF)"


def open_heif(content: bytes) -> ImageFile.ImageFile:
    """Return the primary image of a HEIF file, not decoded yet. It is upright, whatever its EXIF data say.

    Raises:
        ImageRejectedError: The extra `heif` is not installed, or the file is damaged or has another codec than HEVC.
    """
    try:
        require("heif", NAME)
    except MissingDependencyError as error:
        raise ImageRejectedError(str(error)) from None
    from pillow_heif import HeifImageFile  # not registered, since that would change all of Pillow

    try:
        return HeifImageFile(BoundedFile(_detach_metadata(content)))  # type: ignore[no-untyped-call]
    except (SyntaxError, LookupError, TypeError) as error:
        reason = describe_missing_bytes(content) or f"{NAME} cannot be decoded: {describe_error(error)}"
        raise ImageRejectedError(reason) from error


def _detach_metadata(content: bytes) -> bytes:
    """Return the file without references from metadata to images; pillow-heif copies metadata for each reference."""
    detached = bytearray(content)
    for kind, start, end in find_boxes(content, 0, len(content)):
        for inner, first, last in find_boxes(content, start + 4, end) if kind == b"meta" else ():
            if inner == b"iref":
                detached[first:last] = content[first:last].replace(b"cdsc", b"free")
    return bytes(detached)
