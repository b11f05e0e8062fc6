import base64
import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images import formats
from belvedere.images.decode import read_image
from odd_files import encode, smooth_pixels

IMAGE = Image.fromarray(smooth_pixels())
VIDEO, RAW = "a video", "a raw camera file"


def brand(name: bytes, *more: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(more)) + b"ftyp" + name + bytes(4) + b"".join(more) + bytes(200)


def zip_of(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return file.getvalue()


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4)))
    return file.getvalue()


FOREIGN = {
    "JPEG XL": (b"\xff\x0a" + bytes(50), "JPEG XL is not supported"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL is not supported"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000 is not supported"),
    "JPEG 2000 stream": (b"\xff\x4f\xff\x51" + bytes(50), "JPEG 2000 is not supported"),
    "CR3": (brand(b"crx ", b"crx "), f"{RAW} (CR3)"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(50), f"{RAW} (RAF)"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(50), f"{RAW} (ORF)"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(50), f"{RAW} (RW2)"),
    "MP4": (brand(b"isom", b"avc1", b"mp41"), VIDEO),
    "MOV": (brand(b"qt  "), VIDEO),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(50), VIDEO),
    "AVI": (b"RIFF\x90\0\0\0AVI LIST" + bytes(50), VIDEO),
    "PSD": (b"8BPS\0\1" + bytes(50), "Photoshop"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
    "icon": (b"\0\0\1\0\1\0" + bytes(50), "ICO"),
    "OpenEXR": (b"v/1\x01\2\0\0\0" + bytes(50), "OpenEXR"),
    "HDR": (b"#?RADIANCE\n", "Radiance"),
    "DICOM": (bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "NIfTI": (struct.pack("<I", 348) + bytes(340) + b"n+1\0" + bytes(9), "NIfTI"),
    "NIfTI, gzip": (gzip.compress(struct.pack("<I", 348) + bytes(340) + b"n+1\0" + bytes(9000)), "NIfTI (nii.gz)"),
    "FITS": (b"SIMPLE  =                    T", "FITS"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    "npy": (array_file(), "NumPy"),
    "npz": (zip_of("arr_0.npy"), "npz"),
    "ZIP": (zip_of("a.jpg"), "an archive (ZIP)"),
    "Word": (zip_of("[Content_Types].xml", "word/document.xml"), "a Word document"),
    "Excel": (zip_of("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
    "gzip": (gzip.compress(b"content"), "an archive (gzip)"),
    "older Office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "an older Office document"),
    "TGA": (encode(IMAGE, "TGA"), "TGA is not supported"),
    "TGA 1": (encode(IMAGE, "TGA")[:-26], "TGA is not supported"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "`git lfs pull`"),
    "web page": (b"\n<!-- made by hand --><!DOCTYPE html><html></html>", "a web page (HTML)"),
    "XHTML": (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html/>', "a web page (HTML)"),
    "page with a drawing": (b"<html><body><svg></svg></body></html>", "a web page (HTML)"),
    "SVG": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg width="9"/>', "SVG is not supported"),
    "SVG in UTF-16": ("\ufeff<svg/>".encode("utf-16-le"), "SVG is not supported"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML instead"),
    "JSON": (b'{"error": "not found"}', "JSON"),
    "base64": (base64.b64encode(encode(IMAGE, "JPEG")), "base64"),
    "text": (b"not found\n", "text instead of an image"),
    "zeros": (bytes(5000), "only zeros"),
    "PNG for iOS": (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0 \6" + bytes(50), "CgBI"),
    "damaged PNG": (b"\x89PNG\r\n\x1a\n" + bytes(20), "truncated"),
    "text like a program": (b"MZ is an abbreviation", "text"),
    "text like a sound": (b"ID3 tags are described here", "text"),
    "start of a JPEG": (b"\xff\xd8", formats.UNKNOWN),
    "random bytes": (bytes(range(1, 100)), formats.UNKNOWN),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_named(name: str) -> None:
    content, words = FOREIGN[name]
    with pytest.raises(InvalidImageError) as caught:
        read_image(content)
    assert words in caught.value.reason
    assert "\n" not in caught.value.reason
    assert ":" in caught.value.reason or caught.value.reason == formats.UNKNOWN  # what to do


def test_comments_without_an_end_take_no_time() -> None:
    assert (
        formats.describe_format(b"<!-- x -->" * 400 + b"<!--") == "XML instead of an image: download the image itself"
    )


# Raw camera files


def tiff(pages: list[dict[int, tuple[int, int]]], make: bytes = b"") -> bytes:
    """Return a TIFF of one pixel per page; a page has types and values by tag. Page 1 is a sub-image of page 0."""
    start, held = 16, []
    for number, page in enumerate(pages):
        tags = {256: (3, 1), 257: (3, 1), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1), 279: (4, 1)}
        tags |= page
        if number == 0 and len(pages) > 1:
            tags[330] = (4, start + 2 + 12 * (len(tags) + 1 + bool(make)) + 4)
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items()))
        if make and number == 0:
            entries += struct.pack("<HHII", 271, 2, 7, 9)
        held.append(struct.pack("<H", len(entries) // 12) + entries + bytes(4))
        start += len(held[-1])
    return b"II*\0" + struct.pack("<I", 16) + b"\x80" + make.ljust(7, b"\0") + b"".join(held)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tiff([{50706: (4, 0x401)}]), "DNG"),
        (tiff([{}, {262: (3, 32803)}], b"NIKON"), "NEF"),
        (tiff([{}, {262: (3, 32803)}], b"SONY"), "ARW"),
        (tiff([{}, {259: (3, 34713)}]), "TIFF"),
        (tiff([{262: (3, 34892)}]), "TIFF"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "CR2"),
    ],
)
def test_a_raw_camera_file_is_not_answered_by_its_preview(content: bytes, kind: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        read_image(content)
    assert caught.value.reason == formats.describe_misread(content)
    assert f"a raw camera file ({kind}) is not supported" in caught.value.reason


def test_a_tiff_with_sub_images_is_read() -> None:
    np.testing.assert_array_equal(read_image(tiff([{}, {262: (3, 2)}], b"SONY")), np.full((1, 1, 3), 128))


def test_sub_images_in_a_circle_end() -> None:
    assert not formats.describe_misread(tiff([{330: (4, 16)}]))


# AVIF and HEIF


@pytest.mark.parametrize(
    ("content", "is_avif", "is_heif"),
    [
        (brand(b"heic", b"mif1"), False, True),
        (brand(b"mif1", b"mif1", b"heic"), False, True),
        (brand(b"mif1", b"mif1", b"avif"), True, False),
        (brand(b"avif", b"mif1"), True, False),
        (brand(b"isom"), False, False),
        (b"ftyp", False, False),
    ],
)
def test_brands(content: bytes, is_avif: bool, is_heif: bool) -> None:
    assert (formats.is_avif(content), formats.is_heif(content)) == (is_avif, is_heif)
