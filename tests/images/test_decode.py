import errno
import os
import resource
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

import odd_files
from belvedere.errors import InvalidImageError
from belvedere.images import decode
from belvedere.images.limits import MAX_PIXELS
from belvedere.images.listing import list_images
from belvedere.images.pixels import to_rgb
from belvedere.images.resize import PADDING, letterbox_region, resize_image
from belvedere.types.model import Preprocess

READABLE = odd_files.readable_files()
UNREADABLE = odd_files.unreadable_files()
few = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def by_pillow(content: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(content)) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size > 0
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def refuse(*_: object) -> None:
    raise AssertionError("the slow path was taken")


# Odd files


@pytest.mark.parametrize("name", READABLE)
def test_odd_file_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(READABLE[name])
    decoded = decode.decode_image(path)
    check_pixels(decoded.pixels)
    np.testing.assert_array_equal(decoded.pixels, decode.read_image(READABLE[name]))
    np.testing.assert_array_equal(decoded.pixels, decode.read_image(str(path)))
    assert path.read_bytes() == READABLE[name]


@pytest.mark.parametrize("name", UNREADABLE)
def test_damaged_or_foreign_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(InvalidImageError) as caught:
        decode.read_image(path)
    assert caught.value.name == str(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    assert name not in caught.value.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "empty file"),
        ("text.jpg", "text instead of an image: get the file again"),
        ("web_page.png", "a web page (HTML) instead of an image: download the image itself"),
        ("postscript.jpg", "PostScript (EPS) is not supported: render it to PNG"),
        ("huge_header.png", "far more pixels than the limit of 100,000,000"),
        ("large_header.png", "12,000 x 10,000 pixels, over the limit of 100,000,000"),
        ("floating_point.tif", "Unsupported TIFF: floating-point samples. Save it as 8-bit gray or RGB."),
    ],
)
def test_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        decode.read_image(UNREADABLE[name])
    assert str(caught.value) == f"image: {reason}"


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "tif", "bmp"])
def test_truncated_file_says_so(kind: str) -> None:
    with pytest.raises(InvalidImageError, match="truncated"):
        decode.read_image(UNREADABLE[f"truncated.{kind}"])


def test_written_folder_is_what_is_listed(tmp_path: Path) -> None:
    readable, unreadable = odd_files.write_odd_files(tmp_path)
    assert [path.name for path in list_images(tmp_path)] == sorted(readable + unreadable)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    for name, reason in {
        "folder.jpg": "is a folder",
        "pipe.jpg": "is not a regular file",
        "missing.jpg": "no such file",
        "nowhere.jpg": "no such file",
        "with\0null.jpg": "cannot be opened: embedded null byte",
        "x" * 300 + ".jpg": "cannot be opened: File name too long",
    }.items():
        with pytest.raises(InvalidImageError) as caught:
            decode.read_image(tmp_path / name)
        assert caught.value.reason == reason


def test_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "x.jpg").write_bytes(READABLE["gray.jpg"])
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InvalidImageError, match=rf"x\.jpg: .*{os.strerror(errno.EACCES)}$"):
        decode.read_image(tmp_path / "x.jpg")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = READABLE["lossless.webp"]
    path = tmp_path / "x.webp"
    path.write_bytes(content)
    pixels = odd_files.WIDTH * odd_files.HEIGHT
    assert decode.decode_image(path, max_pixels=pixels, max_bytes=len(content)).pixels.size == pixels * 3
    for name in ("lossless.webp", "progressive.jpg", "cmyk.jpg"):
        with pytest.raises(InvalidImageError, match=r"24 x 16 .* 383"):
            decode.decode_image(READABLE[name], max_pixels=pixels - 1, reduce=False)
    with pytest.raises(InvalidImageError, match=r"\b10\b"):
        decode.decode_image(content, max_bytes=10)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InvalidImageError, match=r"\b10\b"):
        decode.decode_image(path, max_bytes=10)


@pytest.mark.parametrize("name", [name for name in UNREADABLE if "header" in name or "bomb" in name])
def test_bomb_is_refused_quickly_and_with_little_memory(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(InvalidImageError):
        decode.read_image(UNREADABLE[name])
    assert time.perf_counter() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


# Colors


def exact(name: str, kind: str, **options: object) -> NDArray[np.uint8]:
    """The pixels of a one-row image of a mode, as `read_image` gives them."""
    values = {
        "RGBA": [[(255, 0, 0, 128), (0, 0, 255, 0), (10, 20, 30, 255), (200, 100, 50, 51)]],
        "LA": [[(100, 51), (0, 0), (7, 255)]],
        "L": [[0, 128, 255]],
    }[name]
    image = Image.fromarray(np.array(values, np.uint8))
    assert image.mode == name
    return decode.read_image(odd_files.encode(image, kind, **options))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_transparency_is_laid_over_white(kind: str, options: dict[str, object]) -> None:
    expected = [[[255, 127, 127], [255, 255, 255], [10, 20, 30], [244, 224, 214]]]
    assert exact("RGBA", kind, **options).tolist() == expected


def test_gray_with_transparency_is_laid_over_white() -> None:
    assert exact("LA", "PNG").tolist() == [[[224] * 3, [255] * 3, [7] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_gray_becomes_three_equal_channels(kind: str) -> None:
    assert exact("L", kind).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 2, 3])
    one = decode.read_image(odd_files.encode(image, "PNG", transparency=1))
    assert one.tolist() == [[[255, 0, 0], [255, 255, 255], [10, 20, 30], [200, 100, 50]]]
    several = decode.read_image(odd_files.encode(image, "PNG", transparency=bytes((128, 0, 255, 51))))
    assert several.tolist() == [[[255, 127, 127], [255, 255, 255], [10, 20, 30], [244, 224, 214]]]
    gif = decode.read_image(odd_files.encode(image, "GIF", transparency=1))
    assert gif.tolist() == one.tolist()


def test_one_color_that_means_transparent() -> None:
    image = Image.fromarray(np.array([[(1, 2, 3), (4, 5, 6)]], np.uint8))
    assert decode.read_image(odd_files.encode(image, "PNG", transparency=(1, 2, 3))).tolist() == [
        [[255, 255, 255], [4, 5, 6]]
    ]


def test_one_bit() -> None:
    content = odd_files.png(3, 1, 1, 0, b"\x00\xa0")
    assert decode.read_image(content).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


def test_gray_of_16_bits_is_rounded() -> None:
    ramp = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(ramp / 257).astype(np.uint8)
    for content in (
        odd_files.png(256, 256, 16, 0, odd_files.deep_rows(ramp)),
        odd_files.encode(Image.fromarray(ramp), "TIFF"),
        b"P5 256 256 65535\n" + ramp.astype(">u2").tobytes(),
    ):
        pixels = decode.read_image(content)
        for channel in range(3):
            np.testing.assert_array_equal(pixels[:, :, channel], expected)


def test_color_of_16_bits_keeps_its_high_byte() -> None:
    values = np.random.default_rng(0).integers(0, 65_536, (8, 8, 3), dtype=np.uint16)
    pixels = decode.read_image(odd_files.png(8, 8, 16, 2, odd_files.deep_rows(values)))
    np.testing.assert_array_equal(pixels, values >> 8)
    assert difference(pixels, np.round(values / 257).astype(np.uint8)) <= 1


def test_cmyk_jpeg_is_not_inverted() -> None:
    colors = {"white": (255, 255, 255), "red": (255, 0, 0), "black": (0, 0, 0)}
    for name, expected in colors.items():
        content = odd_files.encode(Image.new("RGB", (16, 16), name).convert("CMYK"), "JPEG", quality=98)
        assert difference(decode.read_image(content), np.full((16, 16, 3), expected, np.uint8)) <= 4


def test_rgb_jpeg_keeps_its_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_decode_with_pillow", refuse)
    content = odd_files.encode(Image.new("RGB", (16, 16), (200, 100, 50)), "JPEG", keep_rgb=True, quality=98)
    assert difference(decode.read_image(content), np.full((16, 16, 3), (200, 100, 50), np.uint8)) <= 2


def test_32_bit_gray() -> None:
    within = Image.fromarray(np.array([[0, 65_535]], np.int32))
    assert decode.read_image(odd_files.encode(within, "TIFF")).tolist() == [[[0] * 3, [255] * 3]]
    for beyond in ([[0, 65_536]], [[-1, 0]]):
        content = odd_files.encode(Image.fromarray(np.array(beyond, np.int32)), "TIFF")
        with pytest.raises(InvalidImageError, match="32-bit pixels"):
            decode.read_image(content)


# Orientation, frames, damage


@pytest.mark.parametrize("kind", odd_files.ORIENTED_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    content = odd_files.oriented(kind, orientation)
    decoded = decode.decode_image(content)
    assert difference(decoded.pixels, by_pillow(content)) <= (decode.JPEG_AGREEMENT if kind == "JPEG" else 0)
    check_pixels(decoded.pixels)
    if kind != "TIFF":  # Pillow turns it before anyone can ask
        assert decoded.warnings == ((f"rotated by its EXIF orientation ({orientation})",) if orientation > 1 else ())


def test_orientation_6_by_hand() -> None:
    pixels = odd_files.smooth_pixels()
    np.testing.assert_array_equal(decode.read_image(odd_files.oriented("PNG", 6)), np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_unknown_orientation_is_no_orientation(orientation: int) -> None:
    assert decode.decode_image(odd_files.oriented("JPEG", orientation)).warnings == ()


def test_orientation_in_xmp_alone_counts() -> None:
    decoded = decode.decode_image(READABLE["xmp.jpg"])
    assert decoded.warnings == ("rotated by its EXIF orientation (6)",)
    assert decoded.pixels.shape == (odd_files.WIDTH, odd_files.HEIGHT, 3)


@pytest.mark.parametrize(
    "name", ["animated.gif", "animated.png", "animated.apng", "animated.webp", "several_pages.tif"]
)
def test_first_frame_is_read_and_the_others_are_mentioned(name: str) -> None:
    decoded = decode.decode_image(READABLE[name])
    assert decoded.warnings == ("first of 2 frames",)
    assert difference(decoded.pixels, by_pillow(READABLE[name])) == 0


def test_damaged_later_frame_does_not_change_the_first() -> None:
    whole = READABLE["several_pages.tif"]
    first = decode.read_image(whole)
    np.testing.assert_array_equal(decode.read_image(whole[:-200]), first)


def test_preview_behind_a_jpeg_is_not_mentioned() -> None:
    assert decode.decode_image(READABLE["two_images.jpg"]).warnings == ()


def test_damage_within_a_jpeg_is_mentioned() -> None:
    decoded = decode.decode_image(READABLE["damaged_middle.jpg"])
    assert decoded.pixels.shape == (64, 64, 3)
    assert [note.split(":")[0] for note in decoded.warnings] == ["damaged JPEG data"]


def test_damage_within_a_cmyk_jpeg_is_mentioned() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    whole = odd_files.encode(Image.fromarray(noise, mode="CMYK"), "JPEG")
    assert decode.decode_image(whole).warnings == ()
    damaged = whole[:3000] + b"\xff\x00" * 10 + whole[3020:]
    assert decode.decode_image(damaged).warnings[0].startswith("damaged JPEG data: ")


# The fast path and the slow one


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    quality=st.integers(30, 98),
    subsampling=st.sampled_from((*odd_files.JPEG_SUBSAMPLINGS, "gray", "progressive", "optimized")),
    seed=st.integers(0, 999),
    noisy=st.booleans(),
)
@few
def test_both_paths_agree(height: int, width: int, quality: int, subsampling: str, seed: int, noisy: bool) -> None:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = noise if noisy else odd_files.smooth_pixels(height, width, seed)
    image = Image.fromarray(pixels)
    if subsampling == "gray":
        content = odd_files.encode(image.convert("L"), "JPEG", quality=quality)
    elif subsampling == "progressive":
        content = odd_files.encode(image, "JPEG", quality=quality, progressive=True, subsampling=seed % 3)
    elif subsampling == "optimized":
        content = odd_files.encode(image, "JPEG", quality=quality, optimize=True, restart_marker_blocks=seed % 5)
    else:
        content = odd_files.encode_jpeg(pixels, subsampling, quality)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_decode_with_pillow", refuse)
        fast = decode.read_image(content)
    slow = decode._decode_with_pillow(content, MAX_PIXELS).pixels
    assert difference(fast, slow) <= decode.JPEG_AGREEMENT


# Anything at all


def read_or_refuse(content: bytes) -> None:
    try:
        decoded = decode.decode_image(content, max_pixels=1_000_000)
    except InvalidImageError as error:
        assert error.reason
        return
    check_pixels(decoded.pixels)


VALID = [
    content for name, content in READABLE.items() if not name.startswith("orientation") and 0 < len(content) < 4_000
]


@given(start=st.sampled_from([content[:12] for content in VALID] + [b""]), rest=st.binary(max_size=300))
@few
def test_random_bytes(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + rest)


@given(content=st.sampled_from(VALID), data=st.data())
@settings(few, max_examples=250)
def test_mutated_file(content: bytes, data: st.DataObject) -> None:
    places = st.integers(0, len(content) - 1) | st.integers(0, min(len(content) - 1, 60))
    changes = data.draw(st.lists(st.tuples(places, st.binary(min_size=1, max_size=5)), min_size=1, max_size=4))
    mutated = bytearray(content)
    for place, replacement in changes:
        mutated[place : place + len(replacement)] = replacement
    read_or_refuse(bytes(mutated))


@given(content=st.sampled_from(VALID), fraction=st.floats(0, 1))
@few
def test_cut_file(content: bytes, fraction: float) -> None:
    read_or_refuse(content[: int(len(content) * fraction)])


# Threads


def test_many_threads_read_the_same_and_leave_the_warnings_alone() -> None:
    names = [name for name in READABLE if not name.startswith("orientation")]
    alone = [decode.read_image(READABLE[name]) for name in names]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            together = pool.map(decode.read_image, [READABLE[name] for name in names])
            for expected, pixels in zip(alone, together, strict=True):
                np.testing.assert_array_equal(pixels, expected)
    assert warnings.filters == filters
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_slow_path_runs_in_threads_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=10)
    original: Callable[[Image.Image], NDArray[np.uint8]] = to_rgb

    def wait(image: Image.Image) -> NDArray[np.uint8]:
        meeting.wait()
        return original(image)

    monkeypatch.setattr(decode, "to_rgb", wait)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decode.read_image, [READABLE["rgba.png"]] * 2))


# Fitting


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (17, 3), (90, 40), (40, 90), (33, 32)])
def test_image_is_fitted(resize: str, shape: tuple[int, int]) -> None:
    pixels = odd_files.smooth_pixels(*shape)
    fitted = resize_image(pixels, Preprocess(32, 48, resize))
    check_pixels(fitted)
    assert fitted.shape == (32, 48, 3)
    assert fitted.min() >= min(pixels.min(), PADDING)
    assert fitted.max() <= max(pixels.max(), PADDING)


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
def test_image_that_fits_is_left_alone(resize: str) -> None:
    pixels = odd_files.smooth_pixels(32, 48)
    assert resize_image(pixels, Preprocess(32, 48, resize)) is pixels


def test_stretch_keeps_everything_and_crop_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    stretched = resize_image(pixels, Preprocess(20, 20, "stretch"))
    assert stretched[10, 0, 0] == 0
    assert stretched[10, 10, 0] == 255
    assert resize_image(pixels, Preprocess(20, 20, "crop")).min() == 255


def test_letterbox_keeps_the_aspect_ratio_and_pads_with_gray() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    fitted = resize_image(pixels, Preprocess(32, 30, "letterbox"))
    assert letterbox_region(20, 60, Preprocess(32, 30, "letterbox")) == (11, 0, 10, 30)
    assert (fitted[:11] == PADDING).all()
    assert (fitted[21:] == PADDING).all()
    assert (fitted[11:21, :14] == 0).all()
    assert (fitted[11:21, 16:] == 255).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(8, 40))
def test_letterbox_is_that_of_pillow(height: int, width: int, rows: int, columns: int) -> None:
    if min(height / width, width / height) < 0.1:  # Pillow may round a side to 0
        return
    pixels = odd_files.smooth_pixels(height, width)
    padded = ImageOps.pad(Image.fromarray(pixels), (columns, rows), Image.Resampling.BICUBIC, (PADDING,) * 3)
    fitted = resize_image(pixels, Preprocess(rows, columns, "letterbox", "bicubic"))
    np.testing.assert_array_equal(fitted, padded)


def test_shrinking_averages() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    fitted = resize_image(pixels, Preprocess(8, 8))
    assert abs(fitted.astype(int) - 127).max() <= 10


def test_read_input_is_read_and_fit(tmp_path: Path) -> None:
    preprocess = Preprocess(10, 12, "crop")
    path = tmp_path / "x.gif"
    path.write_bytes(READABLE["animated.gif"])
    decoded = decode.read_input(path, preprocess)
    assert decoded.warnings == ("first of 2 frames",)
    np.testing.assert_array_equal(decoded.pixels, resize_image(decode.read_image(path), preprocess))
    with pytest.raises(InvalidImageError):
        decode.read_input(UNREADABLE["empty.jpg"], preprocess)


# Listing


def test_images_are_listed_in_order_without_hidden_ones_or_linked_folders(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "photos"
    for name in ("b/2.PNG", "b/10.jpg", "a/x.webp", "a/deep/er/y.tiff", "c.jpg", ".hidden/z.jpg", "b/.z.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("notes.txt", "b/Thumbs.db", "no_suffix", "vector.svg"):
        (folder / name).touch()
    elsewhere.mkdir()
    (elsewhere / "w.jpg").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "circle").symlink_to(folder)
    (folder / "linked.jpg").symlink_to(elsewhere / "w.jpg")
    listed = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    assert listed == ["a/deep/er/y.tiff", "a/x.webp", "b/10.jpg", "b/2.PNG", "c.jpg", "linked.jpg"]


def test_import_is_light() -> None:
    program = (
        "import sys, belvedere.images.decode; print(sorted({'torch', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_small_file_of_very_many_pixels_is_refused_before_it_is_decoded() -> None:
    """What a damaged head of an animated WebP came to: 75 million pixels in 4 kB, which took seconds."""
    file = BytesIO()
    small = Image.new("RGB", (64, 64), "red")
    small.save(file, "WEBP", save_all=True, append_images=[small.rotate(5)])
    content = bytearray(file.getvalue())
    place = content.index(b"VP8X") + 12  # of the canvas: width - 1 and height - 1, three bytes each
    content[place : place + 6] = (9000 - 1).to_bytes(3, "little") * 2
    with pytest.raises(InvalidImageError, match=f"9,000 x 9,000 .* {len(content):,} "):
        decode.read_image(bytes(content))


def test_a_large_image_of_one_color_is_read() -> None:
    file = BytesIO()
    Image.new("RGB", (5000, 5000), "white").save(file, "PNG")
    assert decode.read_image(file.getvalue()).shape == (5000, 5000, 3)


LARGE = Preprocess(24, 24)


@pytest.mark.parametrize("turned", [1, 6])
def test_reduced_decoding_stays_close_to_the_whole(turned: int) -> None:
    """A JPEG much larger than the input is decoded at a part of its scale; the input hardly shows it."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 255, (20, 30, 3), np.uint8))
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = turned
    small.resize((900, 600), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90, exif=exif)
    whole, reduced = (decode.read_input(file.getvalue(), LARGE, draft=reduced) for reduced in (False, True))
    assert whole.warnings == reduced.warnings
    difference = np.abs(whole.pixels.astype(int) - reduced.pixels)
    assert 0 < difference.max() <= 25  # not the same, so it was reduced; of noise, which is the worst
    assert difference.mean() < 4


def test_what_is_not_much_larger_than_the_input_is_read_whole() -> None:
    random = np.random.default_rng(0)
    file = BytesIO()
    Image.fromarray(random.integers(0, 255, (140, 140, 3), np.uint8)).save(file, "JPEG")
    whole, reduced = (decode.read_input(file.getvalue(), LARGE, draft=reduced) for reduced in (False, True))
    assert (whole.pixels == reduced.pixels).all()


def many_scans(scans: int, side: int = 16) -> bytes:
    """A gray JPEG that goes over its pixels again and again."""
    whole = odd_files.encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    return whole[:-2] + (b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + bytes(5)) * scans + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decode.read_image(many_scans(60))  # quick, since it is small
    monkeypatch.setattr("simplejpeg.decode_jpeg", refuse)
    monkeypatch.setattr(decode, "to_rgb", refuse)
    for content in (many_scans(5000), many_scans(40, 5000), many_scans(2000).replace(b"\xff\xc2", b"\xff\xff\xc2", 1)):
        with pytest.raises(InvalidImageError, match="scans"):
            decode.read_image(content)


def test_what_only_looks_like_scans_is_no_reason_to_refuse() -> None:
    """A film behind a phone's image, and what is written in segments."""
    whole = odd_files.encode(Image.new("L", (16, 16), 90), "JPEG")
    marks = b"\xff\xda" * 1000
    segment = b"\xff\xe5" + (len(marks) + 2).to_bytes(2, "big") + marks
    decoded = decode.decode_image(whole[:2] + segment * 3 + whole[2:] + marks * 10)
    assert decoded.warnings == ()
    assert difference(decoded.pixels, decode.read_image(whole)) == 0


@pytest.mark.parametrize(
    "head", [b"P1 2000 2000\n", b"P2 1000 1000 255\n", b"P3 800 800 255\n", b"P5 3000 3000 9\n", b"P6 2000 2000 999\n"]
)
def test_a_large_file_that_only_a_slow_decoder_reads_is_refused(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "to_rgb", refuse)
    with pytest.raises(InvalidImageError, match=r"PPM.* PNG"):
        decode.read_image(head + b"1 " * 3_000_000)


def test_a_large_file_that_a_quick_decoder_reads_is_read() -> None:
    assert decode.read_image(b"P6 2000 1000 255\n" + bytes(6_000_000)).shape == (1000, 2000, 3)
    assert decode.read_image(b"P3 100 100 255\n" + b"9 " * 30_000).max() == 9


# BMP


def bmp(alpha: int, head_size: int, compression: int = 3) -> bytes:
    """Return a BMP of 32 bits with the alpha mask of version 4 (108 bytes) or 5 (124)."""
    pixels = odd_files.smooth_pixels()
    height, width = pixels.shape[:2]
    rows = np.dstack((pixels[::-1, :, ::-1], np.full((height, width), alpha, np.uint8))).tobytes()
    head = struct.pack("<IiiHHIIiiII", head_size, width, height, 1, 32, compression, len(rows), 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    head = head.ljust(head_size, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


@pytest.mark.parametrize("head_size", [108, 124])
@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bmp_whose_alpha_is_empty_is_opaque(head_size: int, alpha: int) -> None:
    content = bmp(alpha, head_size)
    np.testing.assert_array_equal(decode.read_image(content), odd_files.smooth_pixels())
    with Image.open(BytesIO(content)) as image:
        np.testing.assert_array_equal(decode.decode_pillow(image).pixels, odd_files.smooth_pixels())


def test_the_padding_of_a_bmp_is_no_alpha() -> None:
    np.testing.assert_array_equal(decode.read_image(bmp(0, 108, compression=0)), odd_files.smooth_pixels())


def test_alpha_of_a_bmp_is_over_white() -> None:
    pixels = odd_files.smooth_pixels().astype(int)
    assert difference(decode.read_image(bmp(51, 108)), np.round(pixels * 0.2 + 255 * 0.8).astype(np.uint8)) <= 1
