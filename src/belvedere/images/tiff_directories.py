"""Bounds on the directories of TIFF files, which EXIF data are too: tags, values, strips and tiles.

Pillow takes directories apart in Python, value by value, and libtiff decodes whatever places they name, also the same
one again and again.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from belvedere.images.limits import EMPTY_BLOCK_BYTES, Refused

MAX_TAGS = 1000  # of a directory; camera files have less than 200
MAX_VALUES = 200_000  # of all tags but bytes and strips; a transfer function has 196,608
MAX_STRIPS = 65_536  # or tiles: an image of 100 million pixels has some thousand
MAX_TILE_PIXELS, TILES_PER_IMAGE = 4_000_000, 4  # of one tile: so many, or so many times those of the image
MAX_SCANS = 20  # of the JPEG in a strip or tile
EXPANSION = 2  # times the bytes of plain pixels that packed ones may have
OVERLAP = 2  # times the size of the file that all strips together, or all tags, may have

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_SUBDIRECTORIES = (0x8769, 0x8825, 0xA005)  # tags that hold the places of the EXIF, GPS and interoperability tags
_COMPRESSION, _PLAIN, _JPEG = 259, (1,), ((6,), (7,))
_STRIP_TAGS = ((273, 279), (324, 325))  # places and sizes, of strips and of tiles
_STRIPS, _STRIP_SIZES = {273, 279, 324, 325}, {279, 325}
_SIDES = (256, 257, 322, 323, 277, 258)  # of image and tile; samples and their bits
_FACTS = (*_SIDES, _COMPRESSION)


@dataclass(frozen=True, slots=True)
class _Tag:
    """An entry of a directory."""

    number: int
    kind: int  # of its values, as TIFF counts them
    values: int
    value: int  # or the place of the values
    place: int  # of the field that has the value

    @property
    def size(self) -> int:
        return self.values * _TYPE_BYTES.get(self.kind, 1)


@dataclass(frozen=True, slots=True)
class Directories:
    """The layout of the directories of a TIFF file or of EXIF data."""

    content: bytes
    first: int  # place of the first directory
    order: str  # of bytes, as `struct` spells it
    is_big: bool  # BigTIFF: 64-bit places

    @classmethod
    def open(cls, content: bytes) -> "Directories":
        """Read the head of a TIFF file or of EXIF data."""
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
        """Return how many tags a directory has; none where it is not in the file."""
        form = f"{self.order}{'Q' if self.is_big else 'H'}"
        if place + struct.calcsize(form) > len(self.content):
            return 0
        return int(struct.unpack_from(form, self.content, place)[0])

    def tags(self, place: int) -> Iterator[_Tag]:
        """Yield the tags of a directory."""
        start, step, form, inline = (8, 20, "HHQQ", 12) if self.is_big else (2, 12, "HHII", 8)
        for number in range(self.count(place)):
            at = place + start + step * number
            if at + step > len(self.content):
                return
            tag, kind, values, value = struct.unpack_from(f"{self.order}{form}", self.content, at)
            yield _Tag(tag, kind, values, value, at + inline)

    def numbers(self, tag: _Tag) -> tuple[int, ...]:
        """Return the values of a tag of integers; none where it has others, or they are not in the file."""
        place = tag.place if tag.size <= (8 if self.is_big else 4) else tag.value
        if tag.kind not in _INTEGERS or place + tag.size > len(self.content):
            return ()
        return struct.unpack_from(f"{self.order}{tag.values}{_INTEGERS[tag.kind]}", self.content, place)


def check_directories(content: bytes) -> None:
    """Check the first directory and those that it holds.

    Args:
        content: A TIFF file, or EXIF data without its head.

    Raises:
        Refused: They have more tags or values than a camera writes, or values that lie over each other.
    """
    layout = Directories.open(content)
    first = _check_tags(layout, layout.first)
    inner = {tag.number: tag.value for tag in first if tag.number in _SUBDIRECTORIES}  # Pillow follows one of each
    tags = [*first, *(tag for place in inner.values() for tag in _check_tags(layout, place))]
    found = [tag for tag in tags if tag.value + tag.size <= len(content)]  # decoders pass over the others
    size = sum(tag.size for tag in found)
    values = sum(tag.values for tag in found if tag.size > tag.values and tag.number not in _STRIPS)
    if values > MAX_VALUES:
        raise Refused(f"tags with {values:,} values, over the limit of {MAX_VALUES:,}")
    if size > OVERLAP * len(content):
        raise Refused(f"tags of {size:,} bytes in {len(content):,} bytes: they lie over each other")


def check_tiff(content: bytes) -> None:
    """Check a TIFF file: its directories, and the strips or tiles of its first page.

    Raises:
        Refused: As `check_directories`; or there are far more strips, or bytes in them, than the page has pixels.
    """
    check_directories(content)
    layout = Directories.open(content)
    _check_strips(layout, {tag.number: tag for tag in layout.tags(layout.first)})


def _check_tags(layout: Directories, place: int) -> list[_Tag]:
    tags = list(islice(layout.tags(place), MAX_TAGS + 1))  # those that are there, whatever their number claims
    if len(tags) > MAX_TAGS:
        raise Refused(f"a directory with {layout.count(place):,} tags, over the limit of {MAX_TAGS:,}")
    return tags


def _check_strips(layout: Directories, tags: Mapping[int, _Tag]) -> None:
    content = layout.content
    strips = max((tags[number].values for number in _STRIPS if number in tags), default=1)
    if strips > MAX_STRIPS:
        raise Refused(f"{strips:,} strips or tiles, over the limit of {MAX_STRIPS:,}")
    facts = {number: layout.numbers(tags[number]) for number in (*_FACTS, *_STRIPS) if number in tags}
    width, length, tile_width, tile_length, samples, bits = (max(facts.get(tag, ()), default=1) for tag in _SIDES)
    if tile_width * tile_length > max(MAX_TILE_PIXELS, TILES_PER_IMAGE * width * length):
        raise Refused(f"a tile of {tile_width:,} x {tile_length:,} pixels, far more than the image has")
    compression = facts.get(_COMPRESSION, _PLAIN)
    if compression == _PLAIN:
        return  # read by the pixels, whatever sizes the strips claim
    ranges = [
        (start, start + size)
        for starts, sizes in _STRIP_TAGS
        for start, size in zip(facts.get(starts, ()), facts.get(sizes, ()), strict=False)
    ] or [(0, len(content))]
    size = sum(end - start for start, end in ranges)
    if size > OVERLAP * len(content):
        raise Refused(f"strips of {size:,} bytes in {len(content):,} bytes: they lie over each other")
    plain = max(width, tile_width) * max(length, tile_length) * samples * max(1, bits // 8)
    if facts.keys() & _STRIP_SIZES and size > EXPANSION * plain + EMPTY_BLOCK_BYTES:
        raise Refused(f"{size:,} bytes of packed pixels, more than the {plain:,} that they can have unpacked")
    scans = sum(content.count(b"\xff\xda", *each) for each in ranges) if compression in _JPEG else 0
    if scans > MAX_SCANS * (strips + 1):
        raise Refused(f"{scans:,} scans of JPEG in {strips:,} strips or tiles: a photograph has about ten")
