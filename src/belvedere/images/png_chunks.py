"""Leaves out the chunks of a PNG that do not matter for its first image, and checks those that do.

Pillow refuses a whole file for a wrong checksum in a text, or for a long compressed text or color profile.
"""

import zlib
from collections.abc import Iterator

from belvedere.images.formats import CONVERT, COPY_AGAIN
from belvedere.images.limits import ImageRejectedError

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_METADATA_BYTES = 20_000_000  # unpacked, of all chunks that may hold an orientation
MAX_ORIENTATIONS = 8  # chunks that may hold one; there is one in a file, or two
WRONG_CHECKSUM = "damaged PNG data: wrong checksum"

_COLORS = {b"IHDR": "header", b"PLTE": "palette", b"tRNS": "transparency"}  # chunks before the pixels that are needed
_NEEDED = frozenset((*_COLORS, b"IDAT", b"IEND"))
_FRAMES = frozenset((b"acTL", b"fcTL", b"fdAT"))  # of an animation
_PALETTE_TYPE, _PALETTE_BYTES = 3, 3  # color type of a palette image; bytes per color
_XMP, _EXIF = b"XML:com.adobe.xmp\x00", b"Raw profile type exif\x00"
_KEYWORDS = {b"iTXt": _XMP, b"tEXt": _EXIF, b"zTXt": _EXIF, b"eXIf": b""}  # of chunks that may hold an orientation


def keep_pixels(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a PNG with the chunks of its first image and its orientation only, texts unpacked; and warnings.

    Raises:
        ImageRejectedError: A chunk of the first image is missing, damaged or unknown.
    """
    view, kept, warnings, found = memoryview(content), [memoryview(PNG_HEAD)], list[str](), dict[bytes, memoryview]()
    budget, attempts = MAX_METADATA_BYTES, 0
    for kind, start, end in _find_chunks(content):
        body, is_cut = view[start + 8 : end - 4], end > len(content)
        is_right = is_cut or zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        if kind in _NEEDED:
            if kind in _COLORS and b"IDAT" in found:
                continue  # too late to matter
            if kind in _COLORS and (is_cut or not is_right):
                problem = "truncated" if is_cut else "wrong checksum"
                raise ImageRejectedError(f"damaged: {problem} in the {_COLORS[kind]} ({kind.decode()}): {COPY_AGAIN}")
            if kind == b"IDAT" and not is_right:
                warnings.append(WRONG_CHECKSUM)
            found.setdefault(kind, body)
            kept.append(view[start:end])
        elif kind[:1].isupper() and b"IDAT" not in found:
            raise ImageRejectedError(
                f"a PNG with an unknown kind of data ({kind.decode()}) is not supported: {CONVERT}"
            )
        elif is_cut or kind in _FRAMES or (is_right and not _may_have_orientation(kind, content, start + 8)):
            continue
        elif is_right and attempts < MAX_ORIENTATIONS and (text := _unpack(kind, body, budget)):
            attempts, budget = attempts + 1, budget - len(text)
            kept.append(memoryview(_to_chunk(kind.replace(b"zTXt", b"tEXt"), text)))
        else:
            attempts += 1
            warnings.append(f"metadata ({kind.decode()}) is damaged or too long, and was ignored")
    _check_found(found, len(content))
    if b"IEND" not in found:
        warnings.append("PNG without an end marker")
    return b"".join(kept), tuple(dict.fromkeys(warnings))


def _check_found(found: dict[bytes, memoryview], size: int) -> None:
    """Check that a PNG has a header, a palette if its pixels need one, and pixels."""
    if b"IHDR" not in found or b"IDAT" not in found:
        raise ImageRejectedError(f"truncated: {size:,} bytes of a PNG, without pixels: {COPY_AGAIN}")
    needs_palette = found[b"IHDR"][9:10] == bytes((_PALETTE_TYPE,))
    if needs_palette and len(found.get(b"PLTE", b"")) < _PALETTE_BYTES:
        raise ImageRejectedError(f"damaged: the palette (PLTE) of this PNG is missing: {COPY_AGAIN}")


def without_pixels(content: bytes) -> bytes:
    """Return a PNG of `keep_pixels` without pixels, so that Pillow reads the metadata behind them with the header."""
    return b"".join((PNG_HEAD, *(content[start:end] for kind, start, end in _find_chunks(content) if kind != b"IDAT")))


def without_checksum(content: bytes) -> bytes:
    """Return a PNG of `keep_pixels` whose packed pixels lack their last four bytes, a checksum."""
    before, packed = [PNG_HEAD], list[bytes]()
    for kind, start, end in _find_chunks(content):
        if kind == b"IDAT":
            packed.append(content[start + 8 : end - 4])
        elif not packed:
            before.append(content[start:end])
    return b"".join((*before, _to_chunk(b"IDAT", b"".join(packed)[:-4]), _to_chunk(b"IEND", b"")))


def count_frames(content: bytes) -> int:
    """Return the number of images of a PNG: its first image, and the frames of its animation."""
    kinds = [kind for kind, _, _ in _find_chunks(content)]
    if b"acTL" not in kinds or b"IDAT" not in kinds:
        return 1
    return kinds.count(b"fcTL") + (b"fcTL" not in kinds[: kinds.index(b"IDAT")])


def _may_have_orientation(kind: bytes, content: bytes, start: int) -> bool:
    return kind in _KEYWORDS and content.startswith(_KEYWORDS[kind], start)


def _find_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of each chunk, up to the last one or to damage; the last one may be cut."""
    end, kind = len(PNG_HEAD), b""
    while end < len(content) and kind != b"IEND":
        start, kind = end, content[end + 4 : end + 8]
        if len(kind) < 4 or not kind.isalpha():
            return
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        yield kind, start, end


def _unpack(kind: bytes, body: memoryview, budget: int) -> bytes:
    """Return the content of a chunk, with the text of iTXt and zTXt unpacked; empty if it is damaged or too long."""
    if len(body) > budget:
        return b""
    text = body.tobytes()
    start = len(_KEYWORDS[kind])
    if kind == b"iTXt" and text[start : start + 1] == b"\x01":
        head, start = text[:start] + b"\x00\x00", start + 2
        for _ in ("language", "translated keyword"):
            start = text.find(b"\x00", start) + 1
            if not start:
                return b""
        head += b"\x00\x00"
    elif kind == b"zTXt":
        head, start = text[:start], start + 1
    else:
        return text
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(text[start:], budget)
    except zlib.error:
        return b""
    return head + unpacked if unpacker.eof else b""


def _to_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
