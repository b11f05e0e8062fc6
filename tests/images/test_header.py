from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from belvedere.errors import InvalidImageError
from belvedere.images.header import capture_day, read_facts


def image(value: object, kind: str = "JPEG") -> bytes:
    exif, buffer = Image.Exif(), BytesIO()
    exif.get_ifd(0x8769)[0x9003] = value
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_day(kind: str) -> None:
    assert capture_day(image("2024:05:31 23:59:59", kind)) == "2024-05-31"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "BMP", "PPM"])
def test_pixels_are_not_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, calls = BytesIO(), list[object]()
    Image.new("RGB", (8, 6)).save(buffer, kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", calls.append)
    facts = read_facts(buffer.getvalue())
    assert facts is not None and (facts.width, facts.height, facts.month) == (8, 6, None)
    assert calls == []


def test_exif_data_after_the_pixels_of_a_png() -> None:
    content = image("2024:05:31 23:59:59", "PNG")
    start = content.index(b"eXIf") - 4
    end, last = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    assert capture_day(content[:start] + content[end:last] + content[start:end] + content[last:]) == "2024-05-31"


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
