"""Rejects TIFF files and EXIF data with too many tags, values, strips or tiles.

Pillow parses directories in Python, value by value, and libtiff decodes any position they name, even repeatedly.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from belvedere.images.limits import EMPTY_BLOCK_BYTES, ImageRejectedError

TIFF_MARKS = (
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"II\x00*",
    b"MM*\x00",
)  # Pillow reads the invalid last two
MAX_TAGS = 1000  # per directory; camera files have less than 200
MAX_VALUES = 200_000  # of all tags except bytes and strips; a transfer function has 196,608
MAX_STRIPS = 65_536  # or tiles: an image of 100 million pixels has some thousand
MAX_TILE_PIXELS, TILES_PER_IMAGE = 4_000_000, 4  # per tile; or this multiple of the pixels of the image
MAX_SCANS = 20  # per strip or tile with JPEG compression
EXPANSION = 2  # largest ratio of packed to plain bytes
OVERLAP = 2  # largest ratio of all strips, or all tags, to the size of the file

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_SUBDIRECTORIES = (0x8769, 0x8825, 0xA005)  # EXIF, GPS and interoperability
_COMPRESSION, _PLAIN, _JPEG = 259, (1,), ((6,), (7,))
_STRIP_TAGS = ((273, 279), (324, 325))  # positions and sizes; of strips, of tiles
_STRIPS, _STRIP_SIZES = {273, 279, 324, 325}, {279, 325}
_SIZES = (256, 257, 322, 323, 277, 258)  # of image and tile; samples and bits per sample
_READ_TAGS = (*_SIZES, _COMPRESSION)


@dataclass(frozen=True, slots=True)
class _Tag:
    """An entry of a directory."""

    number: int
    kind: int  # type of its values, by TIFF number
    values: int
    value: int  # or the position of several values
    position: int  # of the value field

    @property
    def size(self) -> int:
        return self.values * _TYPE_BYTES.get(self.kind, 1)


@dataclass(frozen=True, slots=True)
class Directories:
    """The directories of a TIFF file or of EXIF data."""

    content: bytes
    first: int  # position of the first directory
    order: str  # byte order, for `struct`
    is_big: bool  # BigTIFF: 64-bit positions

    @classmethod
    def open(cls, content: bytes) -> "Directories":
        """Read the header."""
        order = ">" if content.startswith(b"MM") else "<"
        is_big = content[2:4] in (b"\x2b\x00", b"\x00\x2b")
        head, form = (content[8:16], f"{order}Q") if is_big else (content[4:8], f"{order}I")
        first = struct.unpack(form, head)[0] if len(head) == struct.calcsize(form) else len(content)
        return cls(content, first, order, is_big)

    def chain(self) -> Iterator[int]:
        """Yield the position of each directory, in order; a circular chain ends before it repeats."""
        position, seen = self.first, set[int]()
        size, entry, form = (8, 20, f"{self.order}Q") if self.is_big else (2, 12, f"{self.order}I")
        while position and position not in seen and position + size <= len(self.content):
            seen.add(position)
            yield position
            after = position + size + entry * self.count(position)
            pointer = self.content[after : after + struct.calcsize(form)]
            position = struct.unpack(form, pointer)[0] if len(pointer) == struct.calcsize(form) else 0

    @property
    def is_cut(self) -> bool:
        """Whether the file ends before its first directory does."""
        size, entry = (8, 20) if self.is_big else (2, 12)
        return self.first + size + entry * max(1, self.count(self.first)) > len(self.content)

    def is_outside(self, tag: _Tag) -> bool:
        """Return whether the file ends before the values of a tag do."""
        return tag.size > (8 if self.is_big else 4) and tag.value + tag.size > len(self.content)

    def count(self, position: int) -> int:
        """Return the number of tags of a directory; 0 if it is outside the file."""
        form = f"{self.order}{'Q' if self.is_big else 'H'}"
        if position + struct.calcsize(form) > len(self.content):
            return 0
        return int(struct.unpack_from(form, self.content, position)[0])

    def tags(self, position: int) -> Iterator[_Tag]:
        """Yield the tags of a directory."""
        start, step, form, inline = (8, 20, "HHQQ", 12) if self.is_big else (2, 12, "HHII", 8)
        for number in range(self.count(position)):
            at = position + start + step * number
            if at + step > len(self.content):
                return
            tag, kind, values, value = struct.unpack_from(f"{self.order}{form}", self.content, at)
            yield _Tag(tag, kind, values, value, at + inline)

    def numbers(self, tag: _Tag) -> tuple[int, ...]:
        """Return the values of a tag of integers; none if it has another type, or lies outside the file."""
        position = tag.position if tag.size <= (8 if self.is_big else 4) else tag.value
        if tag.kind not in _INTEGERS or position + tag.size > len(self.content):
            return ()
        return struct.unpack_from(f"{self.order}{tag.values}{_INTEGERS[tag.kind]}", self.content, position)


def check_directories(content: bytes) -> None:
    """Check the first directory and its subdirectories, of a TIFF file or of EXIF data without its header.

    Raises:
        ImageRejectedError: They have more tags or values than a camera writes, or overlapping values.
    """
    layout = Directories.open(content)
    first = _check_tags(layout, layout.first)
    inner = {tag.number: tag.value for tag in first if tag.number in _SUBDIRECTORIES}  # Pillow follows one of each
    tags = [*first, *(tag for position in inner.values() for tag in _check_tags(layout, position))]
    found = [tag for tag in tags if tag.value + tag.size <= len(content)]  # decoders skip the others
    size = sum(tag.size for tag in found)
    values = sum(tag.values for tag in found if tag.size > tag.values and tag.number not in _STRIPS)
    if values > MAX_VALUES:
        raise ImageRejectedError(f"tags with {values:,} values, over the limit of {MAX_VALUES:,}")
    if size > OVERLAP * len(content):
        raise ImageRejectedError(f"tags of {size:,} bytes in {len(content):,} bytes (overlapping)")


def check_tiff(content: bytes) -> None:
    """Check the directories of a TIFF file, and the strips or tiles of its first page.

    Raises:
        ImageRejectedError: As `check_directories`; or the strips are far too many or too large for the pixels.
    """
    check_directories(content)
    layout = Directories.open(content)
    _check_strips(layout, {tag.number: tag for tag in layout.tags(layout.first)})


def _check_tags(layout: Directories, position: int) -> list[_Tag]:
    tags = list(islice(layout.tags(position), MAX_TAGS + 1))  # the stated number may be too high
    if len(tags) > MAX_TAGS:
        raise ImageRejectedError(f"a directory with {layout.count(position):,} tags, over the limit of {MAX_TAGS:,}")
    return tags


def _check_strips(layout: Directories, tags: Mapping[int, _Tag]) -> None:
    content = layout.content
    strips = max((tags[number].values for number in _STRIPS if number in tags), default=1)
    if strips > MAX_STRIPS:
        raise ImageRejectedError(f"{strips:,} strips or tiles, over the limit of {MAX_STRIPS:,}")
    values_of = {number: layout.numbers(tags[number]) for number in (*_READ_TAGS, *_STRIPS) if number in tags}
    width, length, tile_width, tile_length, samples, bits = (max(values_of.get(tag, ()), default=1) for tag in _SIZES)
    if tile_width * tile_length > max(MAX_TILE_PIXELS, TILES_PER_IMAGE * width * length):
        raise ImageRejectedError(f"a tile of {tile_width:,} x {tile_length:,} pixels, far more than the image has")
    compression = values_of.get(_COMPRESSION, _PLAIN)
    if compression == _PLAIN:
        return  # read by the number of pixels, whatever the stated sizes
    ranges = [
        (start, start + size)
        for starts, sizes in _STRIP_TAGS
        for start, size in zip(values_of.get(starts, ()), values_of.get(sizes, ()), strict=False)
    ] or [(0, len(content))]
    size = sum(end - start for start, end in ranges)
    if size > OVERLAP * len(content):
        raise ImageRejectedError(f"strips of {size:,} bytes in {len(content):,} bytes (overlapping)")
    plain = max(width, tile_width) * max(length, tile_length) * samples * max(1, bits // 8)
    if values_of.keys() & _STRIP_SIZES and size > EXPANSION * plain + EMPTY_BLOCK_BYTES:
        raise ImageRejectedError(f"{size:,} bytes of packed pixels, more than the {plain:,} of all pixels unpacked")
    scans = sum(content.count(b"\xff\xda", *each) for each in ranges) if compression in _JPEG else 0
    if scans > MAX_SCANS * (strips + 1):
        raise ImageRejectedError(f"{scans:,} scans of JPEG in {strips:,} strips or tiles")
