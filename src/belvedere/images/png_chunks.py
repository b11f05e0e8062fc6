"""Leaves out the chunks of a PNG that do not matter for its pixels.

Pillow refuses a whole file for a wrong checksum in a text, or for a long compressed text or color profile.
"""

import zlib
from collections.abc import Iterator

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_METADATA_BYTES = 20_000_000  # unpacked, of all chunks that may hold an orientation
MAX_ORIENTATIONS = 8  # chunks that may hold one; there is one in a file, or two

# Ancillary chunks of pixels. Critical chunks begin with a capital letter.
_PIXELS = frozenset((b"tRNS", b"acTL", b"fcTL", b"fdAT"))
_XMP, _EXIF = b"XML:com.adobe.xmp\x00", b"Raw profile type exif\x00"
_KEYWORDS = {b"iTXt": _XMP, b"tEXt": _EXIF, b"zTXt": _EXIF, b"eXIf": b""}  # of chunks that may hold an orientation


def keep_pixels(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a PNG with the chunks of its pixels and its orientation only, texts unpacked; and warnings.

    Pillow checks the checksums of critical chunks except those of the pixels.
    """
    view, kept, warnings = memoryview(content), [memoryview(PNG_HEAD)], list[str]()
    budget, attempts = MAX_METADATA_BYTES, 0
    for kind, start, end in _find_chunks(content):
        is_cut = end > len(content)
        is_right = is_cut or zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        if is_cut or not kind.isalpha() or kind[:1].isupper() or kind in _PIXELS:
            kept.append(view[start:end])
            if kind == b"IDAT" and not is_right:
                warnings.append("damaged PNG data: wrong checksum")
        elif is_right and not _may_have_orientation(kind, content, start + 8):
            continue
        elif is_right and attempts < MAX_ORIENTATIONS and (text := _unpack(kind, view[start + 8 : end - 4], budget)):
            attempts, budget = attempts + 1, budget - len(text)
            kept.append(memoryview(_to_chunk(kind.replace(b"zTXt", b"tEXt"), text)))
        else:
            attempts += 1
            warnings.append(f"metadata ({kind.decode()}) is damaged or too long, and was ignored")
    return b"".join(kept), tuple(dict.fromkeys(warnings))


def _may_have_orientation(kind: bytes, content: bytes, start: int) -> bool:
    return kind in _KEYWORDS and content.startswith(_KEYWORDS[kind], start)


def _find_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of each chunk, up to that of the end; the last one may be cut."""
    end, kind = len(PNG_HEAD), b""
    while end < len(content) and kind != b"IEND":
        start, kind = end, content[end + 4 : end + 8]
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
