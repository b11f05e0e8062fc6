"""Writes TIFF files of any layout, from the values of their samples."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Order = Literal["<", ">"]
ORDERS: tuple[Order, ...] = ("<", ">")
Values = NDArray[np.generic]  # (H, W, samples)
BITS, COMPRESSION, PHOTOMETRIC, PLANES, FORMAT, EXTRA = 258, 259, 262, 284, 339, 338
PACK: dict[int, Callable[[bytes], bytes | bytearray]] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32773: imagecodecs.packbits_encode,
    32946: zlib.compress,
    34925: imagecodecs.lzma_encode,
    50000: imagecodecs.zstd_encode,
}
_LETTERS = {3: "H", 4: "I", 7: "B", 16: "Q"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the values are stored."""

    photometric: int = 1
    bits: int = 8
    planes: int = 1  # 2: separate
    sample_format: int = 1
    compression: int = 1
    extra: tuple[int, ...] = ()
    order: Order = "<"
    is_big: bool = False
    predictor: int = 1
    fill_order: int = 1
    tile: int = 0  # width and height of a tile; 0: strips
    rows: int = 5  # of a strip
    tags: tuple[tuple[int, int, tuple[int, ...]], ...] = ()  # further ones: number, type, values


def write_tiff(values: Values, layout: Layout) -> bytes:
    """Return the bytes of a file."""
    height, width, samples = values.shape
    tall, wide = (layout.tile, layout.tile) if layout.tile else (layout.rows, width)
    planes = [values] if layout.planes == 1 else [values[:, :, k : k + 1] for k in range(samples)]
    blocks = [
        _block(plane[top : top + tall, left : left + wide], tall, wide, layout)
        for plane in planes
        for top in range(0, height, tall)
        for left in range(0, width, wide)
    ]
    sizes = tuple(map(len, blocks))
    head = 16 if layout.is_big else 8
    starts = tuple(head + sum(sizes[:k]) for k in range(len(sizes)))
    position, size = (324, 325) if layout.tile else (273, 279)
    kind = 16 if layout.is_big else 4
    tags: list[tuple[int, int, Sequence[int]]] = [
        (256, 4, (width,)),
        (257, 4, (height,)),
        (BITS, 3, (layout.bits,) * samples),
        (COMPRESSION, 3, (layout.compression,)),
        (PHOTOMETRIC, 3, (layout.photometric,)),
        (position, kind, starts),
        (277, 3, (samples,)),
        (size, kind, sizes),
        (PLANES, 3, (layout.planes,)),
        (FORMAT, 3, (layout.sample_format,) * samples),
        *([(322, 4, (wide,)), (323, 4, (tall,))] if layout.tile else [(278, 4, (tall,))]),
        *([(EXTRA, 3, layout.extra)] if layout.extra else []),
        *([(317, 3, (layout.predictor,))] if layout.predictor > 1 else []),
        *([(266, 3, (layout.fill_order,))] if layout.fill_order > 1 else []),
        *layout.tags,
    ]
    return write_directory(b"".join(blocks), sorted(tags), layout)


def _block(values: Values, tall: int, wide: int, layout: Layout) -> bytes:
    """Return the packed bytes of a strip or tile."""
    if layout.tile:
        rows, columns = tall - values.shape[0], wide - values.shape[1]
        values = np.pad(values, ((0, rows), (0, columns), (0, 0)))
    if layout.predictor == 2:
        values = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1]))
    if layout.bits >= 8 and layout.bits != 12:
        raw = values.astype(values.dtype.newbyteorder(layout.order)).tobytes()
    else:
        shifts = np.arange(layout.bits)[::-1].astype(np.uint16)
        bits = (values.astype(np.uint16)[..., None] >> shifts & 1).reshape(len(values), -1)
        raw = np.packbits(bits.astype(np.uint8), axis=1).tobytes()
    packed = bytes(PACK[layout.compression](raw))
    return bytes(imagecodecs.bitorder_encode(packed)) if layout.fill_order == 2 else packed


def write_directory(pixels: bytes, tags: Sequence[tuple[int, int, Sequence[int]]], layout: Layout) -> bytes:
    """Return the bytes of a file from its tags: number, type and values, in ascending order."""
    order = layout.order
    entry, long, room = (f"{order}HHQ", f"{order}Q", 8) if layout.is_big else (f"{order}HHI", f"{order}I", 4)
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(f"{order}HHH", 43, 8, 0) if layout.is_big else struct.pack(f"{order}H", 42))
    first = len(head) + room + len(pixels)
    after = first + (8 if layout.is_big else 2) + (20 if layout.is_big else 12) * len(tags) + room
    entries = outside = b""
    for number, kind, values in tags:
        raw = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
        if len(raw) > room:
            raw, outside = struct.pack(long, after + len(outside)), outside + raw
        entries += struct.pack(entry, number, kind, len(values)) + raw.ljust(room, b"\0")
    count = struct.pack(f"{order}{'Q' if layout.is_big else 'H'}", len(tags))
    return head + struct.pack(long, first) + pixels + count + entries + bytes(room) + outside
