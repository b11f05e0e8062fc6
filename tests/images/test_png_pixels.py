import struct
import zlib

import numpy as np
import pytest

from belvedere.errors import InvalidImageError
from belvedere.images.decode import decode_image, read_image
from odd_files import smooth_pixels

HEIGHT, WIDTH = 12, 20
PIXELS = smooth_pixels(HEIGHT, WIDTH)
ROWS = [b"\0" + row.tobytes() for row in PIXELS]
PACKED = zlib.compress(b"".join(ROWS))
RGB, GRAY, PALETTE, GRAY_ALPHA, RGBA = 2, 0, 3, 4, 6
FORMS = {  # bits and color type, and bytes per pixel
    "gray 1": (1, GRAY, 1 / 8),
    "gray 2": (2, GRAY, 1 / 4),
    "gray 4": (4, GRAY, 1 / 2),
    "gray 8": (8, GRAY, 1),
    "gray 16": (16, GRAY, 2),
    "RGB 8": (8, RGB, 3),
    "RGB 16": (16, RGB, 6),
    "palette 8": (8, PALETTE, 1),
    "gray alpha 8": (8, GRAY_ALPHA, 2),
    "RGBA 8": (8, RGBA, 4),
    "RGBA 16": (16, RGBA, 8),
}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    *packed: bytes,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    form: tuple[int, int] = (8, RGB),
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, *form, 0, 0, interlaced))
    pixels = b"".join(chunk(b"IDAT", each) for each in packed)
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + chunk(b"IEND", b"")


def refuse(content: bytes) -> None:
    with pytest.raises(InvalidImageError):
        read_image(content)


def test_all_rows_are_read() -> None:
    decoded = decode_image(png(PACKED))
    np.testing.assert_array_equal(decoded.pixels, PIXELS)
    assert decoded.warnings == ()


@pytest.mark.parametrize("rows", range(HEIGHT))
def test_missing_rows_are_refused(rows: int) -> None:
    packed = zlib.compress(b"".join(ROWS[:rows]))
    refuse(png(packed))
    refuse(png(packed + b"other bytes"))
    refuse(png(packed, zlib.compress(b"".join(ROWS[rows:]))))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [0, 91, 92, 255])
def test_missing_rows_are_distinguished_from_pixels_of_any_value(name: str, value: int) -> None:
    *form, size = FORMS[name]
    row = b"\0" + bytes((value,)) * int(WIDTH * size + 0.5)
    before = chunk(b"PLTE", bytes(768)) if form[1] == PALETTE else b""
    whole, cut = (zlib.compress(row * rows) for rows in (HEIGHT, HEIGHT - 1))
    assert read_image(png(whole, form=(form[0], form[1]), before=before)).shape == (HEIGHT, WIDTH, 3)
    refuse(png(cut, form=(form[0], form[1]), before=before))


@pytest.mark.parametrize("value", [0, 91])
def test_missing_rows_of_each_pass_are_refused(value: int) -> None:
    for width, height in ((1, 1), (1, 2), (2, 1), (3, 1), (5, 1), (3, 3), (4, 6), (9, 9), (16, 17)):
        rows = []
        for left, top, right, down in PASSES:
            if columns := len(range(left, width, right)):
                rows += [b"\0" + bytes((value,)) * 3 * columns] * len(range(top, height, down))
        size = (width, height)
        assert decode_image(png(zlib.compress(b"".join(rows)), size=size, interlaced=True)).warnings == ()
        for count in range(len(rows)):
            refuse(png(zlib.compress(b"".join(rows[:count])), size=size, interlaced=True))


@pytest.mark.parametrize("checksum", [b"", PACKED[-4:-2], PACKED[-4:] + b"more"])
def test_all_pixels_are_enough(checksum: bytes) -> None:
    np.testing.assert_array_equal(read_image(png(PACKED[:-4] + checksum)), PIXELS)


def test_a_wrong_checksum_of_all_pixels_is_a_warning() -> None:
    decoded = decode_image(png(PACKED[:-4] + b"abcd"))
    np.testing.assert_array_equal(decoded.pixels, PIXELS)
    assert decoded.warnings == ("damaged PNG data: wrong checksum",)
    refuse(png(zlib.compress(b"".join(ROWS[:-1]))[:-4] + b"abcd"))


def test_colors_beyond_the_palette_are_refused() -> None:
    for color in (1, 2):
        content = png(zlib.compress(bytes((0, color))), size=(1, 1), form=(8, PALETTE), before=chunk(b"PLTE", bytes(6)))
        if color == 1:
            assert read_image(content).tolist() == [[[0, 0, 0]]]
        else:
            refuse(content)


@pytest.mark.parametrize(
    ("form", "packed", "key", "expected"),
    [
        ((1, GRAY), b"\x40", (1,), (0, 255)),
        ((1, GRAY), b"\x40", (0,), (255, 255)),
        ((2, GRAY), b"\x60", (1,), (255, 170)),
        ((2, GRAY), b"\x60", (2,), (85, 255)),
        ((4, GRAY), b"\x3c", (3,), (255, 204)),
        ((4, GRAY), b"\x3c", (0xFFF3,), (255, 204)),  # only the low bits count
        ((8, GRAY), b"\x10\x20", (0x10,), (255, 32)),
        ((16, GRAY), struct.pack(">2H", 257, 51400), (257,), (255, 200)),
        ((16, GRAY), struct.pack(">2H", 257, 51400), (258,), (1, 200)),
        ((8, RGB), bytes((9, 9, 9, 8, 8, 8)), (9, 9, 9), (255, 8)),
        ((16, RGB), struct.pack(">6H", *(2570,) * 3, *(51400,) * 3), (2570,) * 3, (255, 200)),
    ],
)
def test_the_transparent_color_is_white(
    form: tuple[int, int], packed: bytes, key: tuple[int, ...], expected: tuple[int, int]
) -> None:
    before = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    decoded = decode_image(png(zlib.compress(b"\0" + packed), size=(2, 1), form=form, before=before))
    assert decoded.pixels.tolist() == [[[value] * 3 for value in expected]]
    assert bool(decoded.warnings) == (form == (16, RGB))
