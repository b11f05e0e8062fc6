from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images.header import capture_day


def image(value: object, kind: str = "JPEG") -> bytes:
    exif, buffer = Image.Exif(), BytesIO()
    exif.get_ifd(0x8769)[0x9003] = value
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_day(kind: str) -> None:
    assert capture_day(image("2024:05:31 23:59:59", kind)) == "2024-05-31"


@pytest.mark.parametrize("value", ["0000:00:00 00:00:00", "    ", "yesterday", "2024:05:311", ""])
def test_unknown_day(value: str) -> None:
    assert capture_day(image(value)) is None


def test_without_exif_data_or_damaged() -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    assert capture_day(buffer.getvalue()) is None
    assert capture_day(b"no image") is None
    content = image("2024:05:31 23:59:59")
    assert capture_day(content.replace(b"Exif\0\0", b"Exif\0\0\xff\xff\xff\xff")) is None


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidImageError):
        capture_day(tmp_path / "no.jpg")
