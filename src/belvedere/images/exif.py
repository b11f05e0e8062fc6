"""When an image was taken, by its EXIF data."""

import re
from pathlib import Path

from belvedere.images.decode import read_exif

_EXIF_DIRECTORY, _DATE_TIME_ORIGINAL = 0x8769, 0x9003  # Exif 2.32
_DAY = re.compile(r"(\d{4}):(\d\d):(\d\d)\b")


def capture_day(source: Path | str | bytes) -> str | None:
    """Return the day on which an image was taken, such as "2024-05-31", by its clock; None if unknown.

    Raises:
        InvalidImageError: The file cannot be opened.
    """
    found = _DAY.match(str(read_exif(source, _EXIF_DIRECTORY).get(_DATE_TIME_ORIGINAL, "")).strip())
    return None if found is None or found[1] == "0000" else "-".join(found.groups())
