"""Whether one picture is a part of another: laid over each other as well as can be, and then compared in detail.

Knows small grey pictures; does not know which pairs are worth comparing.

A window of the first picture, its place and two sides, is moved until it looks most like the second one (Lucas and
Kanade 1981, "An iterative image registration technique"; brightness and contrast don't count, as in the enhanced
correlation of Evangelidis and Psarakis 2008, https://doi.org/10.1109/TPAMI.2008.113). Broad light and shade are alike
in many scenes, so that what is left after they are taken away decides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pair = tuple[Floats, Floats]  # pictures, (n, s, s), and the details they are compared with
Best = tuple[Floats, Floats]  # windows, (n, 4), and likeness, (n,)

SMALLEST_WINDOW, LARGEST_WINDOW = 0.8, 1.02  # half sides, where the picture runs from -1 to 1
LARGEST_STEP = 0.1
DAMPING = 1e-3  # of the steps: a plain sky says nothing of where the window is
SHADE = 7  # pixels: what is broader is shade
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def align(wholes: Floats, parts: Floats, windows: Floats, steps: int) -> Floats:
    """Moves windows until what they show is most like the parts.

    Args:
        wholes: (n, s, s), grey.
        parts: (n, s, s).
        windows: (n, 4), where to begin: half width and height, and centre from the left and the top.
        steps: How many to take.

    Returns:
        The windows they come to, (n, 4).
    """
    side = wholes.shape[1]
    across = _grid(side)
    down = across[:, None]
    target = _unit(parts)
    for _ in range(steps):
        seen = look(wholes, windows)
        centred = seen - seen.mean((1, 2), keepdims=True)
        length = np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-3)
        slope_down, slope_across = np.gradient(seen, axis=(1, 2))  # of what is seen, which is a window's share
        right = slope_across * (side / 2 / windows[:, 0, None, None])
        lower = slope_down * (side / 2 / windows[:, 1, None, None])
        changes = np.stack([right * across, lower * down, right, lower], 1) / length[:, None]  # (n, 4, s, s)
        changes = (changes - changes.mean((2, 3), keepdims=True)).reshape(len(seen), 4, -1)
        unit = (centred / length).reshape(len(seen), 1, -1)
        changes = changes - (changes * unit).sum(2, keepdims=True) * unit
        normal = changes @ changes.transpose(0, 2, 1)
        damping = DAMPING * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-6
        missing = target.reshape(len(seen), -1, 1) - unit.transpose(0, 2, 1)
        step = np.linalg.solve(normal + damping * np.eye(4, dtype=np.float32), changes @ missing)[..., 0]
        windows = (windows + np.clip(step, -LARGEST_STEP, LARGEST_STEP)).astype(np.float32)
        windows[:, :2] = np.clip(windows[:, :2], SMALLEST_WINDOW, LARGEST_WINDOW)
        room = LARGEST_WINDOW - windows[:, :2]  # a window stays within the picture
        windows[:, 2:] = np.clip(windows[:, 2:], -room, room)
    return windows


def align_best(
    wholes: Floats, parts: Floats, begins: Sequence[Floats], steps: int, compared: Pair, detailed: bool = True
) -> Best:
    """Aligns from several beginnings, by light and shade and by detail alone, and keeps what makes most alike.

    Light and shade lead further, but in a picture with few details astray.

    Args:
        wholes: (n, s, s), grey.
        parts: (n, s, s).
        begins: Windows, (n, 4) each.
        steps: How many to take from each.
        compared: The wholes, perhaps larger, and the details of the parts, by which likeness is measured.
        detailed: Whether to align by detail alone too.

    Returns:
        The windows, (n, 4), and how alike they make the pictures, (n,).
    """
    windows: Floats = begins[0].copy()
    alike: Floats = np.full(len(wholes), -np.inf, np.float32)
    pairs = [(wholes, parts), *([(_take_shade(wholes), _take_shade(parts))] if detailed else ())]
    for begin in begins:
        for first, second in pairs:
            found = align(first, second, begin, steps)
            value = likeness(look(compared[0], found), compared[1])
            better = value > alike
            windows[better] = found[better]
            alike[better] = value[better]
    return windows, alike


def look(pictures: Floats, windows: Floats) -> Floats:
    """Shows what is in windows, (n, 4), of pictures, (n, s, s): bilinear, at the same size."""
    side = pictures.shape[1]
    grid = _grid(side)
    across = _samplers(windows[:, 0:1] * grid + windows[:, 2:3], side)
    down = _samplers(windows[:, 1:2] * grid + windows[:, 3:4], side)
    return np.asarray(np.matmul(down @ pictures, across.transpose(0, 2, 1)), np.float32)


def likeness(seen: Floats, details: Floats) -> Floats:
    """Says how alike pictures, (n, s, s), are to what `high_pass` made of others: the correlation, (n,)."""
    alike: Floats = np.einsum("nij,nij->n", high_pass(seen), details)
    return alike


def high_pass(pictures: Floats) -> Floats:
    """Takes away from pictures, (n, s, s), what a blur leaves; at mean 0 and length 1."""
    detail = pictures - _blur(pictures, _BINOMIAL)
    usual = np.maximum(np.abs(detail).mean((1, 2), keepdims=True), 1e-3)
    return _unit(np.tanh(detail / (2 * usual)))  # compressed, else one black border would decide alone


def _grid(side: int) -> Floats:
    """Middles of the pixels of a side that runs from -1 to 1."""
    grid: Floats = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    return grid


def _samplers(places: Floats, side: int) -> Floats:
    """Matrices that take the values at places, (n, s), from a side's pixels: (n, s, s)."""
    pixels = np.clip((places + 1) / 2 * side - 0.5, 0, side - 1)
    first = np.minimum(pixels.astype(np.intp), side - 2)
    share = (pixels - first).astype(np.float32)
    samplers = np.zeros((*places.shape, side), np.float32)
    np.put_along_axis(samplers, first[..., None], (1 - share)[..., None], 2)
    np.put_along_axis(samplers, first[..., None] + 1, share[..., None], 2)
    return samplers


def _blur(pictures: Floats, weights: Sequence[float]) -> Floats:
    side, margin = pictures.shape[1], len(weights) // 2
    padded = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    rows, blurred = np.zeros_like(padded[:, :side]), np.zeros_like(pictures)
    for place, weight in enumerate(weights):
        rows += np.float32(weight) * padded[:, place : place + side]
    for place, weight in enumerate(weights):
        blurred += np.float32(weight) * rows[:, :, place : place + side]
    return blurred


def _take_shade(pictures: Floats) -> Floats:
    return np.subtract(pictures, _blur(pictures, [1 / SHADE] * SHADE))


def _unit(pictures: Floats) -> Floats:
    centred = pictures - pictures.mean((1, 2), keepdims=True)
    unit: Floats = centred / np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-3)
    return unit
