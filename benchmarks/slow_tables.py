"""Kinds of small files whose directories or tables keep a decoder busy: TIFF and AVIF."""

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from slow_kinds import before_pixels, empty_blocks, encode, fill, kind, packed, segment


def directory(entries: list[tuple[int, int, int, int]], after: int = 0) -> bytes:
    """Return a directory of a TIFF."""
    held = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + held + struct.pack("<I", after)


PIXEL = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1), (278, 3, 1, 1)]
STRIP = [(273, 4, 1, 8), (279, 4, 1, 1)]


@kind("tiff: pages")
def _tiff_pages(size: int) -> bytes:
    step = len(directory(PIXEL + STRIP))
    count = max(2, size // step)
    pages = (directory(PIXEL + STRIP, 16 + step * (k + 1) if k < count - 1 else 0) for k in range(count))
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + b"".join(pages)


@kind("tiff: empty pages")
def _tiff_empty_pages(size: int) -> bytes:
    pages = b"".join(struct.pack("<HI", 0, 16 + 6 * (k + 1)) for k in range(size // 6))
    first = directory(PIXEL + STRIP, 16)
    return b"II*\0" + struct.pack("<I", 16 + len(pages)) + bytes(8) + pages + first


@kind("tiff: tags")
def _tiff_tags(size: int) -> bytes:
    entries = PIXEL + STRIP + [(1000 + k, 4, 1, 1) for k in range(min(60_000, size // 12))]
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries)


@kind("tiff: tags over each other")
def _tiff_overlapping(size: int) -> bytes:
    entries = PIXEL + STRIP + [(1000 + k, 7, size, 8) for k in range(900)]
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries)).ljust(size + 8, b"\0")


@kind("tiff: strips")
def _tiff_strips(size: int) -> bytes:
    count = size // 8
    changed = [(tag, kind, n, count if tag == 257 else value) for tag, kind, n, value in PIXEL]
    changed = [(tag, 4 if tag == 257 else kind, n, value) for tag, kind, n, value in changed]
    start = 16 + len(directory(changed + STRIP))
    entries = [*changed, (273, 4, count, start), (279, 4, count, start + 4 * count)]
    offsets = np.full(count, 8, "<u4").tobytes() + np.full(count, 1, "<u4").tobytes()
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries) + offsets


@kind("tiff: EXIF tags")
def _tiff_exif(size: int) -> bytes:
    first = directory([*PIXEL, *STRIP, (0x8769, 4, 1, 16 + len(directory(PIXEL + STRIP)) + 12)])
    exif = directory([(0x9000 + k, 7, size, 8) for k in range(900)])
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + first + exif).ljust(size + 8, b"\0")


def tiff(entries: list[tuple[int, int, int, int]], data: bytes) -> bytes:
    """Return a TIFF whose data start at byte 300."""
    return (b"II*\0" + struct.pack("<I", 8) + directory(entries)).ljust(300, b"\0") + data


def stripped(compression: int, strip: bytes, strips: int, width: int = 8) -> bytes:
    """Return a TIFF of many strips that have the same offset."""
    after = 300 + len(strip)
    shape = [(256, 3, 1, width), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]
    where, sizes = (after, after + 4 * strips) if strips > 1 else (300, len(strip))
    strip_tags = [(273, 4, strips, where), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, strips, sizes)]
    offsets = np.full(strips, 300, "<u4").tobytes() + np.full(strips, len(strip), "<u4").tobytes()
    return tiff(shape + strip_tags, strip + offsets)


@kind("tiff: strips over each other, of clear codes")
def _tiff_clears(size: int) -> bytes:
    clear, pixel, end = [1] + [0] * 8, [0] * 9, [1] + [0] * 7 + [1]
    clears, pixels = np.packbits(clear * 8).tobytes(), np.packbits(clear + pixel * 8 + end).tobytes()
    return stripped(5, fill(clears, size) + pixels, 2000)


@kind("tiff: strips over each other, of empty blocks")
def _tiff_blocks(size: int) -> bytes:
    return stripped(8, packed(bytes(8), empty_blocks(size)), 2000)


@kind("tiff: a strip of empty blocks")
def _tiff_block(size: int) -> bytes:
    return stripped(8, packed(bytes(8), empty_blocks(size)), 1)


@kind("tiff: strips of LZMA")
def _tiff_lzma(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 1)).save(file, "TIFF", compression="lzma")
    with Image.open(file) as image:
        start, length = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    return stripped(34925, file.getvalue()[start : start + length], min(65_000, size // 8))


@kind("tiff: plain strips")
def _tiff_plain(size: int) -> bytes:
    return stripped(1, bytes(8), min(65_000, size // 8))


@kind("tiff: a tile larger than the image")
def _tiff_tile(size: int) -> bytes:
    tile_size = 40_000
    shape = [(256, 3, 1, 10), (257, 3, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    return tiff(
        [*shape, (322, 4, 1, tile_size), (323, 4, 1, tile_size), (324, 4, 1, 300), (325, 4, 1, size)], bytes(size)
    )


@kind("tiff: EXIF of rationals")
def _tiff_rationals(size: int) -> bytes:
    after = 16 + len(directory(PIXEL + STRIP)) + 12
    exif = directory([(0x9000 + k, 5, 60_000, 8) for k in range(max(1, min(900, size // 480_000)))])
    first = directory([*PIXEL, *STRIP, (0x8769, 4, 1, after)])
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + first + exif).ljust(size + 8, b"\1")


@kind("tiff: scans of a JPEG")
def _tiff_scans(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4000, 4000)).save(file, "JPEG", progressive=True)
    again = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + bytes(5)
    whole = file.getvalue()[:-2] + fill(again, min(size, 90 * len(again))) + b"\xff\xd9"
    shape = [(256, 3, 1, 4000), (257, 3, 1, 4000), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
    strip_tags = [(273, 4, 1, 300), (277, 3, 1, 1), (278, 3, 1, 4000), (279, 4, 1, len(whole))]
    return tiff(shape + strip_tags, whole.ljust(size, b"\0"))


@kind("avif: boxes")
def _avif_boxes(size: int) -> bytes:
    whole = encode("AVIF")
    head = int.from_bytes(whole[:4], "big")
    return whole[:head] + fill(struct.pack(">I", 8) + b"free", size) + whole[head:]


AVIF = encode("AVIF")


def box(name: bytes, content: bytes) -> bytes:
    """Return a box of an AVIF."""
    return struct.pack(">I", 8 + len(content)) + name + content


def boxes(content: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each box from a position on."""
    while position + 8 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        yield content[position + 4 : position + 8], content[position + 8 : position + size]
        position += size


def with_table(name: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return an AVIF with a table changed or, where it has none, added."""
    parts = dict(boxes(AVIF, 0))
    tables = dict(boxes(parts[b"meta"], 4))
    tables[name] = change(tables.get(name, bytes(4)))
    changed = parts[b"meta"][:4] + b"".join(box(*table) for table in tables.items())
    return box(b"ftyp", parts[b"ftyp"]) + box(b"meta", changed) + box(b"mdat", parts[b"mdat"])


def _more(table: bytes, size_of_count: int, position: int, items: list[bytes]) -> bytes:
    count = int.from_bytes(table[position : position + size_of_count], "big") + len(items)
    return table[:position] + count.to_bytes(size_of_count, "big") + table[position + size_of_count :] + b"".join(items)


@kind("avif: places of items")
def _avif_locations(size: int) -> bytes:
    items = [struct.pack(">HHH", 10 + k, 0, 0) for k in range(min(65_000, size // 6))]
    return with_table(b"iloc", lambda table: _more(table, 2, 6, items))


@kind("avif: many places of items")
def _avif_many_locations(size: int) -> bytes:
    items = b"".join(struct.pack(">IHHH", 10 + k, 0, 0, 0) for k in range(size // 10))
    head = b"\2\0\0\0\x44\0" + struct.pack(">I", size // 10)
    return with_table(b"iloc", lambda _: head + items)


@kind("avif: kinds of items")
def _avif_items(size: int) -> bytes:
    item = b"\2\0\0\0%b\0\0zzzz\0"
    items = [box(b"infe", item % struct.pack(">H", 10 + k)) for k in range(min(65_000, size // 21))]
    return with_table(b"iinf", lambda table: _more(table, 2, 4, items))


@kind("avif: references")
def _avif_references(size: int) -> bytes:
    pairs = (box(b"thmb", struct.pack(">HHH", 10 + k % 65_000, 1, 1)) for k in range(size // 14))
    return with_table(b"iref", lambda table: table + b"".join(pairs))


@kind("avif: properties")
def _avif_properties(size: int) -> bytes:
    def more(table: bytes) -> bytes:
        return b"".join(
            box(name, held + fill(box(b"zzzz", b""), size) if name == b"ipco" else held)
            for name, held in boxes(table, 0)
        )

    return with_table(b"iprp", more)


def same_directory_again() -> bytes:
    """Return EXIF data whose thousand tags all name one directory of a thousand tags without values."""
    position = 8 + len(directory([])) + 12 * 1000
    inner = directory([(0x9000, 7, 0, 0)] * 1000)
    return b"II*\0" + struct.pack("<I", 8) + directory([(0x8769, 4, 1, position)] * 1000) + inner


@kind("avif: one directory again and again")
def _avif_directories(size: int) -> bytes:
    return encode("AVIF") + box(b"free", fill(same_directory_again(), min(size, 32 * 24_000)))


@kind("jpeg: one directory again and again")
def _jpeg_directories(size: int) -> bytes:
    piece = segment(0xE2, b"MPF\0" + same_directory_again())
    return before_pixels(piece * max(3, min(32, size // len(piece))))


@kind("tiff: one tag again and again")
def _tiff_same_tag(size: int) -> bytes:
    entries = [*PIXEL[:2], *[(258, 3, 65_536, 8)] * 900, *PIXEL[3:], *STRIP]
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries)).ljust(size + 8, b"\0")
