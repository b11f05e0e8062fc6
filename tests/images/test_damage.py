import gzip
import io
import pickle
import struct
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images import decode
from belvedere.images.decode import decode_image, read_image
from belvedere.images.formats import COPY_AGAIN
from odd_files import encode, smooth_pixels

HEIGHT, WIDTH = 200, 300
NOISE = np.random.default_rng(0).integers(-30, 31, (HEIGHT, WIDTH, 3))
NOISY = Image.fromarray((smooth_pixels(HEIGHT, WIDTH) + NOISE).clip(0, 255).astype(np.uint8))
JPEG = encode(NOISY, "JPEG", quality=95)
FILES = {
    "JPEG": JPEG,
    "progressive": encode(NOISY, "JPEG", progressive=True),
    "CMYK": encode(NOISY.convert("CMYK"), "JPEG"),
    "PNG": encode(NOISY, "PNG"),
    "GIF": encode(NOISY, "GIF"),
    "BMP": encode(NOISY, "BMP"),
    "TIFF": encode(NOISY, "TIFF"),
    "TIFF with tags at the end": encode(NOISY, "TIFF", compression="tiff_adobe_deflate"),
    "WebP": encode(NOISY, "WEBP"),
    "AVIF": encode(NOISY, "AVIF", speed=10),
    "PPM": encode(NOISY, "PPM"),
}
PACKED = [name for name in FILES if name not in ("BMP", "TIFF", "PPM")]


def reason(content: bytes) -> str:
    with pytest.raises(InvalidImageError) as caught:
        read_image(content)
    return caught.value.reason


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fraction", [0.003, 0.01, 0.3, 0.7, 0.97])
def test_a_file_that_was_cut_is_named_with_what_to_do(name: str, fraction: float) -> None:
    content = FILES[name][: max(16, int(len(FILES[name]) * fraction))]
    assert COPY_AGAIN in reason(content)
    assert f"{len(content):,}" in reason(content) or "last scans" in reason(content)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7])
def test_zeros_in_place_of_pixels_are_refused(name: str, fraction: float) -> None:
    content = FILES[name]
    kept = int(len(content) * fraction)
    assert COPY_AGAIN in reason(content[:kept] + bytes(len(content) - kept))


@pytest.mark.parametrize("name", ["JPEG", "progressive", "CMYK"])
def test_zeros_within_a_jpeg_are_refused(name: str) -> None:
    content, middle = FILES[name], len(FILES[name]) // 2
    assert COPY_AGAIN in reason(content[:middle] + bytes(4096) + content[middle + 4096 :])
    assert COPY_AGAIN in reason(content[:middle] + bytes(len(content) - middle - 2) + content[-2:])


@pytest.mark.parametrize("name", FILES)
def test_zeros_behind_an_image_do_not_matter(name: str) -> None:
    np.testing.assert_array_equal(read_image(FILES[name] + bytes(5000)), read_image(FILES[name]))


@pytest.mark.parametrize("name", ["JPEG", "CMYK"])
def test_missing_rows_of_a_jpeg_with_an_end_marker_are_refused(name: str) -> None:
    content = FILES[name]
    assert "rows" in reason(content[: len(content) // 2] + b"\xff\xd9")


def test_a_whole_jpeg_of_zeros_and_gray_is_read() -> None:
    for color in (0, 128):
        content = encode(Image.new("RGB", (4000, 4000), (color,) * 3), "JPEG", optimize=True)
        decoded = decode_image(content)
        assert decoded.warnings == ()
        assert (decoded.pixels == color).all()


PCX, SVG = encode(NOISY, "PCX"), b'<?xml version="1.0"?><svg width="9"/>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PCX, "PCX"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM"),
        (b"Pf\n1 1\n-1.0\n" + bytes(4), "PFM"),
        (gzip.compress(SVG, mtime=0), "SVG"),
        *((pickle.dumps(smooth_pixels(), protocol), "pickle") for protocol in range(6)),
        *((pickle.dumps({"images": [1, 2]}, protocol), "pickle") for protocol in range(6)),
        (b"junk\0" + JPEG, "JPEG begins after 5"),
        (b"\n" + FILES["PNG"], "PNG begins after 1"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + JPEG, "JPEG begins after 19"),
        (b"junk\0" + FILES["TIFF"], "TIFF begins after 5"),
        (FILES["PNG"].replace(b"\r\n", b"\n"), "as text"),
        (JPEG.decode("utf-8", "replace").encode(), "as text"),
        (JPEG.decode("latin-1").encode(), "as text"),
        (JPEG[:3], "no image"),
        (FILES["AVIF"][:20], "truncated"),
    ],
)
def test_what_is_there_instead_is_named(content: bytes, words: str) -> None:
    assert words in reason(content)
    assert ":" in reason(content)


def test_a_tiff_without_a_photometric_interpretation_is_named() -> None:
    file = io.BytesIO(FILES["TIFF"])
    content = bytearray(file.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    for number in range(struct.unpack_from("<H", content, first)[0]):
        place = first + 2 + 12 * number
        if struct.unpack_from("<H", content, place)[0] == 262:
            struct.pack_into("<H", content, place, 65_000)
    assert "tag 262" in reason(bytes(content))


def test_planes_of_a_large_tiff_are_joined_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    merging, merged = threading.Semaphore(1), Image.merge

    def merge(mode: str, bands: list[Image.Image]) -> Image.Image:
        assert merging.acquire(blocking=False)
        try:
            threading.Event().wait(0.05)
            return merged(mode, bands)
        finally:
            merging.release()

    file = io.BytesIO()
    tifffile.imwrite(file, np.array(NOISY).transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    content, expected = file.getvalue(), np.array(NOISY)
    monkeypatch.setattr(decode, "LARGE_PIXELS", HEIGHT * WIDTH - 1)
    monkeypatch.setattr(Image, "merge", merge)
    found: list[bool] = []

    def read() -> None:
        found.append(np.array_equal(read_image(content), expected))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 3
