"""Every kind of odd image file, generated and tiny: those that must be readable, and those that must be rejected.

All names have the suffix of an image, so `list_images` finds them all.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 24, 16
JPEG_SUBSAMPLINGS = ("444", "422", "420", "440", "411")
TIFF_COMPRESSIONS = {"plain": None, "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits"}
ORIENTED_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}


def smooth_pixels(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """Return smooth pixels without symmetry, (height, width, 3)."""
    few = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file as Pillow writes it."""
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # a copy: saving a JPEG leaves settings behind that upset TIFF
    return file.getvalue()


def encode_jpeg(pixels: NDArray[np.uint8], subsampling: str = "420", quality: int = 90) -> bytes:
    """Return the bytes of a baseline JPEG, also in the subsamplings that Pillow cannot write."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", subsampling))


def oriented(kind: str, orientation: int) -> bytes:
    """Return a file with an EXIF orientation; lossless except as JPEG."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode(Image.fromarray(smooth_pixels()), kind, exif=exif, **options)


def png(width: int, height: int, bit_depth: int, color_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG written by hand.

    Args:
        width: Width in the header, which the rows need not have.
        height: Height in the header.
        bit_depth: Bits per channel.
        color_type: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA.
        rows: Filter byte and samples of each row.
        chunks: Name and content of further chunks, before the pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    listed = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in listed
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def deep_rows(values: NDArray[np.uint16]) -> bytes:
    """Return rows of a 16-bit PNG, from (H, W) or (H, W, C)."""
    return b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)


def with_segment(jpeg: bytes, content: bytes) -> bytes:
    """Return a JPEG with an APP1 segment after its start marker."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def damaged_jpeg() -> bytes:
    """Return a JPEG of the right length with overwritten entropy-coded data in the middle."""
    whole = encode_jpeg(smooth_pixels(64, 64))
    middle = (whole.index(b"\xff\xda") + len(whole)) // 2
    return whole[:middle] + b"\xff\x00" * 10 + whole[middle + 20 :]


def readable_files() -> dict[str, bytes]:
    """Return names and contents of odd files that are readable."""
    pixels = smooth_pixels()
    image = Image.fromarray(pixels)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    jpeg = encode(image, "JPEG")
    alpha = Image.fromarray(np.dstack((pixels, pixels[:, :, 0])))
    ramp = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 170
    xmp = b'http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta tiff:Orientation="6"/>'
    files = {
        "gray.jpg": encode(image.convert("L"), "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "restart_markers.jpg": encode(image, "JPEG", restart_marker_blocks=1),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "rgb_colors.jpg": encode(image, "JPEG", keep_rgb=True),
        "two_images.jpg": encode(image, "MPO", save_all=True, append_images=[turned.copy()]),
        "trailing_garbage.jpg": jpeg + b"\x00garbage" * 20,
        "broken_exif.jpg": with_segment(jpeg, b"Exif\x00\x00MM\x00*\xff\xff\xff\xf0" + b"\xff" * 40),
        "nonsense_exif.jpg": with_segment(jpeg, b"Exif\x00\x00nonsense"),
        "xmp.jpg": with_segment(jpeg, xmp),
        "damaged_middle.jpg": damaged_jpeg(),
        "a_png.jpg": encode(image, "PNG"),
        "a_jpeg.png": jpeg,
        "a_webp.jpeg": encode(image, "WEBP"),
        "späce and [brackets] ☃.jpg": jpeg,
        "SHOUTED.JPG": jpeg,
        "jfif.jfif": jpeg,
        "gray.png": encode(image.convert("L"), "PNG"),
        "palette.png": encode(image.quantize(16), "PNG"),
        "palette_transparent.png": encode(image.quantize(16), "PNG", transparency=3),
        "palette_half_transparent.png": encode(image.quantize(4), "PNG", transparency=bytes((0, 51, 128, 255))),
        "rgb_transparent.png": encode(image, "PNG", transparency=(1, 2, 3)),
        "rgba.png": encode(alpha, "PNG"),
        "gray_alpha.png": encode(alpha.convert("LA"), "PNG"),
        "one_bit.png": encode(image.convert("1"), "PNG"),
        "deep_gray.png": png(WIDTH, HEIGHT, 16, 0, deep_rows(ramp)),
        "deep_rgb.png": png(WIDTH, HEIGHT, 16, 2, deep_rows(np.dstack((ramp, ramp, ramp)))),
        "animated.png": encode(image, "PNG", save_all=True, append_images=[turned]),
        "animated.apng": encode(image, "PNG", save_all=True, append_images=[turned]),
        "lossy.webp": encode(image, "WEBP"),
        "lossless.webp": encode(image, "WEBP", lossless=True),
        "alpha.webp": encode(alpha, "WEBP", lossless=True),
        "animated.webp": encode(image, "WEBP", save_all=True, append_images=[turned]),
        "one_frame.gif": encode(image, "GIF"),
        "animated.gif": encode(image, "GIF", save_all=True, append_images=[turned]),
        "image.bmp": encode(image, "BMP"),
        "palette.bmp": encode(image.quantize(16), "BMP"),
        "image.ppm": encode(image, "PPM"),
        "deep.pgm": b"P5 2 1 65535\n\x00\x00\xff\xff",
        "plain_text.ppm": b"P3 2 1 255 255 0 0 0 0 255",
        "several_pages.tif": encode(image, "TIFF", save_all=True, append_images=[turned]),
        "deep.tiff": encode(Image.fromarray(ramp), "TIFF"),
    }
    files |= {f"tiff_{name}.tif": encode(image, "TIFF", compression=how) for name, how in TIFF_COMPRESSIONS.items()}
    files |= {f"subsampling_{name}.jpg": encode_jpeg(pixels, name) for name in JPEG_SUBSAMPLINGS}
    files |= {
        f"{height}x{width}.{suffix}": encode(Image.fromarray(smooth_pixels(height, width)), kind)
        for height, width in ((1, 1), (1, 7), (17, 3))
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"))
    }
    files |= {
        f"orientation_{orientation}.{suffix}": oriented(kind, orientation)
        for kind, suffix in ORIENTED_FORMATS.items()
        for orientation in range(1, 9)
    }
    return files


def unreadable_files() -> dict[str, bytes]:
    """Return names and contents of files that must be rejected."""
    image = Image.fromarray(smooth_pixels(64, 64))
    row = b"\x00\xff\x00\x00"
    files = {
        "empty.jpg": b"",
        "text.jpg": b"This is no image.\n" * 20,
        "web_page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n",
        "drawing.png": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "document.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "only_the_start.jpg": b"\xff\xd8\xff",
        "only_the_signature.png": b"\x89PNG\r\n\x1a\n",
        "floating_point.tif": encode(image.convert("F"), "TIFF"),
        "huge_header.png": png(25_000, 25_000, 8, 2, row),
        "large_header.png": png(12_000, 10_000, 8, 2, row),
        "huge_header.gif": b"GIF89a"
        + b"\xff" * 4
        + bytes(3)
        + b","
        + bytes(4)
        + b"\xff" * 4
        + b"\x00\x02\x02\x4c\x01\x00;",
        "huge_header.ppm": b"P6 60000 60000 255\n\x00\x00\x00",
        "wrong_checksum.png": encode(image, "PNG").replace(b"IDAT", b"IDAT\x55", 1),
    }
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif")):
        whole = encode(image, kind)
        files[f"truncated.{suffix}"] = whole[: len(whole) * 2 // 3]
    files["truncated.bmp"] = encode(image, "BMP")[:-300]
    files["truncated_progressive.jpg"] = encode(image, "JPEG", progressive=True)[:-200]
    return files


def write_odd_files(folder: Path) -> tuple[list[str], list[str]]:
    """Write every odd file into a folder.

    Args:
        folder: Existing folder.

    Returns:
        The names that must be readable and those that must not, sorted.
    """
    readable, unreadable = readable_files(), unreadable_files()
    for name, content in (readable | unreadable).items():
        (folder / name).write_bytes(content)
    return sorted(readable), sorted(unreadable)
