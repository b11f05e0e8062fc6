"""Reads the bytes of files that may be images."""

import stat
from pathlib import Path

from belvedere.errors import InvalidImageError
from belvedere.runtime.terminal import describe_error

MAX_BYTES = 200_000_000  # per file
IN_MEMORY = "image"  # name of an image without a path


def name_of(source: Path | str | bytes) -> str:
    """Return the name of an image in messages."""
    return IN_MEMORY if isinstance(source, bytes) else str(source)


def read_content(source: Path | str | bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the bytes of a file that may be an image.

    Raises:
        InvalidImageError: The file does not exist, cannot be opened, is empty or exceeds `max_bytes`.
    """
    name = name_of(source)
    if isinstance(source, bytes):
        content, size = source, len(source)
    else:
        try:
            path = Path(source)
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise InvalidImageError(name, "is a folder" if path.is_dir() else "is not a regular file")
            size = status.st_size
            content = path.read_bytes() if size <= max_bytes else b""
        except InvalidImageError:  # a ValueError
            raise
        except FileNotFoundError:
            raise InvalidImageError(name, "no such file") from None
        except (OSError, ValueError) as error:
            raise InvalidImageError(name, f"cannot be opened: {describe_error(error)}") from error
    if size == 0:
        raise InvalidImageError(name, "empty file")
    if size > max_bytes:
        raise InvalidImageError(name, f"{size:,} bytes, over the limit of {max_bytes:,}")
    return content
