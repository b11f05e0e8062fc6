"""JPEGs over the limit of pixels: decoded at a reduced scale, or refused."""

import numpy as np
import pytest
from PIL import Image

from belvedere.errors import ImageTooLargeError, InvalidImageError, UsageError
from belvedere.images import limits
from belvedere.images.decode import decode_image, read_image, read_input
from belvedere.images.jpeg_scale import STORED_FACTOR
from belvedere.images.limits import MAX_MEGAPIXELS_VARIABLE, default_max_pixels, set_max_megapixels
from belvedere.types.model import Preprocess
from odd_files import damaged_jpeg, encode, smooth_pixels, with_segment

HEIGHT, WIDTH = 90, 121
PIXELS = HEIGHT * WIDTH
JPEG = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)), "JPEG", quality=95)
PROGRESSIVE = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)), "JPEG", quality=95, progressive=True)
CMYK = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)).convert("CMYK"), "JPEG", quality=95)


@pytest.fixture(autouse=True)
def default_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "")
    default_max_pixels.cache_clear()


@pytest.mark.parametrize(
    ("content", "max_pixels", "shape"),
    [
        *((content, PIXELS, (90, 121, 3)) for content in (JPEG, PROGRESSIVE, CMYK)),
        *((content, PIXELS - 1, (45, 61, 3)) for content in (JPEG, PROGRESSIVE, CMYK)),
        *((content, 45 * 61 - 1, (23, 31, 3)) for content in (JPEG, CMYK)),
    ],
)
def test_largest_scale_within_the_limit(content: bytes, max_pixels: int, shape: tuple[int, ...]) -> None:
    decoded = decode_image(content, max_pixels=max_pixels)
    assert decoded.pixels.shape == shape
    height, width, _ = shape
    warned = (f"121 x 90 pixels, decoded at {width} x {height}",) if height < HEIGHT else ()
    assert decoded.warnings == warned
    whole = np.array(Image.fromarray(read_image(content)).resize((width, height), Image.Resampling.BOX))
    assert np.abs(decoded.pixels.astype(int) - whole).mean() < 6  # the last row and column are padded


@pytest.mark.parametrize("content", [JPEG, PROGRESSIVE, CMYK], ids=["baseline", "progressive", "cmyk"])
def test_far_larger_is_refused(content: bytes) -> None:
    too_few = PIXELS // STORED_FACTOR - 1
    with pytest.raises(ImageTooLargeError, match=f"121 x 90 .* {STORED_FACTOR * too_few:,}"):
        decode_image(content, max_pixels=too_few)
    with pytest.raises(ImageTooLargeError, match=f"121 x 90 .* {PIXELS - 1:,}"):
        decode_image(content, max_pixels=PIXELS - 1, reduce=False)


def test_progressive_jpegs_must_fit_into_memory() -> None:
    """Their coefficients, of 2 bytes, are limited to 8 bytes per pixel of the limit."""
    content = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)), "JPEG", subsampling=0, progressive=True)
    most = 2 * 3 * PIXELS // 8
    assert decode_image(content, max_pixels=most + 1).pixels.shape == (45, 61, 3)
    with pytest.raises(ImageTooLargeError, match="baseline"):
        decode_image(content, max_pixels=most)
    assert decode_image(JPEG, max_pixels=most).pixels.shape == (45, 61, 3)


def test_reduced_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)), "JPEG", quality=95, exif=exif)
    decoded = decode_image(content, max_pixels=PIXELS - 1)
    assert decoded.pixels.shape == (61, 45, 3)
    assert decoded.warnings == ("121 x 90 pixels, decoded at 61 x 45", "rotated by its EXIF orientation (6)")


def test_orientation_of_a_jpeg_over_the_limit_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(Image.fromarray(smooth_pixels(HEIGHT, WIDTH)), "JPEG", exif=exif)
    assert read_image(content).shape == (WIDTH, HEIGHT, 3)


def test_damaged_jpeg_is_reduced_by_pillow() -> None:
    decoded = decode_image(damaged_jpeg(), max_pixels=64 * 64 - 1)
    assert decoded.pixels.shape == (32, 32, 3)
    assert "64 x 64 pixels, decoded at 32 x 32" in decoded.warnings
    assert any(text.startswith("damaged JPEG data: ") for text in decoded.warnings)


def test_model_input_is_read_without_a_warning_if_the_limit_changes_nothing() -> None:
    small = Preprocess(5, 5)
    drafted = read_input(JPEG, small, draft=True)
    limited = read_input(JPEG, small, draft=True, max_pixels=PIXELS - 1)
    assert limited.warnings == ()
    np.testing.assert_array_equal(drafted.pixels, limited.pixels)
    large = Preprocess(20, 20)
    assert read_input(JPEG, large, draft=True, max_pixels=PIXELS - 1).warnings == (
        "121 x 90 pixels, decoded at 61 x 45",
    )
    assert read_input(JPEG, small, max_pixels=PIXELS - 1).warnings == ("121 x 90 pixels, decoded at 61 x 45",)


def test_preview_is_no_scan() -> None:
    """A preview within EXIF data does not make a baseline JPEG progressive."""
    content = with_segment(JPEG, b"preview" + PROGRESSIVE)
    assert decode_image(content, max_pixels=45 * 61).pixels.shape == (45, 61, 3)


def test_limit_is_an_option_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    set_max_megapixels((PIXELS - 1) / 1_000_000)
    assert read_image(JPEG).shape == (45, 61, 3)
    with pytest.raises(InvalidImageError, match="10,889"):
        read_image(encode(Image.new("L", (WIDTH, HEIGHT)), "PNG"))
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "1")
    default_max_pixels.cache_clear()
    assert read_image(JPEG).shape == (90, 121, 3)
    assert limits.default_max_pixels() == 1_000_000


@pytest.mark.parametrize("given", ["0", "-1", "179", "nan", "inf", "many"])
def test_limit_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, given)
    default_max_pixels.cache_clear()
    with pytest.raises(UsageError, match=f"{MAX_MEGAPIXELS_VARIABLE} .*178: {given}"):
        read_image(JPEG)
    if given != "many":
        with pytest.raises(UsageError, match=r"`max_megapixels` .*178"):
            set_max_megapixels(float(given))
