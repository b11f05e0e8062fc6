"""TIFF layouts: each is read as tifffile reads it, or refused by name."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
import tifffile
from numpy.typing import NDArray
from PIL import Image

from belvedere.errors import InvalidImageError
from belvedere.images.decode import decode_image, read_image
from odd_files import encode, encode_jpeg, smooth_pixels
from tiff_files import ORDERS, PACK, Layout, Values, write_directory, write_tiff

HEIGHT, WIDTH = 21, 19
WHITE_IS_ZERO, GRAY, COLOR, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
NUM_COLORS = {WHITE_IS_ZERO: 1, GRAY: 1, COLOR: 3, PALETTE: 1, CMYK: 4}
# Photometric interpretation and extra bands; those that are read, with their bits.
READ: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {
    (WHITE_IS_ZERO, ()): (1, 2, 4, 8, 16),
    (GRAY, ()): (1, 2, 4, 8, 16),
    (GRAY, (0,)): (8,),
    (GRAY, (2,)): (8,),
    (COLOR, ()): (8, 16),
    (COLOR, (0,)): (8, 16),
    (COLOR, (1,)): (8, 16),
    (COLOR, (2,)): (8, 16),
    (COLOR, (999,)): (8,),
    (COLOR, (0, 0)): (8,),
    (COLOR, (1, 0)): (8,),
    (COLOR, (2, 0)): (8,),
    (COLOR, (0, 0, 0)): (8,),
    (COLOR, (2, 0, 0)): (8,),
    (CMYK, ()): (8, 16),
    (CMYK, (0,)): (8,),
}
REFUSED = ((WHITE_IS_ZERO, (2,)), (GRAY, (1,)), (GRAY, (0, 0)), (GRAY, (0,) * 12), (COLOR, (0,) * 4), (CMYK, (2,)))


def random_values(layout: Layout, seed: int = 0) -> Values:
    """Return random samples, (HEIGHT, WIDTH, bands); associated alpha is at least as high as its colors."""
    bands = NUM_COLORS[layout.photometric] + len(layout.extra)
    kind = np.uint16 if layout.bits > 8 else np.uint8
    values = np.random.default_rng(seed).integers(0, 1 << layout.bits, (HEIGHT, WIDTH, bands)).astype(kind)
    if layout.extra[:1] == (1,):
        values[:, :, :-1] = np.minimum(values[:, :, :-1], values[:, :, NUM_COLORS[layout.photometric], None])
    return values


def expected_pixels(values: Values, layout: Layout) -> NDArray[np.uint8]:
    """Return the RGB pixels of samples, by the documented rule."""
    samples, num_colors = values.astype(np.int64), NUM_COLORS[layout.photometric]
    if layout.bits == 16:
        rounds = layout.photometric in (WHITE_IS_ZERO, GRAY) or layout.planes == 2
        samples = (samples + 128) // 257 if rounds else samples >> 8
    else:
        samples = samples * 255 // ((1 << layout.bits) - 1)
    colors, alpha = samples[:, :, :num_colors], samples[:, :, num_colors : num_colors + 1]
    if layout.photometric == WHITE_IS_ZERO:
        colors = 255 - colors
    if layout.photometric == CMYK:
        return np.array(Image.fromarray(colors.astype(np.uint8), "CMYK").convert("RGB"))
    if layout.extra[:1] == (1,):
        colors = colors + 255 - alpha
    elif layout.extra[:1] in ((2,), (999,)):
        colors = np.round((colors * alpha + 255 * (255 - alpha)) / 255)
    return np.broadcast_to(colors, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def variants(layout: Layout) -> Iterator[Layout]:
    """Yield a layout in all compressions, byte orders, predictors, fill orders, and in strips and tiles."""
    for compression, order, is_big in itertools.product(PACK, ORDERS, (False, True)):
        stored = replace(layout, compression=compression, order=order, is_big=is_big)
        yield from (stored, replace(stored, tile=16))
        if layout.bits in (8, 16) and compression not in (1, 32773):
            yield replace(stored, predictor=2)
        if layout.bits != 16:
            yield replace(stored, fill_order=2)


def is_read_of(layout: Layout) -> bool:
    """Return whether a variant of a layout that is read is read too."""
    plain = not layout.extra and layout.photometric != CMYK
    return not (layout.is_big and layout.order == ">") and (layout.fill_order == 1 or plain)


def as_tifffile_reads(content: bytes, layout: Layout) -> Values:
    values = tifffile.imread(io.BytesIO(content))
    values = values if values.ndim == 3 else values[:, :, None]
    return values.transpose(1, 2, 0) if layout.planes == 2 and values.shape[:2] != (HEIGHT, WIDTH) else values


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(("kind", "bits"), [(kind, bits) for kind, read in READ.items() for bits in read])
def test_layout_is_read(kind: tuple[int, tuple[int, ...]], bits: int, planes: int) -> None:
    layout = Layout(kind[0], bits, planes, extra=kind[1])
    values = random_values(layout)
    expected = expected_pixels(values, layout).astype(int)
    for variant in variants(layout):
        content = write_tiff(values, variant)
        np.testing.assert_array_equal(as_tifffile_reads(content, variant), values, err_msg=str(variant))
        if is_read_of(variant):
            difference = np.abs(read_image(content) - expected).max()
            assert difference <= (kind[1][:1] == (1,)), variant  # alpha is divided out, and multiplied again
        else:
            with pytest.raises(InvalidImageError, match=r"Unsupported TIFF: .*(order 2|BigTIFF)"):
                read_image(content)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("kind", [*READ, *REFUSED])
def test_other_bits_are_refused(kind: tuple[int, tuple[int, ...]], bits: int, planes: int) -> None:
    layout = Layout(kind[0], bits, planes, extra=kind[1])
    if bits in READ.get(kind, ()):
        return
    for compression, order in itertools.product((1, 5), ORDERS):
        content = write_tiff(random_values(layout), replace(layout, compression=compression, order=order))
        with pytest.raises(InvalidImageError, match=rf"Unsupported TIFF: ({bits} bits|\d+ bands)"):
            read_image(content)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette(bits: int) -> None:
    colors = np.random.default_rng(1).integers(0, 65_536, (3, 1 << bits))
    layout = Layout(PALETTE, bits, tags=((320, 3, tuple(colors.ravel().tolist())),))
    values = random_values(layout)
    expected = colors.T[values[:, :, 0]] >> 8
    for compression, order, tile in itertools.product(PACK, ORDERS, (0, 16)):
        content = write_tiff(values, replace(layout, compression=compression, order=order, tile=tile))
        np.testing.assert_array_equal(read_image(content), expected)
    dark = replace(layout, tags=((320, 3, tuple((colors.ravel() >> 8).tolist())),))
    for unread in (dark, replace(layout, planes=2), replace(layout, fill_order=2)):
        with pytest.raises(InvalidImageError, match=r"palette|order 2"):
            read_image(write_tiff(values, unread))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, GRAY])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_fax(compression: str, photometric: int, fill_order: int) -> None:
    image = Image.fromarray(smooth_pixels()).convert("1")
    content = encode(image, "TIFF", compression=compression, tiffinfo={262: photometric, 266: fill_order})
    [page] = tifffile.TiffFile(io.BytesIO(content)).pages
    black = page.asarray() == (photometric == WHITE_IS_ZERO)
    np.testing.assert_array_equal(read_image(content)[:, :, 0], np.where(black, 0, 255))


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("colors", ["ycbcr", "rgb", "gray"])
def test_jpeg_compression(tile: tuple[int, int] | None, colors: str) -> None:
    pixels, file = smooth_pixels(40, 50), io.BytesIO()
    if colors == "gray":
        tifffile.imwrite(file, pixels[:, :, 0], photometric="minisblack", compression="jpeg", tile=tile)
    else:
        options = {"level": 90, "outcolorspace": colors}
        tifffile.imwrite(file, pixels, photometric="rgb", compression="jpeg", compressionargs=options, tile=tile)
    values = tifffile.imread(io.BytesIO(file.getvalue()))
    expected = values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)
    assert np.abs(read_image(file.getvalue()).astype(int) - expected).max() <= 1


def test_jpeg_compression_of_cmyk() -> None:
    content = encode(Image.fromarray(smooth_pixels()).convert("CMYK"), "TIFF", compression="jpeg")
    expected = Image.fromarray(tifffile.imread(io.BytesIO(content)), "CMYK").convert("RGB")
    np.testing.assert_array_equal(read_image(content), np.array(expected))


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_old_jpeg_compression(subsampling: str) -> None:
    pixels = smooth_pixels()
    jpeg, step = encode_jpeg(pixels, subsampling), 1 if subsampling == "444" else 2
    tags = {256: (pixels.shape[1],), 257: (pixels.shape[0],), 258: (8, 8, 8), 259: (6,), 262: (YCBCR,), 273: (8,)}
    tags |= {277: (3,), 278: (pixels.shape[0],), 279: (len(jpeg),), 513: (8,), 514: (len(jpeg),), 530: (step, step)}
    content = write_directory(jpeg, [(number, 4, values) for number, values in tags.items()], Layout())
    expected = simplejpeg.decode_jpeg(jpeg, fastupsample=True)
    assert np.abs(read_image(content).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int8", "signed"),
        ("int16", "signed"),
        ("float16", "floating-point"),
        ("float32", "floating-point"),
        ("float64", "floating-point"),
        ("complex64", "complex"),
        ("uint64", "64 bits"),
    ],
)
def test_other_numbers_are_refused(kind: str, words: str) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.ones((9, 9), kind))
    with pytest.raises(InvalidImageError, match=f"Unsupported TIFF: {words}"):
        read_image(file.getvalue())


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({262: 8}, "CIE Lab"),
        ({262: 32803}, "camera"),
        ({262: 34892}, "camera"),
        ({262: 77}, "interpretation 77"),
        ({259: 34712}, "JPEG 2000"),
        ({259: 50002}, "JPEG XL"),
        ({259: 4}, "compression.* 8 "),
        ({259: 6}, "old-style JPEG"),
        ({262: YCBCR}, "YCbCr"),
        ({262: CMYK}, "3 bands.* 4 "),
        ({258: 5}, "5 bits"),
        ({277: 40_000}, "40,000 bands"),
        ({339: 4}, "undefined"),
    ],
)
def test_other_tags_are_refused(tags: dict[int, int], words: str) -> None:
    written = {256: 4, 257: 4, 258: 8, 259: 1, 262: COLOR, 273: 8, 277: 3, 278: 4, 279: 48} | tags
    content = write_directory(bytes(48), [(number, 4, (value,)) for number, value in written.items()], Layout())
    with pytest.raises(InvalidImageError, match=words):
        read_image(content)


def test_tags_that_are_no_numbers_are_refused() -> None:
    """Pillow and the check would read them differently."""
    layout = Layout(tags=((332, 7, (1,)),))
    with pytest.raises(InvalidImageError, match="tag 332 "):
        read_image(write_tiff(random_values(layout), layout))


def test_planes_keep_orientation_and_pages() -> None:
    layout = Layout(COLOR, 16, planes=2, tags=((274, 3, (6,)),))
    values = random_values(layout)
    upright = np.rot90(expected_pixels(values, layout), -1)
    np.testing.assert_array_equal(read_image(write_tiff(values, layout)), upright)
    file = io.BytesIO()
    tifffile.imwrite(file, np.stack([values.transpose(2, 0, 1)] * 2), photometric="rgb", planarconfig="separate")
    assert decode_image(file.getvalue()).warnings == ("first of 2 frames",)


def test_planes_without_sizes_or_outside_the_file() -> None:
    layout = Layout(COLOR, 16, planes=2)
    content = write_tiff(random_values(layout), layout)
    with pytest.raises(InvalidImageError):
        read_image(content[:8] + content[1000:])


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(COLOR, extra=(2,)), ("transparency was blended with white",)),
        (Layout(COLOR, planes=2, extra=(2,)), ("transparency was blended with white",)),
        (Layout(COLOR, extra=(0,)), ("first 3 of 4 bands",)),
        (Layout(COLOR, extra=(2, 0)), ("first 4 of 5 bands", "transparency was blended with white")),
        (Layout(COLOR), ()),
        (Layout(GRAY, tags=((254, 4, (1,)),)), ("first page is a thumbnail of another",)),
    ],
)
def test_warnings(layout: Layout, words: tuple[str, ...]) -> None:
    assert decode_image(write_tiff(random_values(layout), layout)).warnings == words


def test_opaque_alpha_is_no_warning() -> None:
    layout = Layout(COLOR, extra=(2,))
    values = random_values(layout)
    values[:, :, 3] = 255
    assert decode_image(write_tiff(values, layout)).warnings == ()
