"""Kinds of small HEIF files that keep a decoder busy; none without pillow-heif."""

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec

from PIL import Image

from slow_kinds import fill, kind
from slow_tables import box, boxes

Item = tuple[bytes, int, int, int]  # type, start and size of its data, width (0: no image)
TILE, LARGE = 64, 8192


@cache
def hevc(width: int) -> tuple[bytes, bytes]:
    """Return the configuration and the data of a square HEVC image of one color."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (width, width), "green")).save(file, quality=30)
    parts = dict(boxes(file.getvalue(), 0))
    properties = dict(boxes(dict(boxes(dict(boxes(parts[b"meta"], 4))[b"iprp"], 0))[b"ipco"], 0))
    return properties[b"hvcC"], parts[b"mdat"]


def full_box(name: bytes, content: bytes, version: int = 0) -> bytes:
    """Return a box with a version."""
    return box(name, bytes((version, 0, 0, 0)) + content)


def heif(
    configuration: bytes, data: bytes, items: Sequence[Item], references: Iterable[tuple[bytes, int, list[int]]] = ()
) -> bytes:
    """Return a HEIF file of items, numbered from 1, of which the first image is the primary one."""
    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    widths = sorted({width for *_, width in items if width})
    sizes = b"".join(full_box(b"ispe", struct.pack(">II", width, width)) for width in widths)
    numbered = list(enumerate(items, 1))
    primary = next(number for number, (*_, width) in numbered if width)
    owned = [(number, each) for number, each in numbered if each[3]]
    owners = b"".join(
        struct.pack(">HBBB", number, 2, 1 + widths.index(width), 0x80 | (1 + len(widths)))
        if name == b"hvc1"
        else struct.pack(">HBB", number, 1, 1 + widths.index(width))
        for number, (name, _, _, width) in owned
    )
    properties = box(b"ipco", sizes + box(b"hvcC", configuration))
    properties += full_box(b"ipma", struct.pack(">I", len(owned)) + owners)
    names = b"".join(full_box(b"infe", struct.pack(">HH", number, 0) + each[0] + b"\0", 2) for number, each in numbered)
    links = b"".join(box(name, struct.pack(f">HH{len(to)}H", start, len(to), *to)) for name, start, to in references)

    def meta(base: int) -> bytes:
        places = b"".join(struct.pack(">HHHII", number, 0, 1, base + each[1], each[2]) for number, each in numbered)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", primary))
            + full_box(b"iloc", b"\x44\0" + struct.pack(">H", len(items)) + places)
            + full_box(b"iinf", struct.pack(">H", len(items)) + names)
            + box(b"iprp", properties)
            + full_box(b"iref", links),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", data)


def heif_kind(name: str) -> Callable[[Callable[[int], bytes]], Callable[[int], bytes]]:
    """Register a maker if HEIF can be written."""
    return kind(f"heif: {name}") if find_spec("pillow_heif") else lambda maker: maker


@heif_kind("a size that is not true")
def _untrue_size(_: int) -> bytes:
    configuration, data = hevc(LARGE)
    return heif(configuration, data, [(b"hvc1", 0, len(data), TILE)])


@heif_kind("tiles larger than they say")
def _untrue_tiles(_: int) -> bytes:
    configuration, data = hevc(LARGE)
    grid = struct.pack(">BBBBHH", 0, 0, 29, 29, 30 * TILE, 30 * TILE)
    items = [(b"grid", len(data), len(grid), 30 * TILE), *[(b"hvc1", 0, len(data), TILE)] * 900]
    return heif(configuration, data + grid, items, [(b"dimg", 1, list(range(2, 902)))])


@heif_kind("small tiles")
def _small_tiles(_: int) -> bytes:
    configuration, data = hevc(TILE)
    grid = struct.pack(">BBBBHH", 0, 0, 29, 29, 30 * TILE, 30 * TILE)
    items = [(b"grid", len(data), len(grid), 30 * TILE), *[(b"hvc1", 0, len(data), TILE)] * 900]
    return heif(configuration, data + grid, items, [(b"dimg", 1, list(range(2, 902)))])


@heif_kind("images over each other")
def _overlays(_: int) -> bytes:
    configuration, data = hevc(LARGE // 2)
    overlay = struct.pack(">BB8sHH", 0, 0, bytes(8), LARGE // 2, LARGE // 2) + bytes(4 * 200)
    items = [(b"iovl", len(data), len(overlay), LARGE // 2), *[(b"hvc1", 0, len(data), LARGE // 2)] * 200]
    return heif(configuration, data + overlay, items, [(b"dimg", 1, list(range(2, 202)))])


@heif_kind("images derived from each other")
def _derived(_: int) -> bytes:
    configuration, data = hevc(LARGE // 2)
    items = [*[(b"iden", 0, 0, LARGE // 2)] * 300, (b"hvc1", 0, len(data), LARGE // 2)]
    return heif(configuration, data, items, [(b"dimg", number, [number + 1]) for number in range(1, 301)])


@heif_kind("frames in one image")
def _frames(size: int) -> bytes:
    configuration, data = hevc(1024)
    data = fill(data, size)
    return heif(configuration, data, [(b"hvc1", 0, len(data), 1024)])


@heif_kind("EXIF shared by many images")
def _shared_exif(size: int) -> bytes:
    configuration, data = hevc(TILE)
    exif = b"\0\0\0\0MM\0*\0\0\0\x08\0\0" + bytes(size)
    items = [(b"Exif", len(data), len(exif), 0), *[(b"hvc1", 0, len(data), TILE)] * 400]
    return heif(configuration, data + exif, items, [(b"cdsc", 1, list(range(2, 402)))])


@heif_kind("long XMP")
def _long_xmp(size: int) -> bytes:
    configuration, data = hevc(TILE)
    xmp = fill(b'tiff:Orientation="', size)
    items = [(b"mime", len(data), len(xmp), 0), (b"hvc1", 0, len(data), TILE)]
    return heif(configuration, data + xmp, items, [(b"cdsc", 1, [2])])
