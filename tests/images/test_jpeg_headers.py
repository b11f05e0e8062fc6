import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images.decode import decode_image
from belvedere.images.jpeg_headers import END_MARKER, describe_frame, has_all_coefficients
from odd_files import encode, smooth_pixels

IMAGE = Image.fromarray(smooth_pixels(120, 160))
WARNING = "JPEG without an end marker"
EXIF = Image.Exif()
EXIF[0x0112] = 6
WHOLE = {
    "baseline": encode(IMAGE, "JPEG"),
    "progressive": encode(IMAGE, "JPEG", progressive=True),
    "gray": encode(IMAGE.convert("L"), "JPEG"),
    "gray progressive": encode(IMAGE.convert("L"), "JPEG", progressive=True),
    "CMYK": encode(IMAGE.convert("CMYK"), "JPEG"),
    "restarts": encode(IMAGE, "JPEG", restart_marker_blocks=4),
    "turned": encode(IMAGE, "JPEG", exif=EXIF),
}


def lossless_jpeg(gray: NDArray[np.uint8]) -> bytes:
    """Return a lossless JPEG of 8 bits, each pixel predicted by the one on its left."""
    values = gray.astype(int)
    predicted = np.empty_like(values)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = values[:, :-1], values[:-1, 0], 128
    bits = ""
    for difference in (values - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:05b}"
        bits += f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}" if size else ""
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(kind: int, body: bytes) -> bytes:
        return bytes((0xFF, kind)) + (len(body) + 2).to_bytes(2, "big") + body

    height, width = (size.to_bytes(2, "big") for size in gray.shape)
    frame = segment(0xC3, b"\x08" + height + width + b"\x01\x01\x11\x00")
    codes = segment(0xC4, bytes((0, 0, 0, 0, 0, 17)) + bytes(11) + bytes(range(17)))
    return b"\xff\xd8" + frame + codes + segment(0xDA, bytes((1, 1, 0, 1, 0, 0))) + packed + END_MARKER


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [1, 2])
def test_without_its_end_marker_a_jpeg_is_read(name: str, cut: int) -> None:
    expected = decode_image(WHOLE[name])
    decoded = decode_image(WHOLE[name][:-cut])
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)
    assert decoded.warnings == (WARNING, *expected.warnings)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [4, 8, 60])
def test_without_its_last_pixels_a_jpeg_is_refused(name: str, cut: int) -> None:
    with pytest.raises(InvalidImageError, match="truncated"):
        decode_image(WHOLE[name][:-cut])


@pytest.mark.parametrize("name", ["progressive", "gray progressive"])
@pytest.mark.parametrize("rest", [0, 2, 6])
def test_without_its_last_scan_a_progressive_jpeg_is_refused(name: str, rest: int) -> None:
    content = WHOLE[name][: WHOLE[name].rindex(b"\xff\xda") + rest]
    assert not has_all_coefficients(content)
    with pytest.raises(InvalidImageError, match="truncated"):
        decode_image(content)


def test_without_its_last_block_of_restarts_a_jpeg_is_refused() -> None:
    content = WHOLE["restarts"]
    last = max(content.rfind(bytes((0xFF, kind))) for kind in range(0xD0, 0xD8))
    with pytest.raises(InvalidImageError, match="truncated"):
        decode_image(content[:last])


def test_a_lossless_jpeg_is_read() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    content = lossless_jpeg(gray)
    decoded = decode_image(content)
    np.testing.assert_array_equal(decoded.pixels, np.repeat(gray[:, :, None], 3, axis=2))
    assert decoded.warnings == ()
    assert decode_image(content[:-2]).warnings == (WARNING,)
    assert decode_image(content[:-40] + END_MARKER).warnings[0].startswith("damaged JPEG data")


@pytest.mark.parametrize(
    ("kind", "bits", "name"),
    [
        (0xC0, 12, "JPEG of 12 bits"),
        (0xC1, 12, "JPEG of 12 bits"),
        (0xC3, 16, "lossless JPEG of 16 bits"),
        (0xF7, 8, "JPEG-LS"),
        (0xC5, 8, "hierarchical JPEG"),
    ],
)
def test_a_kind_of_jpeg_that_is_not_read_is_named(kind: int, bits: int, name: str) -> None:
    content = bytearray(WHOLE["baseline"])
    position = content.index(b"\xff\xc0")
    content[position + 1], content[position + 4] = kind, bits
    with pytest.raises(InvalidImageError) as caught:
        decode_image(bytes(content))
    assert caught.value.reason == describe_frame(bytes(content))
    assert caught.value.reason.startswith(name)


@pytest.mark.parametrize("content", [b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x03\x08", b"\xff\xd8\xff\xda\x00\x02", b""])
def test_headers_that_are_cut(content: bytes) -> None:
    assert not has_all_coefficients(content)
    assert not describe_frame(content)
