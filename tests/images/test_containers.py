"""Bounds on the structure of image files: ordinary files are read, what has too much of something is refused."""

import io
import re
import runpy
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images import containers, decode
from odd_files import encode, readable_files, smooth_pixels, with_segment

IMAGE = Image.fromarray(smooth_pixels())
JPEG = encode(IMAGE, "JPEG")
PNG = encode(IMAGE, "PNG")


@pytest.fixture(autouse=True)
def _small_files_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "SMALL_BYTES", 0)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def frames(form: str, count: int) -> bytes:
    file = io.BytesIO()
    others = [Image.new("L", (4, 4), number % 256) for number in range(1, count)]
    Image.new("L", (4, 4)).save(file, form, save_all=True, append_images=others)
    return file.getvalue()


@pytest.mark.parametrize("name", readable_files())
def test_ordinary_files_are_within_the_bounds(name: str) -> None:
    containers.check_container(readable_files()[name])


def with_many(piece: bytes, count: int) -> dict[str, bytes]:
    return {"jpeg": JPEG[:2] + piece * count + JPEG[2:], "png": PNG[:33] + piece * count + PNG[33:]}


COMMENT = b"\xff\xfe\x00\x03x"
EXIF = b"\xff\xe1\x00\x16Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("piece", "most", "form"),
    [
        (COMMENT, containers.MAX_SEGMENTS - 20, "jpeg"),
        (EXIF, containers.MAX_PARSED_SEGMENTS, "jpeg"),
        (b"\xff", containers.MAX_STRAY_BYTES - 1, "jpeg"),
        (chunk(b"prVt", b""), containers.MAX_CHUNKS - 20, "png"),
    ],
    ids=["segments", "EXIF", "fill bytes", "chunks"],
)
def test_what_is_at_the_bound_is_read_and_what_is_over_it_is_not(piece: bytes, most: int, form: str) -> None:
    expected = decode.read_image(JPEG if form == "jpeg" else PNG)
    np.testing.assert_array_equal(decode.read_image(with_many(piece, most)[form]), expected)
    with pytest.raises(InvalidImageError) as caught:
        decode.read_image(with_many(piece, most + 100)[form])
    assert re.search(r"\b\d[\d,]*\b", caught.value.reason)


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_frames_are_counted_as_pillow_counts_them(form: str, count: int) -> None:
    content = frames(form, count)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == count
    assert containers.count_frames(content) == count
    assert decode.decode_image(content).warnings == ((f"first of {count} frames",) if count > 1 else ())


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_many_frames_are_several(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_COUNTED_FRAMES", 3)
    assert decode.decode_image(frames(form, 4)).warnings == ("first of several frames",)


def test_pages_in_a_circle_are_counted_once() -> None:
    content = bytearray(frames("TIFF", 2))
    first = struct.unpack_from("<I", content, 4)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * struct.unpack_from("<H", content, first)[0])[0]
    struct.pack_into("<I", content, second + 2 + 12 * struct.unpack_from("<H", content, second)[0], first)
    assert containers.count_frames(bytes(content)) == 2


def exif(tags: int, kind: int, values: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", 0x9000 + number, kind, values, 8) for number in range(tags))
    return (b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)).ljust(max(40_000, 4 * values + 1000), b"\0")


@pytest.mark.parametrize(
    ("tags", "kind", "values", "refused"),
    [(100, 7, 40, False), (2000, 1, 1, True), (10, 7, 30_000, True), (1, 4, 250_000, True)],
    ids=["usual", "many tags", "over each other", "many values"],
)
def test_directories_of_exif(tags: int, kind: int, values: int, refused: bool) -> None:
    content = PNG[:33] + chunk(b"eXIf", exif(tags, kind, values)) + PNG[33:]
    if refused:
        with pytest.raises(InvalidImageError):
            decode.read_image(content)
    else:
        np.testing.assert_array_equal(decode.read_image(content), smooth_pixels())


@pytest.mark.parametrize("tag", [(2, 2**31), (3, 2**31), (3, 900_000), (7, 70_000), (5, 1)])
@pytest.mark.parametrize("tags", [2, 60_000])
def test_numbers_of_exif_that_claim_more_than_there_is(tag: tuple[int, int], tags: int) -> None:
    """As damaged files have them: decoders pass over what is not there."""
    turn, other = struct.pack("<HHII", 0x112, 3, 1, 6), struct.pack("<HHII", 0x927C, *tag, 26)
    content = PNG[:33] + chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, tags) + turn + other + bytes(4)) + PNG[33:]
    np.testing.assert_array_equal(decode.read_image(content), np.rot90(smooth_pixels(), -1))


def test_orientation_is_found_behind_other_segments() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    content = encode(IMAGE, "JPEG", exif=turned)
    many = content[:2] + COMMENT * 500 + content[2:]
    assert decode.read_image(many).shape[:2] == smooth_pixels().shape[1::-1]
    assert decode.read_image(with_segment(JPEG, b"http://ns.adobe.com/xap/1.0/\0")).shape == smooth_pixels().shape


@pytest.mark.parametrize(
    "header", [b"P6\n# a comment\n6 4 # behind\n255\n", b"P6 6\n\n4\t255\n", b"P6\n#\n#x\n6 4\n255\n"]
)
def test_comments_of_a_ppm_are_read_over(header: bytes) -> None:
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    np.testing.assert_array_equal(decode.read_image(header + pixels.tobytes()), pixels)


def test_a_long_header_of_a_ppm_is_refused() -> None:
    with pytest.raises(InvalidImageError) as caught:
        decode.read_image(b"P6\n#" + b"a" * 100_000 + b"\n6 4\n255\n" + bytes(72))
    assert "header" in caught.value.reason


def test_a_large_ppm_is_read() -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    np.testing.assert_array_equal(decode.read_image(b"P6\n300 300\n255\n" + pixels.tobytes()), pixels)


def test_fill_bytes_behind_the_end_do_no_harm() -> None:
    np.testing.assert_array_equal(decode.read_image(JPEG + b"\xff" * 5000), decode.read_image(JPEG))


SLOW = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "slow_images.py"))["KINDS"]


@pytest.mark.parametrize("kind", SLOW)
def test_no_slow_file_does_more_than_be_refused(kind: str) -> None:
    """Small files of the kinds of the benchmark; what large ones cost is measured there."""
    try:
        pixels = decode.read_image(SLOW[kind](20_000))
    except InvalidImageError as error:
        assert error.reason
    else:
        assert pixels.ndim == 3


def test_what_stands_behind_an_end_is_counted() -> None:
    with pytest.raises(InvalidImageError, match=r"\b\d[\d,]*\b"):
        decode.read_image(JPEG[:2] + b"\xff\xd9" + EXIF * 5000 + JPEG[2:])


def test_fill_bytes_in_a_segment_are_no_fill_bytes() -> None:
    image = IMAGE.convert("CMYK")
    content = with_segment(encode(image, "JPEG"), b"\xff" * 60_000)
    twice = with_segment(with_segment(content, b"\xff" * 65_000), b"\xff" * 65_000)
    np.testing.assert_array_equal(decode.read_image(twice), decode.read_image(encode(image, "JPEG")))


def test_a_long_color_profile_in_many_segments_is_read() -> None:
    profile = np.random.default_rng(0).bytes(4_000_000)
    content = encode(IMAGE, "JPEG", icc_profile=profile, exif=Image.Exif())
    np.testing.assert_array_equal(decode.read_image(content), decode.read_image(JPEG))


def test_a_png_with_much_metadata_is_read() -> None:
    texts = [chunk(b"tEXt", b"key%d\0" % number + b"x" * 100_000) for number in range(10)]
    texts += [chunk(b"zTXt", b"key%d\0\0" % number + zlib.compress(b"y" * 500_000)) for number in range(20)]
    content = PNG[:33] + b"".join(texts) + PNG[33:]
    np.testing.assert_array_equal(decode.read_image(content), smooth_pixels())


def test_a_png_in_pieces_of_a_kilobyte_is_read() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels), 1)
    head = struct.pack(">IIBBBBB", 1500, 1500, 8, 2, 0, 0, 0)
    pieces = [chunk(b"IDAT", rows[start : start + 1024]) for start in range(0, len(rows), 1024)]
    content = PNG[:8] + chunk(b"IHDR", head) + b"".join(pieces) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode.read_image(content), pixels)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_of_thousands_of_frames_is_read(form: str) -> None:
    assert decode.read_image(frames(form, 2000)).shape == (4, 4, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"])
def test_a_tiff_of_noise_is_read(compression: str | None) -> None:
    """Packed noise is longer than plain noise."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8))
    image = noise.convert("1") if compression == "group4" else noise
    content = encode(image, "TIFF", compression=compression)
    assert decode.read_image(content).shape == (900, 700, 3)


def test_a_file_in_very_many_pieces_is_refused() -> None:
    """Whatever the format: this one has a bound that only Pillow's reads run into."""
    gif = encode(IMAGE, "GIF")
    head = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    with pytest.raises(InvalidImageError, match="segments"):
        decode.read_image(gif[:head] + bytes(400_000) + gif[head:])


SLOW_FOR_SURE = (
    "avif: many places of items",
    "avif: references",
    "bmp: ends of rows",
    "bmp: ends of long rows",
    "png: empty blocks in the pixels",
    "tiff: a strip of empty blocks",
    "tiff: a tile larger than the image",
    "tiff: strips over each other, of clear codes",
    "tiff: strips over each other, of empty blocks",
)


@pytest.mark.parametrize("kind", SLOW_FOR_SURE)
def test_kinds_that_took_seconds_are_refused(kind: str) -> None:
    with pytest.raises(InvalidImageError):
        decode.read_image(SLOW[kind](400_000))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_that_was_copied_from_a_tiff_is_no_strip(form: str) -> None:
    exif = Image.open(io.BytesIO(encode(IMAGE, "TIFF"))).getexif()  # with the places of its strips
    content = encode(IMAGE, form, exif=exif)
    assert decode.read_image(content).shape == smooth_pixels().shape


def test_many_pages_of_jpeg_are_read() -> None:
    content = encode(IMAGE, "TIFF", compression="jpeg", save_all=True, append_images=[IMAGE] * 60)
    assert decode.read_image(content).shape == smooth_pixels().shape


@pytest.mark.parametrize("size", [0xFFFFFFFF, 3 * 10**6])
def test_sizes_of_plain_strips_are_not_believed(size: int) -> None:
    content = bytearray(encode(IMAGE, "TIFF"))
    first = struct.unpack_from("<I", content, 4)[0]
    for number in range(struct.unpack_from("<H", content, first)[0]):
        place = first + 2 + 12 * number
        if struct.unpack_from("<H", content, place)[0] == 279:
            struct.pack_into("<HHII", content, place, 279, 4, 1, size)
    np.testing.assert_array_equal(decode.read_image(bytes(content)), smooth_pixels())


@pytest.mark.parametrize(
    ("piece", "count"),
    [
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(5_000_000)), 1),
        (chunk(b"iTXt", b"a\0\0\0\0\0text"), 80),
        (chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text")), 80),
    ],
    ids=["long XMP", "many plain texts", "many compressed texts"],
)
def test_texts_of_a_png_that_programs_write_are_read(piece: bytes, count: int) -> None:
    np.testing.assert_array_equal(decode.read_image(PNG[:33] + piece * count + PNG[33:]), smooth_pixels())


def test_no_damaged_image_does_more_than_be_refused() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "fuzz_images.py"
    command = [sys.executable, str(script), "--images", "1500", "--seed", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1,500 images" in done.stdout
