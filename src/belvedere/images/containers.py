"""Rejects image files whose structure would keep a decoder busy.

Segments, chunks, frames, directories and comments cost a decoder much more than they take of a file, some of them with
the square of their number. Each check reads headers only, and stops at its limit.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from belvedere.images.formats import is_avif, is_heif
from belvedere.images.limits import EMPTY_BLOCK_BYTES, ImageRejectedError
from belvedere.images.png_chunks import PNG_HEAD
from belvedere.images.png_chunks import count_frames as count_png_frames
from belvedere.images.tiff_directories import TIFF_MARKS, Directories, check_directories, check_tiff

# JPEG
SMALL_BYTES = 65_536  # smaller files take a decoder a tenth of a second at limit
LARGE_JPEG_BYTES = 20_000_000
MAX_SEGMENTS = 2000  # before the pixels; color profiles and long XMP take some hundred
MAX_PARSED_SEGMENTS = 32  # of each kind that Pillow parses in Python: EXIF, quantization tables, frames
MAX_PHOTOSHOP_RESOURCES = 10_000  # in all segments; about 30 are usual
MAX_STRAY_BYTES = 100_000  # between segments, or of consecutive fill bytes between pixels
# PNG
MAX_CHUNKS, BYTES_PER_CHUNK = 40_000, 8192  # and one more chunk for so many bytes, as libpng writes
PNG_PIXEL_BYTES = 9  # at limit: four channels of 16 bits, and the overhead of packing
# GIF
GIF_PIXEL_BYTES = 2  # at limit: 12 bits
MAX_GIF_COMMENT_BLOCKS = 2000  # of 255 bytes; Pillow's time grows with the square
MAX_GIF_BLOCKS = 20_000  # before the first frame, such as XMP
MAX_FRAME_BLOCKS = 1_000_000  # of the first frame: 255 MB
MAX_COUNTED_FRAMES, MAX_COUNTED_BLOCKS = 1000, 100_000  # when frames are counted; also TIFF pages
# WebP, AVIF, HEIF, PPM
MAX_WEBP_CHUNKS = 100_000  # two or three per frame of an animation
MAX_BOXES = 10_000  # about twenty are usual
MAX_ITEM_TABLE_BYTES = (
    32_768  # of an AVIF or HEIF: a thousand tiles; decoding time grows with the square of their number
)
MAX_EXIF_BYTES = 1_000_000  # of an AVIF or HEIF, or of a text in a PNG; cameras write less than 65,536
MAX_HEADER_BYTES = 65_536  # of a PPM, including comments
MAX_PPM_COMMENTS = 1000  # in plain text; each makes Pillow copy the rest

_SCAN = 0xDA
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xDE)) - {0xC4, 0xC8, 0xCC}
_PARSED = _FRAMES | {0xDB, 0xE1, 0xE2, 0xED}
# For Pillow: escaped bytes, restarts, starts and ends, extensions.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
_NEXT_MARKER = re.compile(rb"[^\xff]*+\xff++(?s:.)")
_MAX_PARSED = {"Photoshop": MAX_PHOTOSHOP_RESOURCES} | dict.fromkeys(
    ("EXIF", "frame", "quantization table", "multi-picture"), MAX_PARSED_SEGMENTS
)
_PACKED_PIXELS = (b"IDAT", b"DDAT", b"fdAT")
_CONTAINER_BOXES = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # boxes that contain others, after so many bytes
_ITEM_TABLES = (b"iloc", b"iinf", b"iref", b"ipma", b"grpl")
_TIFF_HEAD = re.compile(rb"II[*+]\x00|MM\x00[*+]")
_PPM_HEADER = re.compile(rb"[^\s#]*(?:(?:#[^\r\n]*[\r\n]|\s)+[^\s#]+){2,3}(?:#[^\r\n]*[\r\n])?\s")


def check_container(content: bytes) -> None:
    """Check the structure of a whole file that may be an image.

    Raises:
        ImageRejectedError: It has too many elements of a kind that is slow to read.
    """
    for signature, check in _CHECKS.items():
        if content.startswith(signature):
            check(content)
            return


def count_frames(content: bytes) -> int | None:
    """Count the frames of a GIF or PNG, or the pages of a TIFF; return None if there are too many to count."""
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _count_gif_frames(content)
    if content.startswith(PNG_HEAD):
        return count_png_frames(content)
    pages = 0
    for _ in Directories.open(content).chain():
        pages += 1
        if pages > MAX_COUNTED_FRAMES:
            return None
    return pages


def check_fill_bytes(content: bytes) -> None:
    """Raise `ImageRejectedError` for many fill bytes in the pixels of a JPEG, which Pillow reads repeatedly."""
    scan = find_scan(content)
    if content.find(b"\xff" * (MAX_STRAY_BYTES + 1), scan, content.find(b"\xff\xd9", scan)) >= 0:
        raise ImageRejectedError(f"a JPEG with more than {MAX_STRAY_BYTES:,} fill bytes in a row")


def check_exif(content: bytes) -> None:
    """Raise `ImageRejectedError` for EXIF data with more tags or values than a camera writes."""
    check_directories(content.removeprefix(b"Exif\x00\x00"))


def check_text_exif(text: str) -> None:
    """Raise `ImageRejectedError` as `check_exif`, for the EXIF text of a PNG: three lines, then hexadecimal."""
    if len(text) > 2 * MAX_EXIF_BYTES:
        raise ImageRejectedError(
            f"EXIF data as a text of {len(text):,} characters, over the limit of {2 * MAX_EXIF_BYTES:,}"
        )
    check_exif(bytes.fromhex("".join(text.split("\n")[3:])))


def _check_jpeg(content: bytes) -> None:
    if len(content) < SMALL_BYTES:
        return
    if len(content) > LARGE_JPEG_BYTES:  # the fast decoder reads smaller ones sooner than this search
        check_fill_bytes(content)
    else:
        find_scan(content)


def find_scan(content: bytes) -> int:
    """Check the segments as Pillow reads them, past any end marker; return where the pixels begin."""
    counts: Counter[str] = Counter()
    exif = b""
    position, stray = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.match(content, position, position + MAX_STRAY_BYTES + 3)
        end = found.end() if found else min(len(content), position + MAX_STRAY_BYTES + 3)
        stray += end - position - 2
        if stray > MAX_STRAY_BYTES:
            raise ImageRejectedError(
                f"a JPEG with more than {MAX_STRAY_BYTES:,} fill bytes or others between its segments"
            )
        kind, position = content[end - 1], end
        if found is None or kind == _SCAN:
            break
        if kind in _WITHOUT_LENGTH:
            continue
        end += max(2, int.from_bytes(content[position : position + 2], "big"))
        if kind in _PARSED and (name := _parsed_segment(kind, content[position + 2 : position + 8])):
            counts[name] += content.count(b"8BIM", position, end) if name == "Photoshop" else 1
            if counts[name] > _MAX_PARSED[name]:
                raise ImageRejectedError(f"a JPEG with more than {_MAX_PARSED[name]:,} {name} segments")
            exif += content[position + 8 : end] if name == "EXIF" else b""
            if name == "multi-picture":
                check_directories(content[position + 6 : end])
        position = end
    else:
        raise ImageRejectedError(f"a JPEG with more than {MAX_SEGMENTS:,} segments before its pixels")
    if counts["EXIF"] > 1:  # one is limited by its length field
        check_directories(exif)
    return position


def _parsed_segment(kind: int, head: bytes) -> str:
    """Return the name of a segment that Pillow parses in Python; empty for others."""
    if kind == 0xE1 and head == b"Exif\x00\x00":
        return "EXIF"
    if kind == 0xE2 and head.startswith(b"MPF\x00"):
        return "multi-picture"
    return "frame" if kind in _FRAMES else {0xED: "Photoshop", 0xDB: "quantization table"}.get(kind, "")


def _check_png(content: bytes) -> None:
    limit = MAX_CHUNKS + len(content) // BYTES_PER_CHUNK
    position, packed, pixels = 8, 0, 0
    for _ in range(limit):
        length, kind = int.from_bytes(content[position : position + 4], "big"), content[position + 4 : position + 8]
        start, position = position + 8, position + 12 + length
        if len(kind) < 4 or kind == b"IEND":
            return
        if kind == b"IHDR":
            pixels = max(pixels, _num_pixels(content[start : start + 8]))
        elif kind == b"fcTL":
            packed = 0  # of the next frame
        elif kind in _PACKED_PIXELS:
            packed += length
            _check_packed(packed, pixels * PNG_PIXEL_BYTES)
    raise ImageRejectedError(f"a PNG with more than {limit:,} chunks in {len(content):,} bytes")


def _num_pixels(sizes: bytes) -> int:
    """Return the product of width and height, of four bytes each."""
    return int.from_bytes(sizes[:4], "big") * int.from_bytes(sizes[4:], "big")


def _check_packed(packed: int, plain: int) -> None:
    """Raise `ImageRejectedError` for far more packed bytes than the pixels can have unpacked."""
    if packed > EMPTY_BLOCK_BYTES + plain:
        raise ImageRejectedError(f"{packed:,} bytes of packed pixels, more than the {plain:,} of all pixels unpacked")


def _check_webp(content: bytes) -> None:
    if content[8:12] != b"WEBP":
        return
    position = 12
    for _ in range(MAX_WEBP_CHUNKS):
        if position + 8 > len(content):
            return
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    raise ImageRejectedError(f"a WebP with more than {MAX_WEBP_CHUNKS:,} chunks")


def _check_heif(content: bytes) -> None:
    if not (is_avif(content) or is_heif(content)):
        return
    positions, boxes = [(0, len(content))], 0
    for start, end in positions:  # grows while it is read
        for kind, inner, after in find_boxes(content, start, end):
            boxes += 1
            if boxes > MAX_BOXES:
                raise ImageRejectedError(f"an AVIF or HEIF with more than {MAX_BOXES:,} boxes")
            if kind in _ITEM_TABLES and after - inner > MAX_ITEM_TABLE_BYTES:
                size = f"{after - inner:,} bytes of {kind.decode()}"
                raise ImageRejectedError(f"an AVIF or HEIF with {size}, over the limit of {MAX_ITEM_TABLE_BYTES:,}")
            if kind in _CONTAINER_BOXES:
                positions.append((inner + _CONTAINER_BOXES[kind], after))
    for number, found in enumerate(_TIFF_HEAD.finditer(content)):
        if number == MAX_PARSED_SEGMENTS:
            raise ImageRejectedError(f"an AVIF or HEIF with EXIF data in more than {MAX_PARSED_SEGMENTS} places")
        check_directories(content[found.start() : found.start() + MAX_EXIF_BYTES])


def find_boxes(content: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box of an ISO media file: its kind, and the start and end of its content."""
    while position + 8 <= end:
        size, head = int.from_bytes(content[position : position + 4], "big"), 8
        kind = content[position + 4 : position + 8]
        if size == 1:  # a 64-bit size follows
            size, head = int.from_bytes(content[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = end - position
        if size < head or position + size > end:
            return  # damaged
        yield kind, position + head, position + size
        position += size


def _gif_blocks(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield the kind and position of each GIF block: "frame", "comment" or "extension"; "" for sub-blocks."""
    position = 13 + _color_table_bytes(content[10])
    while position < len(content):
        introducer, start = content[position], position
        if introducer == 0x2C and position + 10 < len(content):
            kind, position = "frame", position + 11 + _color_table_bytes(content[position + 9])
        elif introducer == 0x21:
            kind, position = "comment" if content[position + 1 : position + 2] == b"\xfe" else "extension", position + 2
        else:
            return  # the trailer, or damaged
        yield kind, start
        while position < len(content) and (length := content[position]):
            position += 1 + length
            yield "", position
        position += 1


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_gif(content: bytes) -> None:
    if len(content) < 13:
        return
    pieces: Counter[str] = Counter()
    limits = {"comment": MAX_GIF_COMMENT_BLOCKS, "extension": MAX_GIF_BLOCKS, "frame": MAX_FRAME_BLOCKS}
    current, first, plain = "", 0, 0
    for kind, position in _gif_blocks(content):
        if first and kind:
            return
        if kind == "frame":
            width, height = content[position + 5 : position + 7], content[position + 7 : position + 9]
            plain = GIF_PIXEL_BYTES * int.from_bytes(width, "little") * int.from_bytes(height, "little")
            first = position
        if first:
            _check_packed(position - first, plain)
        current = kind or current
        pieces[current] += 1
        if pieces[current] > limits[current]:
            raise ImageRejectedError(
                f"a GIF with more than {limits[current]:,} blocks of a {current}, up to its first frame"
            )


def _count_gif_frames(content: bytes) -> int | None:
    frames = 0
    for steps, (kind, _) in enumerate(_gif_blocks(content)):
        frames += kind == "frame"
        if frames > MAX_COUNTED_FRAMES or steps > MAX_COUNTED_BLOCKS:
            return None
    return frames


def _check_ppm(content: bytes) -> None:
    if not _PPM_HEADER.match(content, 2, MAX_HEADER_BYTES) and len(content) > MAX_HEADER_BYTES:
        raise ImageRejectedError(f"a PPM whose header is longer than {MAX_HEADER_BYTES:,} bytes")
    if content[1] in b"123" and content.count(b"#") > MAX_PPM_COMMENTS:  # plain text may have comments anywhere
        raise ImageRejectedError(f"a PPM with more than {MAX_PPM_COMMENTS:,} comments")


_CHECKS: Mapping[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8\xff": _check_jpeg,
    PNG_HEAD: _check_png,
    b"RIFF": _check_webp,
    b"\x00\x00": _check_heif,  # the size of its first box
    b"GIF87a": _check_gif,
    b"GIF89a": _check_gif,
    **dict.fromkeys(TIFF_MARKS, check_tiff),
    **{b"P%c" % letter: _check_ppm for letter in b"0123456fFy"},
}
