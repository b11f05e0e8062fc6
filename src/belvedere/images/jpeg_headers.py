"""Reads the headers of a JPEG."""

import re
from collections.abc import Iterator

from belvedere.images.containers import MAX_SEGMENTS
from belvedere.images.formats import CONVERT

END_MARKER = b"\xff\xd9"
MAX_MARKERS = 10_000
COEFFICIENTS = 64  # of a block

# Except those without a length: escaped bytes, restarts, starts.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_SCAN, _END, _LOSSLESS, _JPEG_LS = 0xDA, 0xD9, 0xC3, 0xF7
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_JPEG_LS}
_UNREAD = {0xCB: "lossless JPEG (arithmetic)", _JPEG_LS: "JPEG-LS"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"
)
_NAMES = {_LOSSLESS: "lossless JPEG"} | _UNREAD


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and content of each segment, up to the end of the first image."""
    position = 2
    for _ in range(MAX_MARKERS):
        found = _MARKER.search(content, position)
        if found is None or content[found.start() + 1] == _END:
            return
        start = found.end()
        position = start + max(2, int.from_bytes(content[start : start + 2], "big"))
        yield content[start - 1], content[start + 2 : position]


def may_have_exif(content: bytes) -> bool:
    """Return whether a JPEG has an EXIF or XMP segment, or an irregular one; reads segment headers only."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker = content[position : position + 2]
        if marker == b"\xff\xda":
            return False
        if marker == b"\xff\xe1" or marker[:1] != b"\xff":
            return True
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return True


def describe_frame(content: bytes) -> str:
    """Return why a JPEG of an unusual kind is not read; empty for the kinds that decoders take."""
    for kind, body in _segments(content):
        if kind not in _FRAMES:
            continue
        bits = body[0] if body else 8
        if bits != 8 or kind in _UNREAD:
            return f"{_NAMES.get(kind, 'JPEG')} of {bits} bits per sample is not supported: {CONVERT}"
        return ""
    return ""


def has_all_coefficients(content: bytes) -> bool:
    """Return whether the scans that begin in a JPEG make up its image in full quality.

    A progressive JPEG refines its image from scan to scan, and one without its last scans decodes without an error.
    """
    lossless, bits_left = False, dict[int, list[int]]()  # per component and coefficient: bits that no scan has brought
    try:
        for kind, body in _segments(content):
            if kind in _FRAMES:
                lossless = kind == _LOSSLESS
                bits_left = {body[6 + 3 * number]: [8] * COEFFICIENTS for number in range(body[5])}
            elif kind == _SCAN:
                first, last, precision = body[1 + 2 * body[0] : 4 + 2 * body[0]]
                if lossless:  # these bytes have another meaning
                    first, last, precision = 0, COEFFICIENTS - 1, 0
                for component in body[1 : 1 + 2 * body[0] : 2]:
                    bits_left[component][first : last + 1] = [precision & 15] * (last + 1 - first)
    except (LookupError, ValueError):  # damaged
        return False
    return bool(bits_left) and not any(any(bits) for bits in bits_left.values())
