"""Names the format of a file that is not read, by its content, and says what to do about it."""

import re
import zlib
from collections.abc import Iterable
from itertools import islice

from belvedere.images.tiff_directories import MAX_TAGS, TIFF_MARKS, Directories

CONVERT, EXPORT = "convert the file to 8-bit JPEG or PNG", "export it from a raw converter as JPEG or TIFF"
PAGES, FRAMES, UNPACK = "export its pages as PNG", "extract its frames as JPEG or PNG", "unpack it"
RENDER, AGAIN, TONE_MAP = "render it to PNG", "get the file again", "convert the values to 8 bits and save them as PNG"
COPY_AGAIN = "copy or download the file again"  # what is damaged
UNKNOWN = "not an image in a supported format"

START_BYTES = 256  # in which a format is recognized, with the brands of an ISO media file
MAX_DIRECTORIES = 32  # of a TIFF: pages and sub-images in which raw pixels are looked for
TEXT_BYTES = 4096  # read to recognize text
MAX_LEADING_BYTES = 65_536  # before an image, such as the head of a web server's response
_HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_AVIF = frozenset((b"avif", b"avis"))

_MAKE, _COMPRESSION, _PHOTOMETRIC, _SUB_IMAGES, _DNG_VERSION = 271, 259, 262, 330, 50706
_SENSOR_PHOTOMETRICS = frozenset((32803, 34892))  # color filter array, linear raw
_SENSOR_COMPRESSIONS = frozenset((32767, 32769, 32770, 32772, 34713, 65535))  # Sony, Epson, Samsung, Nikon, Pentax
_RAW_OF_MAKE = {"NIKON": "NEF", "SONY": "ARW", "CANON": "CR2", "PENTAX": "PEF", "SAMSUNG": "SRW", "HASSELBLAD": "3FR"}

# Position and content of a signature, name, and what to do. The first that matches is taken.
_FLOAT_MAPS = tuple((0, b"P%c%c" % (kind, space), "PFM", TONE_MAP) for kind in b"Ff" for space in b" \n\r\t")
_IMAGES = (
    (0, b"\xff\x0a", "JPEG XL", CONVERT),
    (4, b"JXL \r\n\x87\n", "JPEG XL", CONVERT),
    (4, b"jP  \r\n\x87\n", "JPEG 2000", CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", CONVERT),
    (0, b"II\xbc", "JPEG XR", CONVERT),
    (8, b"crx ", "a raw camera file (CR3)", EXPORT),
    (0, b"II\x1a\x00\x00\x00HEAPCCDR", "a raw camera file (CRW)", EXPORT),
    (0, b"FUJIFILMCCD-RAW", "a raw camera file (RAF)", EXPORT),
    (0, b"IIRO", "a raw camera file (ORF)", EXPORT),
    (0, b"IIRS", "a raw camera file (ORF)", EXPORT),
    (0, b"MMOR", "a raw camera file (ORF)", EXPORT),
    (0, b"IIU\x00", "a raw camera file (RW2)", EXPORT),
    (0, b"\x00MRM", "a raw camera file (MRW)", EXPORT),
    (0, b"FOVb", "a raw camera file (X3F)", EXPORT),
    (0, b"8BPS", "Photoshop (PSD)", CONVERT),
    (0, b"gimp xcf", "GIMP (XCF)", CONVERT),
    (0, b"%PDF-", "PDF", PAGES),
    (0, b"%!PS", "PostScript (EPS)", RENDER),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)", RENDER),
    (0, b"AT&TFORM", "DjVu", PAGES),
    (0, b"\xd7\xcd\xc6\x9a", "Windows Metafile (WMF)", RENDER),
    (40, b" EMF", "Windows Metafile (EMF)", RENDER),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)", CONVERT),
    (0, b"icns", "an icon (ICNS)", CONVERT),
    (0, b"v/1\x01", "OpenEXR", TONE_MAP),
    (0, b"#?R", "Radiance HDR", TONE_MAP),
    (128, b"DICM", "DICOM", TONE_MAP),
    (344, b"n+1\x00", "NIfTI", TONE_MAP),
    (344, b"ni1\x00", "NIfTI", TONE_MAP),
    (4, b"n+2\x00", "NIfTI", TONE_MAP),
    (0, b"SIMPLE  =", "FITS", TONE_MAP),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", TONE_MAP),
    (0, b"CDF\x01", "NetCDF", TONE_MAP),
    (0, b"CDF\x02", "NetCDF", TONE_MAP),
    (0, b"\x93NUMPY", "a NumPy array (npy)", TONE_MAP),
    (0, b"MATLAB 5.0 MAT-file", "MATLAB", TONE_MAP),
    (0, b"BPG\xfb", "BPG", CONVERT),
    (0, b"qoif", "QOI", CONVERT),
    (0, b"FLIF", "FLIF", CONVERT),
    (0, b"DDS ", "DDS", CONVERT),
    (0, b"\x8aMNG", "MNG", FRAMES),
    (0, b"\x59\xa6\x6a\x95", "Sun raster", CONVERT),
    (0, b"\x01\xda", "SGI", CONVERT),
    (0, b"P7\n", "PAM", CONVERT),
    *((0, b"\x0a%c\x01%c" % (version, bits), "PCX", CONVERT) for version in (0, 2, 3, 4, 5) for bits in (1, 2, 4, 8)),
    *_FLOAT_MAPS,
)
NOT_LOADED = "save its images as PNG; such a file is never loaded, since that could run a program"
_OTHERS = (
    *((0, b"\x80%c" % version, "a Python pickle", NOT_LOADED) for version in range(2, 6)),
    (8, b"M4A ", "an audio file", AGAIN),
    (4, b"ftyp", "a video (MP4 or MOV)", FRAMES),
    (4, b"moov", "a video (MOV)", FRAMES),
    (4, b"mdat", "a video (MOV)", FRAMES),
    (4, b"wide", "a video (MOV)", FRAMES),
    (0, b"\x1aE\xdf\xa3", "a video (WebM or Matroska)", FRAMES),
    (8, b"AVI ", "a video (AVI)", FRAMES),
    (0, b"FLV\x01", "a video (FLV)", FRAMES),
    (0, b"\x30\x26\xb2\x75", "a video (WMV)", FRAMES),
    (0, b"\x00\x00\x01\xba", "a video (MPEG)", FRAMES),
    (0, b"\x00\x00\x01\xb3", "a video (MPEG)", FRAMES),
    (0, b"OggS", "an audio or video file (Ogg)", FRAMES),
    (8, b"WAVE", "an audio file", AGAIN),
    (0, b"ID3", "an audio file", AGAIN),
    (0, b"fLaC", "an audio file", AGAIN),
    (0, b"\xd0\xcf\x11\xe0", "an older Office document, or Thumbs.db", "export its images"),
    (0, b"BZh", "an archive (bzip2)", UNPACK),
    (0, b"\xfd7zXZ\x00", "an archive (xz)", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "an archive (Zstandard)", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "an archive (7z)", UNPACK),
    (0, b"Rar!", "an archive (RAR)", UNPACK),
    (257, b"ustar", "an archive (tar)", UNPACK),
    (0, b"PAR1", "a Parquet table", "export its images to files"),
    (0, b"SQLite format 3\x00", "an SQLite database", "export its images to files"),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut", "copy the file that it points to"),
    (0, b"\x00\x05\x16\x07", "metadata of macOS (AppleDouble)", "delete it"),
    (0, b"bplist00", "a property list of macOS", AGAIN),
    (0, b"MZ", "a Windows program", AGAIN),
    (0, b"\x7fELF", "a Linux program", AGAIN),
)
_ZIP_CONTENTS = (  # found near the start or in the list of files at the end
    (b"word/", "a Word document", "export its images"),
    (b"xl/", "an Excel workbook", "export its images"),
    (b"ppt/", "a PowerPoint presentation", "export its images"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "an OpenDocument file", "export its images"),
    (b"mimetypeimage/openraster", "OpenRaster (ORA)", "export it as PNG"),
    (b"mimetypeapplication/x-krita", "a Krita document", "export it as PNG"),
    (b".npy", "NumPy arrays (npz)", TONE_MAP),
    (b"/data.pkl", "a PyTorch file", NOT_LOADED),
)
_READ = (  # position and content of the signatures of formats that are read, beside AVIF and HEIF
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    *((0, mark, "TIFF") for mark in TIFF_MARKS),
    *((0, b"P%d%c" % (kind, space), "PPM") for kind in range(1, 7) for space in b" \n\r\t"),
)
# A second JPEG marker follows the first; three fixed bytes alone occur by chance.
_IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff[\xc0\xc1\xc2\xc4\xdb\xe0-\xef\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a|II\*\x00|MM\x00\*"
)
_OLD_PICKLE = re.compile(rb"\(?[dl]p\d+\n|c[\w.]+\n\w+\n|[}\])]q\x00")  # protocols 0 and 1
# Bytes of a PNG or JPEG without their high bit, with other line ends, or taken for characters and written as UTF-8.
_SENT_AS_TEXT = (b"\x89PNG", b"\x09PNG", b"\xc2\x89PNG", b"\xc3\xbf\xc3\x98\xc3\xbf", b"\xef\xbf\xbd")
_PROLOG = rb"(?>(?><\?xml[^>]*+>)|(?><!--.*?-->)|\s)*+"  # of HTML and XML
_TEXTS = (  # patterns of the start, in lower case
    (rb"version https://git-lfs\.", "a Git LFS pointer instead of the image: run `git lfs pull`"),
    (
        _PROLOG + rb"(<!doctype html|<html|<head|<body)",
        "a web page (HTML) instead of an image: download the image itself",
    ),
    (_PROLOG + rb"(<!doctype svg|<(\w+:)?svg\b)", f"SVG is not supported: {RENDER}"),
    (rb"<[?!a-z]", "XML instead of an image: download the image itself"),
    (rb"data:image/|/9j/|ivborw0kgg", "an image as base64 text: decode the text"),
    (rb"\{\\rtf", "an RTF document instead of an image: export its images"),
    (rb"/\* xpm \*/|#define \S+_width", f"an image as C source (XPM or XBM) is not supported: {CONVERT}"),
    (rb"[\[{]", f"JSON text instead of an image: {AGAIN}"),
)


def detect_format(content: bytes) -> str:
    """Return the format of an image that is read, by its first `START_BYTES`, such as "JPEG"; empty for others."""
    if is_avif(content):
        return "AVIF"
    if is_heif(content):
        return "HEIF"
    name = next((name for start, signature, name in _READ if content.startswith(signature, start)), "")
    return "" if name == "BMP" and b"\0" not in content[:16] else name  # text that begins with BM


def is_avif(content: bytes) -> bool:
    """Return whether a file has a brand of AVIF."""
    return not _AVIF.isdisjoint(_brands(content))


def is_heif(content: bytes) -> bool:
    """Return whether a file is HEIF, such as the HEIC of phones, and no AVIF."""
    brands = _brands(content)
    return not _HEIF.isdisjoint(brands) and _AVIF.isdisjoint(brands)


def _brands(content: bytes) -> tuple[bytes, ...]:
    """Return the brands of an ISO media file; none for other files."""
    if content[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(content[:4], "big"), START_BYTES, len(content))
    return (content[8:12], *(content[start : start + 4] for start in range(16, end - 3, 4)))


def describe_misread(content: bytes) -> str:
    """Return why a file is not read of which Pillow decodes a preview, or values without a range; else empty."""
    if not content.startswith(TIFF_MARKS):
        return _find(_FLOAT_MAPS, content, "is not supported")
    if content[8:10] == b"CR":
        return _raw("CR2")
    layout = Directories.open(content)
    pages = list(islice(layout.chain(), MAX_DIRECTORIES))
    make, is_raw = b"", False
    for position in pages:  # grows while it is read
        for tag in islice(layout.tags(position), MAX_TAGS):
            if tag.number == _DNG_VERSION:
                return _raw("DNG")
            if tag.number == _MAKE:
                make = make or content[tag.value : tag.value + min(tag.size, 20)]
            elif tag.number == _SUB_IMAGES and tag.values <= MAX_DIRECTORIES - len(pages):
                pages += layout.numbers(tag)
            elif tag.values == 1 and tag.number in (_PHOTOMETRIC, _COMPRESSION):
                known = _SENSOR_PHOTOMETRICS if tag.number == _PHOTOMETRIC else _SENSOR_COMPRESSIONS
                is_raw |= not known.isdisjoint(layout.numbers(tag))
    name = make.decode("latin-1").upper()
    return _raw(next((raw for maker, raw in _RAW_OF_MAKE.items() if maker in name), "TIFF")) if is_raw else ""


def _raw(kind: str) -> str:
    return f"a raw camera file ({kind}) is not supported: {EXPORT}"


def describe_format(content: bytes) -> str:
    """Return why a file is not read that no decoder takes: what it is, and what to do.

    Args:
        content: The bytes of the file.
    """
    if not content.strip(b"\x00"):
        return f"only zeros, such as an incomplete copy or download: {AGAIN}"
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _describe_zip(content)
    if content.startswith(b"\x1f\x8b"):
        return _describe_gzip(content)
    reason = _find(_IMAGES, content, "is not supported")
    if not reason and _OLD_PICKLE.match(content) and content.endswith(b"."):
        return f"a Python pickle instead of an image: {NOT_LOADED}"
    reason = reason or _describe_text(content)
    if not reason and (name := detect_format(content)):
        return f"damaged: no image in the {len(content):,} bytes of this {name}: {COPY_AGAIN}"
    if reason := reason or _find(_OTHERS, content, "instead of an image"):
        return reason
    if content.startswith(_SENT_AS_TEXT):
        return f"damaged: an image that was transferred or saved as text: {COPY_AGAIN}"
    if found := _IMAGE_STARTS.search(content, 1, MAX_LEADING_BYTES):
        name, before = detect_format(found[0]), found.start()
        return (
            f"damaged: a {name} begins after {before:,} other bytes: {COPY_AGAIN}, or remove the first {before:,} bytes"
        )
    return f"TGA is not supported: {CONVERT}" if _is_tga(content) else UNKNOWN


def _find(signatures: Iterable[tuple[int, bytes, str, str]], content: bytes, problem: str) -> str:
    found = ((name, advice) for start, signature, name, advice in signatures if content.startswith(signature, start))
    return next((f"{name} {problem}: {advice}" for name, advice in found), "")


def _describe_zip(content: bytes) -> str:
    for mark, name, advice in _ZIP_CONTENTS:
        if mark in content[:TEXT_BYTES] or mark in content[-TEXT_BYTES:]:
            return f"{name} instead of an image: {advice}"
    return f"an archive (ZIP) instead of an image: {UNPACK}"


def _describe_gzip(content: bytes) -> str:
    try:
        inner = zlib.decompressobj(31).decompress(content[:TEXT_BYTES], TEXT_BYTES)
    except zlib.error:
        inner = b""
    if inner[344:348] == b"n+1\x00":
        return f"NIfTI (nii.gz) is not supported: {TONE_MAP}"
    if (reason := _describe_text(inner)).startswith("SVG"):
        return reason
    return f"an archive (gzip) instead of an image: {UNPACK}"


def _describe_text(content: bytes) -> str:
    """Return what a text is; empty for other content."""
    start = content[:TEXT_BYTES]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16
        start = start[2:].replace(b"\x00", b"")
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start or re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", start):
        return ""
    for pattern, reason in _TEXTS:
        if re.match(pattern, start.lower(), re.DOTALL):
            return reason
    if content.startswith((b"\xff\xd8", b"\xff\xff")):
        return ""  # as JPEGs do, and erased disks
    return f"text instead of an image: {AGAIN}"


def _is_tga(content: bytes) -> bool:
    if content.endswith(b"TRUEVISION-XFILE.\x00"):
        return True
    head = content[:18].ljust(18, b"\x00")
    return head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11) and head[16] in (8, 16, 24, 32) and any(head[12:16])
