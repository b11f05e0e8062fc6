import zlib

import numpy as np
import pytest
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images import png_chunks
from belvedere.images.decode import decode_image, read_image
from odd_files import encode, smooth_pixels

IMAGE = Image.fromarray(smooth_pixels())
PNG = encode(IMAGE, "PNG")
IGNORED = "is damaged or too long, and was ignored"
XMP = b'<x tiff:Orientation="3"/>'
UPSIDE_DOWN = smooth_pixels()[::-1, ::-1]


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return len(body).to_bytes(4, "big") + kind + body + checksum.to_bytes(4, "big")


def with_chunk(*chunks: bytes, png: bytes = PNG) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]


def itxt(text: bytes, *, is_packed: bool) -> bytes:
    return b"XML:com.adobe.xmp\0" + bytes((is_packed, 0)) + b"\0\0" + (zlib.compress(text) if is_packed else text)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tIME", b"eXIf", b"gAMA", b"pHYs", b"prVt"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_wrong_checksum_of_metadata_is_a_warning(kind: bytes, at_the_end: bool) -> None:
    wrong = chunk(kind, b"a\0b", checksum=0)
    content = PNG[:-12] + wrong + PNG[-12:] if at_the_end else with_chunk(wrong)
    decoded = decode_image(content)
    np.testing.assert_array_equal(decoded.pixels, smooth_pixels())
    assert decoded.warnings == (f"metadata ({kind.decode()}) {IGNORED}",)


def with_wrong_checksum(kind: bytes) -> bytes:
    content = bytearray(encode(IMAGE.quantize(16), "PNG", transparency=0))
    position = content.index(kind)
    content[position + 4 + int.from_bytes(content[position - 4 : position], "big")] ^= 1
    return bytes(content)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_colors_is_refused(kind: bytes) -> None:
    with pytest.raises(InvalidImageError):
        read_image(with_wrong_checksum(kind))


def test_a_wrong_checksum_of_pixels_is_a_warning() -> None:
    assert decode_image(with_wrong_checksum(b"IDAT")).warnings == ("damaged PNG data: wrong checksum",)


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"iTXt", itxt(b"x" * 1_500_000, is_packed=True)),
        chunk(b"iTXt", itxt(b"x" * 1_500_000, is_packed=False)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(np.random.default_rng(0).bytes(5_000_000))),
    ],
    ids=["profile bomb", "text bomb", "text", "packed text", "packed XMP", "XMP", "profile"],
)
def test_metadata_of_any_length_is_read_past(metadata: bytes) -> None:
    decoded = decode_image(with_chunk(metadata))
    np.testing.assert_array_equal(decoded.pixels, smooth_pixels())
    assert decoded.warnings == ()


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("rest", [0, 1_500_000])
def test_the_orientation_of_xmp_is_kept(is_packed: bool, rest: int) -> None:
    content = with_chunk(chunk(b"iTXt", itxt(XMP + b" " * rest, is_packed=is_packed)))
    np.testing.assert_array_equal(read_image(content), UPSIDE_DOWN)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_the_orientation_of_exif_as_text_is_kept(kind: bytes) -> None:
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0"
    text = b"\nexif\n%d\n" % len(exif) + exif.hex().encode() + b"\n"
    body = b"Raw profile type exif\0" + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text)
    np.testing.assert_array_equal(read_image(with_chunk(chunk(kind, body))), UPSIDE_DOWN)


@pytest.mark.parametrize(
    "body",
    [
        itxt(XMP, is_packed=True)[:-9],
        b"XML:com.adobe.xmp\0\1\0",
        itxt(b" " * (png_chunks.MAX_METADATA_BYTES + 1), is_packed=True),
        itxt(b" " * (png_chunks.MAX_METADATA_BYTES + 1), is_packed=False),
    ],
    ids=["cut", "empty", "long, packed", "long"],
)
def test_an_orientation_that_cannot_be_unpacked_is_a_warning(body: bytes) -> None:
    decoded = decode_image(with_chunk(chunk(b"iTXt", body)))
    np.testing.assert_array_equal(decoded.pixels, smooth_pixels())
    assert decoded.warnings == (f"metadata (iTXt) {IGNORED}",)


def test_many_orientations_are_bounded() -> None:
    once = chunk(b"iTXt", itxt(b" " * 1_000_000, is_packed=True))
    content, warnings = png_chunks.keep_pixels(with_chunk(*[once] * 1000))
    assert len(content) < png_chunks.MAX_METADATA_BYTES + 100_000
    assert warnings == (f"metadata (iTXt) {IGNORED}",)


@pytest.mark.parametrize("name", ["interlaced", "animated", "palette", "alpha"])
def test_pixels_are_those_of_the_whole_file(name: str) -> None:
    if name == "interlaced":  # one pass of one pixel
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\2\0\0\1")
        png += chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"IEND", b"")
    else:
        form = {"animated": IMAGE, "palette": IMAGE.quantize(16), "alpha": IMAGE.convert("RGBA")}[name]
        more = {"save_all": True, "append_images": [IMAGE.rotate(90)]} if name == "animated" else {}
        png = encode(form, "PNG", **more)
    decoded = decode_image(with_chunk(chunk(b"tEXt", b"a\0b"), png=png))
    np.testing.assert_array_equal(decoded.pixels, read_image(png))
    assert decoded.warnings == decode_image(png).warnings
    if name != "animated":  # without its other frames
        assert png_chunks.keep_pixels(png)[0] == png


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_damaged_chunk_is_named(kind: bytes) -> None:
    with pytest.raises(InvalidImageError, match=kind.decode()):
        read_image(with_wrong_checksum(kind))


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
@pytest.mark.parametrize("place", [4, -1])
def test_damage_in_the_chunks_of_an_animation_does_not_matter(kind: bytes, place: int) -> None:
    content = bytearray(encode(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(90), IMAGE.rotate(180)]))
    start = content.index(kind)
    size = int.from_bytes(content[start - 4 : start], "big")
    content[start + 4 + (size if place < 0 else 3)] ^= 1
    decoded = decode_image(bytes(content))
    np.testing.assert_array_equal(decoded.pixels, smooth_pixels())
    assert decoded.warnings == ("first of 3 frames",)


def test_a_first_image_outside_the_animation_is_counted() -> None:
    more = [IMAGE.rotate(90), IMAGE.rotate(180)]
    content = encode(IMAGE, "PNG", save_all=True, default_image=True, append_images=more)
    assert decode_image(content).warnings == ("first of 3 frames",)


@pytest.mark.parametrize("rest", [b"", b"\0\0\0", b"\0\0\0\4\1\2\3\4damaged"])
def test_a_missing_end_is_a_warning(rest: bytes) -> None:
    decoded = decode_image(PNG[:-12] + rest)
    np.testing.assert_array_equal(decoded.pixels, smooth_pixels())
    assert decoded.warnings == ("PNG without an end marker",)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_unknown_chunk_is_refused_before_the_pixels(at_the_end: bool) -> None:
    unknown = chunk(b"ABCD", b"")
    if at_the_end:
        np.testing.assert_array_equal(read_image(PNG[:-12] + unknown + PNG[-12:]), smooth_pixels())
    else:
        with pytest.raises(InvalidImageError, match="ABCD"):
            read_image(with_chunk(unknown))


@pytest.mark.parametrize("palette", [None, b""])
def test_a_palette_that_is_missing_is_refused(palette: bytes | None) -> None:
    content = encode(IMAGE.quantize(16), "PNG")
    start = content.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    content = content[:start] + (b"" if palette is None else chunk(b"PLTE", palette)) + content[end:]
    with pytest.raises(InvalidImageError, match="PLTE"):
        read_image(content)
