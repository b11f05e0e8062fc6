"""Small files that keep a decoder busy: what does each cost, read or refused?

python benchmarks/slow_images.py [--megabytes 0.25 1 4 8 16 30] [--kind NAME] [--limit 1.0]

Writes a file of each kind in each size: segments, chunks, blocks, pages, directories, comments, scans and fill bytes
without number. Each is read in a process of its own; the time of the processor counts, less that of an ordinary image.
Ends with 1 where one costs more than the limit, or ends otherwise than with pixels or an `UnreadableImage`.
"""

import argparse
import io
import json
import platform
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

READ = """
import json, resource, sys
from belvedere.errors import UnreadableImage
from belvedere.images import read_image
read_image(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    said = "read, %d x %d" % read_image(sys.argv[2]).shape[1::-1]
except UnreadableImage as error:
    said = "refused: " + error.reason
after = resource.getrusage(resource.RUSAGE_SELF)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"seconds": seconds, "said": said, "megabytes": after.ru_maxrss / 1000}))
"""
PATIENCE_SECONDS = 120
TINY_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))

Maker = Callable[[int], bytes]
KINDS: dict[str, Maker] = {}


def kind(name: str) -> Callable[[Maker], Maker]:
    """Register a maker of files of about a size in bytes."""

    def register(maker: Maker) -> Maker:
        KINDS[name] = maker
        return maker

    return register


def encode(form: str, **options: object) -> bytes:
    """Return the bytes of an ordinary small file."""
    buffer = io.BytesIO()
    IMAGE.save(buffer, form, **options)
    return buffer.getvalue()


JPEG, PNG = encode("JPEG"), encode("PNG")


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def fill(piece: bytes, size: int) -> bytes:
    """Repeat a piece up to a size."""
    return piece * max(1, size // len(piece))


def before_pixels(pieces: bytes) -> bytes:
    """Put pieces behind the start of a JPEG."""
    return JPEG[:2] + pieces + JPEG[2:]


for _name, _piece in {
    "jpeg: EXIF segments": segment(0xE1, TINY_EXIF),
    "jpeg: long EXIF segments": segment(0xE1, TINY_EXIF + bytes(60_000)),
    "jpeg: Photoshop segments": segment(0xED, b"Photoshop 3.0\0" + fill(b"8BIM\x04\x04\0\0\0\0\0\0", 60_000)),
    "jpeg: empty Photoshop segments": segment(0xED, b"Photoshop 3.0\0"),
    "jpeg: quantization tables": segment(0xDB, fill(b"\0" + bytes(range(1, 65)), 60_000)),
    "jpeg: color profile segments": segment(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(1000)),
    "jpeg: multi-picture segments": segment(0xE2, b"MPF\0" + bytes(200)),
    "jpeg: empty comments": segment(0xFE, b""),
    "jpeg: empty APP0": segment(0xE0, b""),
    "jpeg: Adobe segments": segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "jpeg: XMP segments": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 500),
    "jpeg: Huffman tables": segment(0xC4, b"\0" + bytes(16)),
    "jpeg: frame headers": segment(0xC0, struct.pack(">BHHB", 8, 48, 64, 3) + b"\1\x11\0\2\x11\0\3\x11\0"),
    "jpeg: fill bytes": b"\xff",
    "jpeg: restart markers": b"\xff\xd0",
    "jpeg: start markers": b"\xff\xd8",
    "jpeg: escaped bytes": b"\xff\x00",
    "jpeg: zeros between segments": b"\x00",
}.items():
    KINDS[_name] = lambda size, piece=_piece: before_pixels(fill(piece, size))  # type: ignore[misc]


@kind("jpeg: fill bytes in the pixels")
def _fill_in_scan(size: int) -> bytes:
    place = JPEG.index(b"\xff\xda") + 14
    return JPEG[:place] + fill(b"\xff", size) + JPEG[place:]


@kind("jpeg: scans")
def _scans(size: int) -> bytes:
    whole = encode("JPEG", progressive=True)
    place = whole.rindex(b"\xff\xda")
    return whole[:place] + fill(whole[place:-2], size) + b"\xff\xd9"


@kind("jpeg: overlapping EXIF tags")
def _jpeg_overlapping(size: int) -> bytes:
    del size
    return before_pixels(segment(0xE1, b"Exif\0\0" + overlapping_tags(5000, 60_000)))


def overlapping_tags(tags: int, length: int) -> bytes:
    """Return EXIF data whose tags all hold the same bytes."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + k % 4000, 7, length, 8) for k in range(tags))
    return (b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)).ljust(length + 8, b"\0")


for _name, _piece in {
    "png: empty texts": chunk(b"tEXt", b""),
    "png: texts": chunk(b"tEXt", b"key\0" + b"x" * 200),
    "png: compressed texts": chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000))),
    "png: private chunks": chunk(b"prVt", b""),
    "png: empty pixels": chunk(b"IDAT", b""),
    "png: gamma": chunk(b"gAMA", bytes(4)),
    "png: palettes": chunk(b"PLTE", bytes(768)),
    "png: frame controls": chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0)),
    "png: EXIF chunks": chunk(b"eXIf", TINY_EXIF[6:]),
}.items():
    KINDS[_name] = lambda size, piece=_piece: PNG[:33] + fill(piece, size) + PNG[33:]  # type: ignore[misc]
    KINDS[f"{_name}, behind"] = lambda size, piece=_piece: PNG[:-12] + fill(piece, size) + PNG[-12:]  # type: ignore[misc]


@kind("png: overlapping EXIF tags")
def _png_overlapping(size: int) -> bytes:
    return PNG[:33] + chunk(b"eXIf", overlapping_tags(60_000, size)) + PNG[33:]


@kind("png: EXIF as text")
def _png_text_exif(size: int) -> bytes:
    text = "\nexif\n 100\n" + overlapping_tags(60_000, size // 2).hex()
    return PNG[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + text.encode()) + PNG[33:]


@kind("png: pixels by the byte")
def _png_tiny_pixels(size: int) -> bytes:
    rows = np.random.default_rng(1).integers(0, 255, (max(2, size // 13 // 301), 301), np.uint8)
    rows[:, 0] = 0
    head = struct.pack(">IIBBBBB", 100, len(rows), 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes())
    return PNG[:8] + chunk(b"IHDR", head) + b"".join(chunk(b"IDAT", bytes([b])) for b in packed) + chunk(b"IEND", b"")


GIF_HEAD = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
for _name, _piece in {
    "gif: frames": GIF_FRAME,
    "gif: comments": b"\x21\xfe\x01x\0",
    "gif: empty comments": b"\x21\xfe\0",
    "gif: controls": b"\x21\xf9\x04\0\0\0\0\0",
    "gif: application blocks": b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
}.items():
    KINDS[_name] = lambda size, piece=_piece: GIF_HEAD + fill(piece, size) + GIF_FRAME + b"\x3b"  # type: ignore[misc]
    KINDS[f"{_name}, behind"] = lambda size, piece=_piece: GIF_HEAD + GIF_FRAME + fill(piece, size) + b"\x3b"  # type: ignore[misc]


@kind("gif: one long comment")
def _gif_comment(size: int) -> bytes:
    return GIF_HEAD + b"\x21\xfe" + fill(b"\xff" + b"x" * 255, size) + b"\0" + GIF_FRAME + b"\x3b"


@kind("gif: pixels by the byte")
def _gif_bytes(size: int) -> bytes:
    return GIF_HEAD + GIF_FRAME[:11] + fill(b"\x01\x44", size) + b"\0" + GIF_FRAME + b"\x3b"


def directory(entries: list[tuple[int, int, int, int]], after: int = 0) -> bytes:
    """Return a directory of a TIFF."""
    held = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + held + struct.pack("<I", after)


PIXEL = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1), (278, 3, 1, 1)]
STRIP = [(273, 4, 1, 8), (279, 4, 1, 1)]


@kind("tiff: pages")
def _tiff_pages(size: int) -> bytes:
    step = len(directory(PIXEL + STRIP))
    count = max(2, size // step)
    pages = (directory(PIXEL + STRIP, 16 + step * (k + 1) if k < count - 1 else 0) for k in range(count))
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + b"".join(pages)


@kind("tiff: empty pages")
def _tiff_empty_pages(size: int) -> bytes:
    pages = b"".join(struct.pack("<HI", 0, 16 + 6 * (k + 1)) for k in range(size // 6))
    first = directory(PIXEL + STRIP, 16)
    return b"II*\0" + struct.pack("<I", 16 + len(pages)) + bytes(8) + pages + first


@kind("tiff: tags")
def _tiff_tags(size: int) -> bytes:
    entries = PIXEL + STRIP + [(1000 + k, 4, 1, 1) for k in range(min(60_000, size // 12))]
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries)


@kind("tiff: tags over each other")
def _tiff_overlapping(size: int) -> bytes:
    entries = PIXEL + STRIP + [(1000 + k, 7, size, 8) for k in range(900)]
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries)).ljust(size + 8, b"\0")


@kind("tiff: strips")
def _tiff_strips(size: int) -> bytes:
    count = size // 8
    changed = [(tag, kind, n, count if tag == 257 else value) for tag, kind, n, value in PIXEL]
    changed = [(tag, 4 if tag == 257 else kind, n, value) for tag, kind, n, value in changed]
    start = 16 + len(directory(changed + STRIP))
    entries = [*changed, (273, 4, count, start), (279, 4, count, start + 4 * count)]
    places = np.full(count, 8, "<u4").tobytes() + np.full(count, 1, "<u4").tobytes()
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory(entries) + places


@kind("tiff: EXIF tags")
def _tiff_exif(size: int) -> bytes:
    first = directory([*PIXEL, *STRIP, (0x8769, 4, 1, 16 + len(directory(PIXEL + STRIP)) + 12)])
    exif = directory([(0x9000 + k, 7, size, 8) for k in range(900)])
    return (b"II*\0" + struct.pack("<I", 16) + bytes(8) + first + exif).ljust(size + 8, b"\0")


@kind("ppm: comment")
def _ppm_comment(size: int) -> bytes:
    return b"P6\n#" + b"a" * size + b"\n4 4\n255\n" + bytes(48)


@kind("ppm: comments")
def _ppm_comments(size: int) -> bytes:
    return b"P6\n" + fill(b"#\n", size) + b"4 4\n255\n" + bytes(48)


@kind("ppm: spaces")
def _ppm_spaces(size: int) -> bytes:
    return b"P6" + b" " * size + b"4 4\n255\n" + bytes(48)


@kind("ppm: digits")
def _ppm_digits(size: int) -> bytes:
    return b"P6\n" + b"0" * size + b"4 4\n255\n" + bytes(48)


@kind("ppm: plain, comments in the pixels")
def _ppm_plain(size: int) -> bytes:
    return b"P3\n4 4\n255\n" + fill(b"#x\n", size) + b"0 " * 48


@kind("ppm: plain, one comment in the pixels")
def _ppm_plain_comment(size: int) -> bytes:
    return b"P3\n4 4\n255\n1 #" + b"x" * size + b"\n" + b"0 " * 48


@kind("ppm: plain, spaces in the pixels")
def _ppm_plain_spaces(size: int) -> bytes:
    return b"P3\n4 4\n255\n1" + b" " * size + b"0 " * 48


@kind("webp: chunks")
def _webp_chunks(size: int) -> bytes:
    body = encode("WEBP")[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    content = b"WEBP" + extended + fill(b"JUNK" + bytes(4), size) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


@kind("webp: frames")
def _webp_frames(size: int) -> bytes:
    body = encode("WEBP")[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(body)) + bytes(6) + (63).to_bytes(3, "little")
    frame += (47).to_bytes(3, "little") + bytes(4) + body
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    content = b"WEBP" + extended + b"ANIM" + struct.pack("<I", 6) + bytes(6) + fill(frame, size)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@kind("avif: boxes")
def _avif_boxes(size: int) -> bytes:
    whole = encode("AVIF")
    head = int.from_bytes(whole[:4], "big")
    return whole[:head] + fill(struct.pack(">I", 8) + b"free", size) + whole[head:]


@kind("bmp: run lengths")
def _bmp_runs(size: int) -> bytes:
    data = fill(b"\x01\x07", size)
    head = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, len(data), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(data), 0, 0, 14 + len(head)) + head + data


def read_in_child(plain: Path, file: Path) -> dict[str, object]:
    """Read a file in a process of its own; what it cost and how it ended."""
    command = [sys.executable, "-c", READ, str(plain), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"seconds": float(PATIENCE_SECONDS), "said": "still at it", "megabytes": 0.0}
    if done.returncode:
        return {"seconds": 0.0, "said": f"FAILED: {(done.stderr or str(done.returncode)).strip()[-200:]}"}
    return dict(json.loads(done.stdout))


def main() -> int:
    """Print a line for each kind; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.25, 2.0, 8.0, 30.0])
    parser.add_argument("--kind", action="append")
    parser.add_argument("--limit", type=float, default=1.0, help="Seconds of processor time.")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}; {len(KINDS)} kinds\n")
    print("| kind | s of processor, largest | at MB | outcome there |\n|---|---|---|---|")
    files = slow = failed = 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        plain, file = Path(place, "plain.jpg"), Path(place, "slow")
        plain.write_bytes(JPEG)
        for name in options.kind or KINDS:
            rows = []
            for megabytes in options.megabytes:
                file.write_bytes(KINDS[name](int(megabytes * 1e6)))
                found = read_in_child(plain, file)
                rows.append((float(str(found["seconds"])), file.stat().st_size / 1e6, str(found["said"])))
            files += len(rows)
            slow += sum(seconds > options.limit for seconds, _, _ in rows)
            failed += sum(said.startswith("FAILED") for _, _, said in rows)
            seconds, size, said = max(rows)
            worst = max(worst, seconds)
            print(f"| {name} | {seconds:.2f} | {size:.1f} | {said[:90]} |", flush=True)
    print(f"\n{files} images: {slow} over {options.limit:g} s, {failed} failed; the slowest {worst:.2f} s")
    return 1 if slow or failed else 0


if __name__ == "__main__":
    sys.exit(main())
