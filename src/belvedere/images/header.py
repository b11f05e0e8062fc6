"""Facts in the header of an image: its size, compression, time and camera."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from belvedere.images.decode import read_header
from belvedere.images.orientation import ORIENTATION_TAG

_EXIF_DIRECTORY, _DATE_TIME_ORIGINAL = 0x8769, 0x9003  # Exif 2.32
_MAKE, _MODEL = 0x010F, 0x0110
_TIME = re.compile(r"(\d{4}):(0[1-9]|1[0-2]):(\d\d)\b(?: ([01]\d|2[0-3]):\d\d)?")
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
# Of ISO/IEC 10918-1, table K.1: the sum of the luminance table, which libjpeg scales by a quality from 1 to 100.
_STANDARD_SUM = 3688


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of a header; None or empty where it has none."""

    width: int  # pixels, upright
    height: int
    format: str  # of the content, such as "JPEG"
    jpeg_quality: float | None  # 1 to 100, as libjpeg scales its tables
    month: int | None  # 1 to 12, by the clock of the camera
    hour: int | None  # 0 to 23
    camera: str


def read_facts(source: Path | str | bytes) -> Header | None:
    """Return the facts of an image's header; None where it cannot be read.

    Raises:
        InvalidImageError: The file cannot be opened.
    """
    return read_header(source, _read_facts)


def capture_day(source: Path | str | bytes) -> str | None:
    """Return the day on which an image was taken, such as "2024-05-31", by its clock; None if unknown.

    Raises:
        InvalidImageError: The file cannot be opened.
    """
    found = read_header(source, _match_time)
    return None if found is None else "-".join(found.groups()[:3])


def _match_time(_: Image.Image, exif: Image.Exif) -> re.Match[str] | None:
    found = _TIME.match(str(exif.get_ifd(_EXIF_DIRECTORY).get(_DATE_TIME_ORIGINAL, "")).strip())
    return None if found is None or found[1] == "0000" else found


def _read_facts(image: Image.Image, exif: Image.Exif) -> Header:
    time, names = _match_time(image, exif), [str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
    is_turned = exif.get(ORIENTATION_TAG) in _TURNED and image.format != "HEIF"
    width, height = image.size[::-1] if is_turned else image.size
    tables = getattr(image, "quantization", None)
    return Header(
        width,
        height,
        "JPEG" if image.format == "MPO" else str(image.format),
        _quality(tables[0]) if isinstance(tables, dict) and 0 in tables else None,
        None if time is None else int(time[2]),
        None if time is None or time[4] is None else int(time[4]),
        " ".join(dict.fromkeys(filter(None, names))),
    )


def _quality(table: list[int]) -> float:
    """Return the quality at which libjpeg makes a quantization table of the same sum."""
    percent = 100 * float(np.sum(table)) / _STANDARD_SUM
    return round(float(np.clip((200 - percent) / 2 if percent < 100 else 5000 / percent, 1, 100)))
