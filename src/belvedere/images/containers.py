"""Bounds on the structure of image files, checked before a decoder sees them.

A decoder takes its time not for pixels alone: segments, chunks, frames, directories and comments cost it much more than
they take of a file, some of them the square of their number. Each walk here goes from head to head and ends at its
bound, so that no file takes long.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from belvedere.images.limits import EMPTY_BLOCK_BYTES, Refused
from belvedere.images.tiff_directories import Directories, check_directories, check_tiff

SMALL_BYTES = 65_536  # of a JPEG; one with less costs a decoder a tenth of a second at most, whatever is in it
MAX_SEGMENTS = 2000  # of a JPEG before its pixels; color profiles and long XMP take some hundred
MAX_PARSED_SEGMENTS = 32  # of each kind that Pillow takes apart in Python: EXIF, quantization tables, frames
MAX_PHOTOSHOP_RESOURCES = 10_000  # in all segments; about 30 are usual
MAX_STRAY_BYTES = 100_000  # of a JPEG between its segments, or of fill bytes in a row between its pixels
LARGE_JPEG_BYTES = 20_000_000
MAX_CHUNKS, BYTES_PER_CHUNK = 40_000, 8192  # of a PNG, and one more for so many bytes, as libpng writes
MAX_KEYWORD = 81  # bytes of a text's name, its end and a flag
MAX_METADATA_BYTES = 20_000_000  # of a text or of EXIF in a PNG: drawings and workflows have some megabytes
MAX_COMPRESSED_BYTES, MAX_UNPACKED_BYTES = 4_000_000, 64_000_000  # of all texts and color profiles of a PNG
PILLOW_UNPACKS, DEFLATE_RATIO = 1_000_000, 1032  # bytes of each of these; bytes that a packed byte can become
MOST_PNG_BYTES = 9  # of a pixel: four channels of 16 bits, and what packing adds
MOST_GIF_BYTES = 2  # of a pixel: 12 bits at most
MAX_WEBP_CHUNKS = 100_000  # two or three for each frame of an animation
MAX_AVIF_BOXES = 10_000  # one in another; about twenty are usual
MAX_ITEM_TABLE_BYTES = 32_768  # of an AVIF; a thousand tiles; the decoder's time grows with the square of their number
MAX_EXIF_BYTES = 1_000_000  # of an AVIF, or of a text in a PNG; cameras write less than 65,536
MAX_GIF_COMMENT_BLOCKS = 2000  # of 255 bytes each; Pillow's time grows with the square
MAX_GIF_BLOCKS = 20_000  # before the first frame, such as XMP
MAX_HEADER_BYTES = 65_536  # of a PPM, comments included
MAX_PPM_COMMENTS = 1000  # in plain text; each costs Pillow a copy of what follows
MAX_FRAME_BLOCKS = 1_000_000  # of the first frame: 255 MB
MAX_COUNTED_FRAMES = 1000  # of a GIF or TIFF; more are not counted
MAX_COUNTED_BLOCKS = 100_000  # of a GIF, on the way to the next frames

_SCAN = 0xDA
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xDE)) - {0xC4, 0xC8, 0xCC}
_PARSED = _FRAMES | {0xDB, 0xE1, 0xE2, 0xED}
# To Pillow, which goes on behind such a marker byte by byte: escaped bytes, restarts, starts and ends, extensions.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))
_NEXT_MARKER = re.compile(rb"[^\xff]*+\xff++(?s:.)")
_MOST_PARSED = {"Photoshop": MAX_PHOTOSHOP_RESOURCES} | dict.fromkeys(
    ("EXIF", "frame", "quantization table", "multi-picture"), MAX_PARSED_SEGMENTS
)
_PLAIN_CHUNKS = (b"tEXt", b"iTXt", b"eXIf")
_COMPRESSED_CHUNKS, _PACKED_PIXELS = (b"iCCP", b"zTXt"), (b"IDAT", b"DDAT", b"fdAT")
_HOLDERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # of other boxes, behind so many bytes
_ITEM_TABLES = (b"iloc", b"iinf", b"iref", b"ipma", b"grpl")
_TIFF_HEAD = re.compile(rb"II[*+]\x00|MM\x00[*+]")
_PPM_HEADER = re.compile(rb"[^\s#]*(?:(?:#[^\r\n]*[\r\n]|\s)+[^\s#]+){2,3}(?:#[^\r\n]*[\r\n])?\s")


def check_container(content: bytes) -> None:
    """Check the structure of a file that may be an image.

    Args:
        content: The whole file.

    Raises:
        Refused: It has too much of something that is slow to read; the reason says of what.
    """
    for signature, check in _CHECKS.items():
        if content.startswith(signature):
            check(content)
            return


def count_frames(content: bytes) -> int | None:
    """Count the frames of a GIF or the pages of a TIFF.

    Returns:
        Their number; None where there are more than `MAX_COUNTED_FRAMES`, or the file is too long to be counted.
    """
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _count_gif_frames(content)
    pages = 0
    for _ in Directories.open(content).chain():
        pages += 1
        if pages > MAX_COUNTED_FRAMES:
            return None
    return pages


def check_fill_bytes(content: bytes) -> None:
    """Check that the pixels of a JPEG hold no long run of fill bytes, over which Pillow goes again and again.

    Raises:
        Refused: They do.
    """
    scan = _walk_jpeg(content)
    if content.find(b"\xff" * (MAX_STRAY_BYTES + 1), scan, content.find(b"\xff\xd9", scan)) >= 0:
        raise Refused(f"a JPEG with more than {MAX_STRAY_BYTES:,} fill bytes in a row")


def check_exif(content: bytes) -> None:
    """Check the directories of EXIF data, as they stand in any kind of file.

    Raises:
        Refused: They have more tags or values than a camera writes.
    """
    check_directories(content.removeprefix(b"Exif\x00\x00"))


def check_text_exif(text: str) -> None:
    """Check EXIF data as some PNGs have them: in hexadecimal, behind three lines.

    Raises:
        Refused: As `check_exif`, or the text is too long.
    """
    if len(text) > 2 * MAX_EXIF_BYTES:
        raise Refused(f"EXIF data as a text of {len(text):,} characters, over the limit of {2 * MAX_EXIF_BYTES:,}")
    check_exif(bytes.fromhex("".join(text.split("\n")[3:])))


def _check_jpeg(content: bytes) -> None:
    if len(content) < SMALL_BYTES:
        return
    if len(content) > LARGE_JPEG_BYTES:  # else the fast decoder is through before this search would be
        check_fill_bytes(content)
    else:
        _walk_jpeg(content)


def _walk_jpeg(content: bytes) -> int:
    """Go from segment to segment as Pillow does, which does not stop at an end, and return where the pixels begin."""
    counts: Counter[str] = Counter()
    exif = b""
    place, stray = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.match(content, place, place + MAX_STRAY_BYTES + 3)
        end = found.end() if found else min(len(content), place + MAX_STRAY_BYTES + 3)
        stray += end - place - 2
        if stray > MAX_STRAY_BYTES:
            raise Refused(f"a JPEG with more than {MAX_STRAY_BYTES:,} fill bytes or others between its segments")
        kind, place = content[end - 1], end
        if found is None or kind == _SCAN:
            break
        if kind in _WITHOUT_LENGTH:
            continue
        end += max(2, int.from_bytes(content[place : place + 2], "big"))
        if kind in _PARSED and (name := _parsed_segment(kind, content[place + 2 : place + 8])):
            counts[name] += content.count(b"8BIM", place, end) if name == "Photoshop" else 1
            if counts[name] > _MOST_PARSED[name]:
                raise Refused(f"a JPEG with more than {_MOST_PARSED[name]:,} {name} segments")
            exif += content[place + 8 : end] if name == "EXIF" else b""
            if name == "multi-picture":
                check_directories(content[place + 6 : end])
        place = end
    else:
        raise Refused(f"a JPEG with more than {MAX_SEGMENTS:,} segments before its pixels")
    if counts["EXIF"] > 1:  # one can't have much
        check_directories(exif)
    return place


def _parsed_segment(kind: int, head: bytes) -> str:
    """Name a kind of segment that Pillow takes apart in Python; empty for the others."""
    if kind == 0xE1 and head == b"Exif\x00\x00":
        return "EXIF"
    if kind == 0xE2 and head.startswith(b"MPF\x00"):
        return "multi-picture"
    return "frame" if kind in _FRAMES else {0xED: "Photoshop", 0xDB: "quantization table"}.get(kind, "")


def _check_png(content: bytes) -> None:
    most = MAX_CHUNKS + len(content) // BYTES_PER_CHUNK
    place, compressed, unpacked, packed, pixels = 8, 0, 0, 0, 0
    for _ in range(most):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        start, place = place + 8, place + 12 + length
        if len(kind) < 4 or kind == b"IEND":
            return
        if kind == b"IHDR":
            pixels = max(pixels, _product(content[start : start + 8]))
        elif kind == b"fcTL":
            packed = 0  # of the next frame
        elif kind in _PACKED_PIXELS:
            packed += length
            _check_packed(packed, pixels * MOST_PNG_BYTES)
        elif kind in _COMPRESSED_CHUNKS or (kind == b"iTXt" and _is_compressed(content[start : start + MAX_KEYWORD])):
            compressed += length
            unpacked += min(PILLOW_UNPACKS, DEFLATE_RATIO * length)
            if compressed > MAX_COMPRESSED_BYTES or unpacked > MAX_UNPACKED_BYTES:
                raise Refused(f"a PNG with {compressed:,} bytes or more of compressed texts and color profiles")
        elif kind in _PLAIN_CHUNKS and length > MAX_METADATA_BYTES:
            raise Refused(f"a PNG with {length:,} bytes of {kind.decode()}, over the limit of {MAX_METADATA_BYTES:,}")
    raise Refused(f"a PNG with more than {most:,} chunks in {len(content):,} bytes")


def _is_compressed(text: bytes) -> bool:
    """Whether an iTXt chunk is compressed: a byte behind its keyword says so."""
    end = text.find(b"\0")
    return text[end + 1 : end + 2] != b"\0"


def _product(sides: bytes) -> int:
    return int.from_bytes(sides[:4], "big") * int.from_bytes(sides[4:], "big")


def _check_packed(packed: int, plain: int) -> None:
    """Check that packed pixels are not far more bytes than plain ones, of which a decoder would see nothing."""
    if packed > EMPTY_BLOCK_BYTES + plain:
        raise Refused(f"{packed:,} bytes of packed pixels, more than the {plain:,} that they can have unpacked")


def _check_webp(content: bytes) -> None:
    if content[8:12] != b"WEBP":
        return
    place = 12
    for _ in range(MAX_WEBP_CHUNKS):
        if place + 8 > len(content):
            return
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    raise Refused(f"a WebP with more than {MAX_WEBP_CHUNKS:,} chunks")


def _check_avif(content: bytes) -> None:
    if content[4:8] != b"ftyp":
        return
    places, boxes = [(0, len(content))], 0
    for start, end in places:  # grows by the boxes that hold others
        for kind, inner, after in _avif_boxes(content, start, end):
            boxes += 1
            if boxes > MAX_AVIF_BOXES:
                raise Refused(f"an AVIF with more than {MAX_AVIF_BOXES:,} boxes")
            if kind in _ITEM_TABLES and after - inner > MAX_ITEM_TABLE_BYTES:
                size = f"{after - inner:,} bytes of {kind.decode()}"
                raise Refused(f"an AVIF with {size}, over the limit of {MAX_ITEM_TABLE_BYTES:,}")
            if kind in _HOLDERS:
                places.append((inner + _HOLDERS[kind], after))
    for number, found in enumerate(_TIFF_HEAD.finditer(content)):
        if number == MAX_PARSED_SEGMENTS:
            raise Refused(f"an AVIF with EXIF data in more than {MAX_PARSED_SEGMENTS} places")
        check_directories(content[found.start() : found.start() + MAX_EXIF_BYTES])


def _avif_boxes(content: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box and where its content starts and ends."""
    while place + 8 <= end:
        size, head, kind = int.from_bytes(content[place : place + 4], "big"), 8, content[place + 4 : place + 8]
        if size == 1:  # a 64-bit size follows
            size, head = int.from_bytes(content[place + 8 : place + 16], "big"), 16
        elif size == 0:
            size = end - place
        if size < head or place + size > end:
            return  # damage
        yield kind, place + head, place + size
        place += size


def _gif_blocks(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield the place of each part of a GIF, with "frame", "comment" or "extension", and of its sub-blocks, with ""."""
    place = 13 + _color_table_bytes(content[10])
    while place < len(content):
        introducer, start = content[place], place
        if introducer == 0x2C and place + 10 < len(content):
            kind, place = "frame", place + 11 + _color_table_bytes(content[place + 9])
        elif introducer == 0x21:
            kind, place = "comment" if content[place + 1 : place + 2] == b"\xfe" else "extension", place + 2
        else:
            return  # the trailer, or damage
        yield kind, start
        while place < len(content) and (length := content[place]):
            place += 1 + length
            yield "", place
        place += 1


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_gif(content: bytes) -> None:
    if len(content) < 13:
        return
    pieces: Counter[str] = Counter()
    limits = {"comment": MAX_GIF_COMMENT_BLOCKS, "extension": MAX_GIF_BLOCKS, "frame": MAX_FRAME_BLOCKS}
    current, first, plain = "", 0, 0
    for kind, place in _gif_blocks(content):
        if first and kind:
            return
        if kind == "frame":
            width, height = content[place + 5 : place + 7], content[place + 7 : place + 9]
            plain = MOST_GIF_BYTES * int.from_bytes(width, "little") * int.from_bytes(height, "little")
            first = place
        if first:
            _check_packed(place - first, plain)
        current = kind or current
        pieces[current] += 1
        if pieces[current] > limits[current]:
            raise Refused(f"a GIF with more than {limits[current]:,} blocks of a {current}, up to its first frame")


def _count_gif_frames(content: bytes) -> int | None:
    frames = 0
    for steps, (kind, _) in enumerate(_gif_blocks(content)):
        frames += kind == "frame"
        if frames > MAX_COUNTED_FRAMES or steps > MAX_COUNTED_BLOCKS:
            return None
    return frames


def _check_ppm(content: bytes) -> None:
    if not _PPM_HEADER.match(content, 2, MAX_HEADER_BYTES) and len(content) > MAX_HEADER_BYTES:
        raise Refused(f"a PPM whose header is longer than {MAX_HEADER_BYTES:,} bytes")
    if content[1] in b"123" and content.count(b"#") > MAX_PPM_COMMENTS:  # plain text, with comments anywhere
        raise Refused(f"a PPM with more than {MAX_PPM_COMMENTS:,} comments")


_CHECKS: Mapping[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8\xff": _check_jpeg,
    b"\x89PNG\r\n\x1a\n": _check_png,
    b"RIFF": _check_webp,
    b"\x00\x00": _check_avif,  # the size of its first box
    b"GIF87a": _check_gif,
    b"GIF89a": _check_gif,
    **dict.fromkeys((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), check_tiff),
    **{b"P%c" % letter: _check_ppm for letter in b"0123456fFy"},
}
