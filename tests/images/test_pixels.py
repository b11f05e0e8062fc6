"""Warnings of 16-bit images that hold fewer bits."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from belvedere.images.decode import decode_image
from odd_files import deep_rows, encode, png
from tiff_files import Layout, write_tiff

Writer = Callable[[NDArray[np.uint16]], bytes]


def gray_png(values: NDArray[np.uint16]) -> bytes:
    return png(values.shape[1], values.shape[0], 16, 0, deep_rows(values))


def color_png(values: NDArray[np.uint16], color_type: int = 2) -> bytes:
    channels = [values] * (3 if color_type == 2 else 1)
    if color_type != 2:
        channels.append(np.full_like(values, 65_535))
    return png(values.shape[1], values.shape[0], 16, color_type, deep_rows(np.dstack(channels)))


def gray_tiff(values: NDArray[np.uint16]) -> bytes:
    return write_tiff(values[:, :, None], Layout(bits=16, order=">"))


def color_tiff(values: NDArray[np.uint16]) -> bytes:
    return write_tiff(np.dstack([values] * 3), Layout(2, 16, compression=5))


def planes_tiff(values: NDArray[np.uint16]) -> bytes:
    return write_tiff(np.dstack([values] * 3), Layout(2, 16, planes=2))


@pytest.mark.parametrize("write", [gray_png, color_png, gray_tiff, color_tiff, planes_tiff])
@pytest.mark.parametrize(("bits", "factor"), [(8, 256), (10, 64), (12, 16), (14, 4)])
def test_fewer_bits_are_named(write: Writer, bits: int, factor: int) -> None:
    values = np.array([[0, (1 << bits) - 1]], np.uint16)
    shown, advice = f"no value over {(1 << bits) - 1:,} of 65,535", f"multiply them by {factor}"
    [warning] = decode_image(write(values)).warnings
    assert warning == f"dark: {shown}. If these are {bits}-bit values, {advice}"


@pytest.mark.parametrize("write", [gray_png, color_png, gray_tiff, color_tiff, planes_tiff])
def test_more_bits_are_not_named(write: Writer) -> None:
    assert decode_image(write(np.array([[0, 1 << 14]], np.uint16))).warnings == ()


def test_black_and_8_bit_images_are_not_named() -> None:
    assert decode_image(gray_png(np.zeros((2, 2), np.uint16))).warnings == ()
    assert decode_image(encode(Image.new("RGB", (2, 2), (3, 3, 3)), "PNG")).warnings == ()


def test_alpha_does_not_count() -> None:
    [warning] = decode_image(color_png(np.full((2, 2), 4095, np.uint16), color_type=4)).warnings
    assert "12-bit" in warning


def test_one_dark_band_is_not_named() -> None:
    """A scene without blue is not dark."""
    values = np.dstack([np.array([[60_000, 0]]), np.array([[60_000, 0]]), np.array([[4000, 0]])]).astype(np.uint16)
    assert decode_image(write_tiff(values, Layout(2, 16, planes=2))).warnings == ()
