import importlib.util
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from belvedere.auditing.image_statistics import extension_fits
from belvedere.errors import ImageTooLargeError, InvalidImageError
from belvedere.images import heif
from belvedere.images.decode import decode_image, decode_pillow, read_image
from belvedere.images.formats import detect_format
from belvedere.images.listing import list_images
from belvedere.runtime import dependencies
from odd_files import encode, smooth_pixels

pillow_heif = pytest.importorskip("pillow_heif")
PIXELS = smooth_pixels(64, 96)


def write(pixels: NDArray[np.uint8] = PIXELS, **options: object) -> bytes:
    """Return the bytes of a HEIC file; its pixels differ by some levels."""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, **{"quality": 95, "chroma": 444, **options})
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    """Return a HEIC file that is to be turned; its properties and its EXIF data both say so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return write(exif=exif.tobytes())


def assert_close(pixels: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() < 16


def test_a_heic_file_is_read(tmp_path: Path) -> None:
    for name in ("IMG_1.HEIC", "a.heif", "b.hif", "named.jpg"):
        (tmp_path / name).write_bytes(write())
    listed = list(list_images(tmp_path))
    assert len(listed) == 4
    for path in listed:
        decoded = decode_image(path)
        assert_close(decoded.pixels, PIXELS)
        assert decoded.warnings == ()


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_modes(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.full((64, 96), 255, np.uint8)))
    assert_close(read_image(write(np.asarray(image))), read_image(encode(image, "PNG")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_image(encode(Image.fromarray(PIXELS), "PNG", exif=exif))
    assert_close(read_image(oriented(orientation)), expected)


def test_a_pillow_image_of_a_heic_file_is_upright() -> None:
    with pillow_heif.HeifImageFile(io.BytesIO(oriented(6))) as image:
        np.testing.assert_array_equal(decode_pillow(image).pixels, read_image(oriented(6)))


def test_the_primary_image_of_several_is_read() -> None:
    file = io.BytesIO()
    images = pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red"))
    images.add_from_pillow(Image.fromarray(PIXELS))
    images.save(file, quality=95, chroma=444, primary_index=1)
    decoded = decode_image(file.getvalue())
    assert_close(decoded.pixels, PIXELS)
    assert decoded.warnings == ("primary image of 2 frames",)


def test_limits_are_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pillow_heif.HeifImageFile, "load", refuse)
    with pytest.raises(ImageTooLargeError):
        decode_image(write(), max_pixels=64 * 96 - 1)


def test_a_size_that_is_not_that_of_the_pixels_is_refused() -> None:
    content = write(np.zeros((512, 512, 3), np.uint8))
    position = content.index(b"ispe") + 8
    with pytest.raises(InvalidImageError):
        read_image(content[:position] + struct.pack(">II", 64, 64) + content[position + 8 :])


def test_metadata_are_not_passed_on() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 1000
    image = heif.open_heif(write(exif=exif.tobytes(), xmp=b"<x/>"))
    assert not image.info.get("exif")
    assert not image.info.get("xmp")


@pytest.mark.parametrize("content", [write()[:60], write()[:-30], b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(4000)])
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidImageError):
        read_image(content)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None if name == "pillow_heif" else find_spec(name))
    with pytest.raises(InvalidImageError) as caught:
        read_image(write())
    assert "HEIC" in caught.value.reason
    assert caught.value.reason.endswith("pip install 'belvedere[heif]'")


def test_pillow_itself_is_not_changed() -> None:
    read_image(write())
    assert "HEIF" not in Image.OPEN


def test_the_extension_of_heif() -> None:
    assert detect_format(write()) == "HEIF"
    assert extension_fits("HEIF", ".HEIC")
    assert not extension_fits("HEIF", ".jpg")
