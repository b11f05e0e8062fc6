"""Bounds on the structure of image files, checked before a decoder sees them.

A decoder takes its time not for pixels alone: segments, chunks, frames, directories and comments cost it much more than
they take of a file, some of them the square of their number. Each walk here goes from head to head and ends at its
bound, so that no file takes long.
"""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from belvedere.bounds import Refused

SMALL_BYTES = 65_536  # of a file; one with less costs a decoder a tenth of a second at most, whatever is in it
MAX_SEGMENTS = 2000  # of a JPEG before its pixels; color profiles and long XMP take some hundred
MAX_PARSED_SEGMENTS = 64  # of each kind that Pillow takes apart in Python: EXIF, Photoshop, quantization tables, frames
MAX_FILL_BYTES = 1000  # between two segments of a JPEG
LARGE_JPEG_BYTES = 20_000_000
MAX_CHUNKS, BYTES_PER_CHUNK = 5000, 4096  # of a PNG, and one more for so many bytes: libpng writes 8192 into each
MAX_WEBP_CHUNKS = 100_000  # two or three for each frame of an animation
MAX_AVIF_BOXES = 10_000  # of the outermost; about four are usual
MAX_GIF_COMMENT_BLOCKS = 2000  # of 255 bytes each; Pillow's time grows with the square
MAX_GIF_BLOCKS = 20_000  # before the first frame, such as XMP
MAX_HEADER_BYTES = 65_536  # of a PPM, comments included
MAX_PPM_COMMENTS = 1000  # in plain text; each costs Pillow a copy of what follows
MAX_TAGS = 1000  # of a TIFF or EXIF directory; camera files have less than 200
MAX_VALUES = 65_536  # of a tag, unless they are bytes, such as the places of strips
MAX_COUNTED_FRAMES = 1000  # of a GIF or TIFF; more are not counted
MAX_COUNTED_BLOCKS = 100_000  # of a GIF, on the way to the next frames

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUBDIRECTORIES = (0x8769, 0x8825, 0xA005)  # tags that hold the places of the EXIF, GPS and interoperability tags
_PPM_HEADER = re.compile(rb"(?:(?:#[^\r\n]*[\r\n]|\s)+[^\s#]+){2,3}(?:#[^\r\n]*[\r\n])?\s")


def check_container(content: bytes) -> None:
    """Check the structure of a file that may be an image.

    Args:
        content: The whole file.

    Raises:
        Refused: It has too much of something that is slow to read; the reason says of what.
    """
    if len(content) < SMALL_BYTES:
        return
    for signature, check in _CHECKS.items():
        if content.startswith(signature):
            check(content)


def count_frames(content: bytes) -> int | None:
    """Count the frames of a GIF or the pages of a TIFF.

    Returns:
        Their number; None where there are more than `MAX_COUNTED_FRAMES`, or the file is too long to be counted.
    """
    if content.startswith((b"GIF87a", b"GIF89a")):
        return _count_gif_frames(content)
    pages = 0
    for _ in _Directories.open(content).chain():
        pages += 1
        if pages > MAX_COUNTED_FRAMES:
            return None
    return pages


def check_fill_bytes(content: bytes) -> None:
    """Check that the pixels of a JPEG hold no long run of fill bytes, over which Pillow goes again and again.

    Raises:
        Refused: They do.
    """
    if content.find(b"\xff" * (MAX_FILL_BYTES + 1), 0, content.rfind(b"\xff\xd9")) >= 0:  # behind the end are any
        raise Refused(f"a JPEG with more than {MAX_FILL_BYTES:,} fill bytes in a row")


def check_exif(content: bytes) -> None:
    """Check the directories of EXIF data, as they stand in any kind of file.

    Raises:
        Refused: They have more tags or values than a camera writes.
    """
    _check_directories(content.removeprefix(b"Exif\x00\x00"))


def _check_jpeg(content: bytes) -> None:
    if len(content) > LARGE_JPEG_BYTES:  # else the fast decoder is through before this search would be
        check_fill_bytes(content)
    counts: Counter[str] = Counter()
    place = 2
    for _ in range(MAX_SEGMENTS):
        marker = content.find(b"\xff", place, place + MAX_FILL_BYTES)
        if marker < 0:
            return  # not a JPEG that goes on: the decoder says so
        place = marker
        while content[place : place + 1] == b"\xff":
            place += 1
            if place - marker > MAX_FILL_BYTES:
                raise Refused(f"a JPEG with more than {MAX_FILL_BYTES:,} fill bytes between two segments")
        kind = content[place] if place < len(content) else 0xD9
        place += 1
        if kind in (0xDA, 0xD9):
            return
        if kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            continue  # markers without a length
        if name := _parsed_segment(kind, content[place + 2 : place + 8]):
            counts[name] += 1
            if counts[name] > MAX_PARSED_SEGMENTS:
                raise Refused(f"a JPEG with more than {MAX_PARSED_SEGMENTS} {name} segments")
        place += max(2, int.from_bytes(content[place : place + 2], "big"))
    raise Refused(f"a JPEG with more than {MAX_SEGMENTS:,} segments before its pixels")


def _parsed_segment(kind: int, head: bytes) -> str:
    """Name a kind of segment that Pillow takes apart in Python; empty for the others."""
    if kind == 0xE1 and head == b"Exif\x00\x00":
        return "EXIF"
    if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
        return "frame"
    return {0xED: "Photoshop", 0xDB: "quantization table"}.get(kind, "")


def _check_png(content: bytes) -> None:
    most = MAX_CHUNKS + len(content) // BYTES_PER_CHUNK
    place = 8
    for _ in range(most):
        if place + 8 > len(content) or content[place + 4 : place + 8] == b"IEND":
            return
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    raise Refused(f"a PNG with more than {most:,} chunks in {len(content):,} bytes")


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
    place = 0
    for _ in range(MAX_AVIF_BOXES):
        size = int.from_bytes(content[place : place + 4], "big")
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        if size < 8 or place + size >= len(content):
            return  # the last one, or damage
        place += size
    raise Refused(f"an AVIF with more than {MAX_AVIF_BOXES:,} boxes")


def _gif_blocks(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield the parts of a GIF: "frame", "comment" and "extension", each with its number of sub-blocks so far."""
    place = 13 + _color_table_bytes(content[10])
    while place < len(content):
        introducer = content[place]
        if introducer == 0x2C and place + 10 < len(content):
            kind, place = "frame", place + 11 + _color_table_bytes(content[place + 9])
        elif introducer == 0x21:
            kind, place = "comment" if content[place + 1 : place + 2] == b"\xfe" else "extension", place + 2
        else:
            return  # the trailer, or damage
        yield kind, 0
        blocks = 0
        while place < len(content) and (length := content[place]):
            place += 1 + length
            blocks += 1
            yield kind, blocks
        place += 1


def _color_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_gif(content: bytes) -> None:
    if len(content) < 13:
        return
    seen: Counter[str] = Counter()
    limits = {"comment": MAX_GIF_COMMENT_BLOCKS, "extension": MAX_GIF_BLOCKS}
    for kind, _ in _gif_blocks(content):
        if kind == "frame":
            return
        seen[kind] += 1
        if seen[kind] > limits[kind]:
            raise Refused(f"a GIF with more than {limits[kind]:,} blocks of {kind}s before its first frame")


def _count_gif_frames(content: bytes) -> int | None:
    frames = 0
    for steps, (kind, blocks) in enumerate(_gif_blocks(content)):
        frames += kind == "frame" and blocks == 0
        if frames > MAX_COUNTED_FRAMES or steps > MAX_COUNTED_BLOCKS:
            return None
    return frames


def _check_ppm(content: bytes) -> None:
    if not _PPM_HEADER.match(content, 2, MAX_HEADER_BYTES) and len(content) > MAX_HEADER_BYTES:
        raise Refused(f"a PPM whose header is longer than {MAX_HEADER_BYTES:,} bytes")
    if content[1] <= ord("3") and content.count(b"#") > MAX_PPM_COMMENTS:  # plain text, with comments anywhere
        raise Refused(f"a PPM with more than {MAX_PPM_COMMENTS:,} comments")


@dataclass(frozen=True, slots=True)
class _Directories:
    """The layout of the directories of a TIFF file or of EXIF data."""

    content: bytes
    first: int  # place of the first directory
    order: str  # of bytes, as `struct` spells it
    is_big: bool  # BigTIFF: 64-bit places

    @classmethod
    def open(cls, content: bytes) -> "_Directories":
        order = ">" if content.startswith(b"MM") else "<"
        is_big = content[2:4] in (b"\x2b\x00", b"\x00\x2b")
        head, form = (content[8:16], f"{order}Q") if is_big else (content[4:8], f"{order}I")
        first = struct.unpack(form, head)[0] if len(head) == struct.calcsize(form) else len(content)
        return cls(content, first, order, is_big)

    def chain(self) -> Iterator[int]:
        """Yield the place of each directory, in order; a circle ends at its second round."""
        place, seen = self.first, set[int]()
        size, entry, form = (8, 20, f"{self.order}Q") if self.is_big else (2, 12, f"{self.order}I")
        while place and place not in seen and place + size <= len(self.content):
            seen.add(place)
            yield place
            after = place + size + entry * self.count(place)
            pointer = self.content[after : after + struct.calcsize(form)]
            place = struct.unpack(form, pointer)[0] if len(pointer) == struct.calcsize(form) else 0

    def count(self, place: int) -> int:
        """Return how many tags a directory has."""
        return int(struct.unpack_from(f"{self.order}{'Q' if self.is_big else 'H'}", self.content, place)[0])

    def tags(self, place: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield tag, type, number of values, and the value or its place."""
        start, step, form = (8, 20, "HHQQ") if self.is_big else (2, 12, "HHII")
        for number in range(self.count(place)):
            at = place + start + step * number
            if at + step > len(self.content):
                return
            yield struct.unpack_from(f"{self.order}{form}", self.content, at)


def _check_directories(content: bytes) -> None:
    layout = _Directories.open(content)
    places = [layout.first]
    for number, place in enumerate(places):  # grows: those of the first are followed, as Pillow does
        if place + 8 > len(content):
            continue
        if layout.count(place) > MAX_TAGS:
            raise Refused(f"a directory with {layout.count(place):,} tags, over the limit of {MAX_TAGS:,}")
        size = 0
        for tag, kind, values, value in layout.tags(place):
            if _TYPE_BYTES.get(kind, 1) > 1 and values > MAX_VALUES:
                raise Refused(f"a tag with {values:,} values, over the limit of {MAX_VALUES:,}")
            size += values * _TYPE_BYTES.get(kind, 1) if value + values <= len(content) else 0
            if number == 0 and tag in _SUBDIRECTORIES:
                places.append(value)
        if size > 2 * len(content):
            raise Refused(f"tags of {size:,} bytes in a file of {len(content):,} bytes: they lie over each other")


_CHECKS: Mapping[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8\xff": _check_jpeg,
    b"\x89PNG\r\n\x1a\n": _check_png,
    b"RIFF": _check_webp,
    b"\x00\x00": _check_avif,  # the size of its first box
    b"GIF87a": _check_gif,
    b"GIF89a": _check_gif,
    b"II*\x00": _check_directories,
    b"MM\x00*": _check_directories,
    b"II+\x00": _check_directories,
    b"MM\x00+": _check_directories,
    **{b"P%d" % number: _check_ppm for number in range(1, 7)},
}
