"""Kinds of small files that keep a decoder busy, each made at about a given size.

Directories and tables are in `slow_tables`; `slow_images` measures all.
"""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

TINY_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))

Maker = Callable[[int], bytes]
KINDS: dict[str, Maker] = {}


def kind(name: str) -> Callable[[Maker], Maker]:
    """Register a maker of files of about a size in bytes."""

    def register(maker: Maker) -> Maker:
        KINDS[name] = maker
        return maker

    return register


def encode(form: str, **options: object) -> bytes:
    """Return the bytes of an ordinary small file."""
    buffer = io.BytesIO()
    IMAGE.save(buffer, form, **options)
    return buffer.getvalue()


JPEG, PNG = encode("JPEG"), encode("PNG")


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def fill(piece: bytes, size: int) -> bytes:
    """Repeat a piece up to a size."""
    return piece * max(1, size // len(piece))


def before_pixels(pieces: bytes) -> bytes:
    """Put pieces behind the start of a JPEG."""
    return JPEG[:2] + pieces + JPEG[2:]


for _name, _piece in {
    "jpeg: EXIF segments": segment(0xE1, TINY_EXIF),
    "jpeg: long EXIF segments": segment(0xE1, TINY_EXIF + bytes(60_000)),
    "jpeg: Photoshop segments": segment(0xED, b"Photoshop 3.0\0" + fill(b"8BIM\x04\x04\0\0\0\0\0\0", 60_000)),
    "jpeg: empty Photoshop segments": segment(0xED, b"Photoshop 3.0\0"),
    "jpeg: quantization tables": segment(0xDB, fill(b"\0" + bytes(range(1, 65)), 60_000)),
    "jpeg: color profile segments": segment(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(1000)),
    "jpeg: multi-picture segments": segment(0xE2, b"MPF\0" + bytes(200)),
    "jpeg: empty comments": segment(0xFE, b""),
    "jpeg: empty APP0": segment(0xE0, b""),
    "jpeg: Adobe segments": segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "jpeg: XMP segments": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 500),
    "jpeg: Huffman tables": segment(0xC4, b"\0" + bytes(16)),
    "jpeg: frame headers": segment(0xC0, struct.pack(">BHHB", 8, 48, 64, 3) + b"\1\x11\0\2\x11\0\3\x11\0"),
    "jpeg: fill bytes": b"\xff",
    "jpeg: restart markers": b"\xff\xd0",
    "jpeg: start markers": b"\xff\xd8",
    "jpeg: escaped bytes": b"\xff\x00",
    "jpeg: zeros between segments": b"\x00",
    "jpeg: extensions": segment(0xF0, bytes(60_000)),
}.items():
    KINDS[_name] = lambda size, piece=_piece: before_pixels(fill(piece, size))  # type: ignore[misc]
    KINDS[f"{_name}, behind an end"] = lambda size, piece=_piece: before_pixels(b"\xff\xd9" + fill(piece, size))  # type: ignore[misc]


@kind("jpeg: fill bytes in the pixels")
def _fill_in_scan(size: int) -> bytes:
    position = JPEG.index(b"\xff\xda") + 14
    return JPEG[:position] + fill(b"\xff", size) + JPEG[position:]


@kind("jpeg: scans")
def _scans(size: int) -> bytes:
    whole = encode("JPEG", progressive=True)
    position = whole.rindex(b"\xff\xda")
    return whole[:position] + fill(whole[position:-2], size) + b"\xff\xd9"


@kind("jpeg: overlapping EXIF tags")
def _jpeg_overlapping(size: int) -> bytes:
    del size
    return before_pixels(segment(0xE1, b"Exif\0\0" + overlapping_tags(5000, 60_000)))


def overlapping_tags(tags: int, length: int) -> bytes:
    """Return EXIF data whose tags all hold the same bytes."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + k % 4000, 7, length, 8) for k in range(tags))
    return (b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)).ljust(length + 8, b"\0")


for _name, _piece in {
    "png: empty texts": chunk(b"tEXt", b""),
    "png: texts": chunk(b"tEXt", b"key\0" + b"x" * 200),
    "png: compressed texts": chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000))),
    "png: private chunks": chunk(b"prVt", b""),
    "png: empty pixels": chunk(b"IDAT", b""),
    "png: gamma": chunk(b"gAMA", bytes(4)),
    "png: palettes": chunk(b"PLTE", bytes(768)),
    "png: frame controls": chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0)),
    "png: EXIF chunks": chunk(b"eXIf", TINY_EXIF[6:]),
}.items():
    KINDS[_name] = lambda size, piece=_piece: PNG[:33] + fill(piece, size) + PNG[33:]  # type: ignore[misc]
    KINDS[f"{_name}, behind"] = lambda size, piece=_piece: PNG[:-12] + fill(piece, size) + PNG[-12:]  # type: ignore[misc]


@kind("png: overlapping EXIF tags")
def _png_overlapping(size: int) -> bytes:
    return PNG[:33] + chunk(b"eXIf", overlapping_tags(60_000, size)) + PNG[33:]


@kind("png: EXIF as text")
def _png_text_exif(size: int) -> bytes:
    text = "\nexif\n 100\n" + overlapping_tags(60_000, size // 2).hex()
    return PNG[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + text.encode()) + PNG[33:]


@kind("png: pixels by the byte")
def _png_tiny_pixels(size: int) -> bytes:
    rows = np.random.default_rng(1).integers(0, 255, (max(2, size // 13 // 301), 301), np.uint8)
    rows[:, 0] = 0
    head = struct.pack(">IIBBBBB", 100, len(rows), 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes())
    return PNG[:8] + chunk(b"IHDR", head) + b"".join(chunk(b"IDAT", bytes([b])) for b in packed) + chunk(b"IEND", b"")


GIF_HEAD = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
for _name, _piece in {
    "gif: frames": GIF_FRAME,
    "gif: comments": b"\x21\xfe\x01x\0",
    "gif: empty comments": b"\x21\xfe\0",
    "gif: controls": b"\x21\xf9\x04\0\0\0\0\0",
    "gif: application blocks": b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
}.items():
    KINDS[_name] = lambda size, piece=_piece: GIF_HEAD + fill(piece, size) + GIF_FRAME + b"\x3b"  # type: ignore[misc]
    KINDS[f"{_name}, behind"] = lambda size, piece=_piece: GIF_HEAD + GIF_FRAME + fill(piece, size) + b"\x3b"  # type: ignore[misc]


@kind("gif: one long comment")
def _gif_comment(size: int) -> bytes:
    return GIF_HEAD + b"\x21\xfe" + fill(b"\xff" + b"x" * 255, size) + b"\0" + GIF_FRAME + b"\x3b"


@kind("gif: pixels by the byte")
def _gif_bytes(size: int) -> bytes:
    return GIF_HEAD + GIF_FRAME[:11] + fill(b"\x01\x44", size) + b"\0" + GIF_FRAME + b"\x3b"


@kind("ppm: comment")
def _ppm_comment(size: int) -> bytes:
    return b"P6\n#" + b"a" * size + b"\n4 4\n255\n" + bytes(48)


@kind("ppm: comments")
def _ppm_comments(size: int) -> bytes:
    return b"P6\n" + fill(b"#\n", size) + b"4 4\n255\n" + bytes(48)


@kind("ppm: spaces")
def _ppm_spaces(size: int) -> bytes:
    return b"P6" + b" " * size + b"4 4\n255\n" + bytes(48)


@kind("ppm: digits")
def _ppm_digits(size: int) -> bytes:
    return b"P6\n" + b"0" * size + b"4 4\n255\n" + bytes(48)


@kind("ppm: plain, comments in the pixels")
def _ppm_plain(size: int) -> bytes:
    return b"P3\n4 4\n255\n" + fill(b"#x\n", size) + b"0 " * 48


@kind("ppm: plain, one comment in the pixels")
def _ppm_plain_comment(size: int) -> bytes:
    return b"P3\n4 4\n255\n1 #" + b"x" * size + b"\n" + b"0 " * 48


@kind("ppm: plain, spaces in the pixels")
def _ppm_plain_spaces(size: int) -> bytes:
    return b"P3\n4 4\n255\n1" + b" " * size + b"0 " * 48


@kind("webp: chunks")
def _webp_chunks(size: int) -> bytes:
    body = encode("WEBP")[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    content = b"WEBP" + extended + fill(b"JUNK" + bytes(4), size) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


@kind("webp: frames")
def _webp_frames(size: int) -> bytes:
    body = encode("WEBP")[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(body)) + bytes(6) + (63).to_bytes(3, "little")
    frame += (47).to_bytes(3, "little") + bytes(4) + body
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    content = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6) + fill(frame, size)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@kind("bmp: run lengths")
def _bmp_runs(size: int) -> bytes:
    data = fill(b"\x01\x07", size)
    head = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, len(data), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(data), 0, 0, 14 + len(head)) + head + data


@kind("bmp: ends of rows")
def _bmp_rows(size: int) -> bytes:
    return bmp(8, 4400, 4400, b"\x01\x07\0\0" * min(4400, size // 4))


@kind("bmp: ends of long rows")
def _bmp_long_rows(size: int) -> bytes:
    return bmp(4, 30_000, 3000, (b"\x01\x07\0\0" * 3000).ljust(size, b"\0"))


@kind("bmp: two pixels in a byte")
def _bmp_half_bytes(size: int) -> bytes:
    return bmp(4, 2200, 2200, fill(b"\xff\x17", size))


def bmp(bits: int, width: int, height: int, data: bytes) -> bytes:
    """Return a BMP that is packed by run lengths."""
    colors = bytes(range(4 << bits)) if bits < 8 else bytes(4) + bytes(range(255, -1, -1)) * 4
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 3 - bits // 4, len(data), 0, 0, 1 << bits, 0)
    start = 14 + len(head) + 4 * (1 << bits)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + colors[: 4 << bits] + data


def empty_blocks(size: int) -> bytes:
    """Return packed data that are nothing but tables: blocks of no bytes, each with codes of its own."""
    codes = {18: "0", 0: "10", 1: "11"}  # of the lengths of codes
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1)
    lengths = {18: 1, 1: 2, 0: 2}
    bits = "0" + "01" + "00000" + "00000" + "0111"  # not the last; own codes; 257 and 1 of them; 18 lengths
    bits += "".join(f"{lengths.get(symbol, 0):03b}"[::-1] for symbol in order)
    for run in (138, 118):  # literals that do not occur
        bits += codes[18] + f"{run - 11:07b}"[::-1]
    bits += codes[1] * 2 + "0"  # the end of a block, a distance; and here it is
    block = np.packbits([int(bit) for bit in bits * 8], bitorder="little").tobytes()
    return fill(block, size)


def packed(rows: bytes, blocks: bytes) -> bytes:
    """Return rows packed behind empty blocks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"\x78\x9c" + blocks + packer.compress(rows) + packer.flush() + struct.pack(">I", zlib.adler32(rows))


@kind("png: empty blocks in the pixels")
def _png_blocks(size: int) -> bytes:
    return PNG[:33] + chunk(b"IDAT", packed(bytes(48 * (1 + 64 * 3)), empty_blocks(size))) + PNG[-12:]


@kind("png: color profiles")
def _png_profiles(size: int) -> bytes:
    return PNG[:33] + fill(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)), size) + PNG[33:]


@kind("png: compressed texts without a name")
def _png_nameless(size: int) -> bytes:
    return PNG[:33] + fill(chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(1_000_000), 9)), size) + PNG[33:]


@kind("png: compressed texts with a wrong sum")
def _png_wrong_sums(size: int) -> bytes:
    text = zlib.compress(bytes(1_000_000), 9)[:-4] + b"\0\1\2\3"
    return PNG[:33] + fill(chunk(b"iTXt", b"a\0\1\0\0\0" + text), size) + PNG[33:]


@kind("png: a text of empty blocks")
def _png_text_of_blocks(size: int) -> bytes:
    return PNG[:33] + chunk(b"zTXt", b"a\0\0" + packed(b"x", empty_blocks(size))) + PNG[33:]


@kind("png: EXIF as lines")
def _png_lines(size: int) -> bytes:
    return PNG[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * size) + PNG[33:]


@kind("gif: zeros before the frame")
def _gif_zeros(size: int) -> bytes:
    return GIF_HEAD + bytes(size) + GIF_FRAME + b"\x3b"


@kind("gif: clear codes in the pixels")
def _gif_clears(size: int) -> bytes:
    codes = np.packbits([0, 0, 1] * 8 * 85, bitorder="little").tobytes()  # 255 bytes
    return GIF_HEAD + GIF_FRAME[:11] + fill(b"\xff" + codes, size) + b"\x02\x44\x01\0\x3b"


@kind("ppm: comment of other kinds")
def _ppm_other_comment(size: int) -> bytes:
    return b"PyRGBA\n#" + b"a" * size + b"\n4 4\n255\n" + bytes(64)


@kind("webp: frames of a pixel")
def _webp_pixels(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "WEBP", lossless=True)
    frame = b"ANMF" + struct.pack("<I", 4 + len(file.getvalue())) + bytes(16) + file.getvalue()[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + bytes(6)
    content = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6) + fill(frame, size)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@kind("jpeg: arithmetic coding of 20 megapixels")
def _jpeg_arithmetic(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4400, 4400)).save(file, "JPEG")
    whole = bytearray(file.getvalue())
    whole[whole.index(b"\xff\xc0") + 1] = 0xC9
    noise = np.random.default_rng(0).integers(0, 255, size, np.uint8).tobytes()  # no 255: no markers
    return bytes(whole[: whole.index(b"\xff\xda") + 10]) + noise + b"\xff\xd9"


@kind("jpeg: EXIF of rationals")
def _jpeg_rationals(size: int) -> bytes:
    size = min(size, 1_900_000)
    entries = [(0x011A, 5, size // 8 - 20, 100), (0x0128, 3, 1, 2)]
    held = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    exif = (b"II*\0" + struct.pack("<IH", 8, 2) + held + bytes(4)).ljust(size, b"\1")
    pieces = (segment(0xE1, b"Exif\0\0" + exif[k : k + 65_000]) for k in range(0, size, 65_000))
    return JPEG[:2] + b"".join(pieces) + JPEG[20:]  # without JFIF, where the resolution would be


@kind("jpeg: images of rational tags")
def _jpeg_images(size: int) -> bytes:
    tags = min(5000, size // 12)
    entries = [(0xB001, 4, 1, 2), (0xB002, 7, 32, 8)] + [(0xC000 + k, 5, 7000, 100) for k in range(tags)]
    held = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    index = (b"II*\0" + struct.pack("<IH", 8, len(entries)) + held + bytes(4)).ljust(65_000, b"\1")
    return before_pixels(segment(0xE2, b"MPF\0" + index)).ljust(size, b"\0")
