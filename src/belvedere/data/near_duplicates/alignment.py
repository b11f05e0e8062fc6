"""Alignment of two grayscale images, of which one may be a crop of the other, and their similarity.

A window of the first image, its center and half sides, is moved until it matches the second one: Lucas and Kanade 1981
("An iterative image registration technique"), invariant to brightness and contrast as the enhanced correlation of
Evangelidis and Psarakis 2008 (https://doi.org/10.1109/TPAMI.2008.113). Many scenes share broad light and shade, so
the similarity is measured on high-pass filtered images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MIN_WINDOW, MAX_WINDOW = 0.8, 1.02  # half sides; the image runs from -1 to 1
MAX_STEP = 0.1
DAMPING = 1e-3  # relative to the trace: uniform areas do not determine the window
SHADE_SIZE = 7  # pixels; broader structures are shade
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def align(images: Floats, targets: Floats, windows: Floats, steps: int) -> Floats:
    """Move windows, (n, 4), of grayscale images, (n, s, s), until they match the targets, (n, s, s).

    A window is its half width, half height, and center from left and top.
    """
    size = images.shape[1]
    across = _grid(size)
    down = across[:, None]
    unit_targets = _unit(targets).reshape(len(images), size**2, 1)
    jacobian = np.empty((len(images), 4, size, size), np.float32)
    flat = jacobian.reshape(len(images), 4, size**2)
    for _ in range(steps):
        warped = warp(images, windows)
        centered = warped - warped.mean((1, 2), keepdims=True)
        length = np.maximum(np.sqrt((centered**2).sum((1, 2), keepdims=True)), 1e-3)
        for axis, gradient in enumerate(np.gradient(warped, axis=(2, 1))):  # across and down, in pixels of the window
            np.multiply(gradient, size / 2 / windows[:, axis, None, None] / length, out=jacobian[:, 2 + axis])
        np.multiply(jacobian[:, 2], across, out=jacobian[:, 0])
        np.multiply(jacobian[:, 3], down, out=jacobian[:, 1])
        unit = (centered / length).reshape(len(images), size**2, 1)
        residual = unit_targets - unit
        flat -= flat.mean(2, keepdims=True)
        flat -= flat @ unit * unit.transpose(0, 2, 1)
        normal, gradient = flat @ flat.transpose(0, 2, 1), flat @ residual
        damping = DAMPING * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-6
        step = np.linalg.solve(normal + damping * np.eye(4, dtype=np.float32), gradient)[..., 0]
        windows = (windows + np.clip(step, -MAX_STEP, MAX_STEP)).astype(np.float32)
        windows[:, :2] = np.clip(windows[:, :2], MIN_WINDOW, MAX_WINDOW)
        room = MAX_WINDOW - windows[:, :2]  # a window stays within the image
        windows[:, 2:] = np.clip(windows[:, 2:], -room, room)
    return windows


def align_best(
    images: Floats,
    targets: Floats,
    starts: Sequence[Floats],
    steps: int,
    compared: tuple[Floats, Floats],
    with_details: bool = True,
) -> tuple[Floats, Floats]:
    """Return the most similar windows, (n, 4), from several initial ones, (n, 4) each, and their similarity, (n,).

    Light and shade converge from further away, but fail on images with few details; details alone are tried too. The
    similarity is that of images, possibly larger than those to align, and high-pass filtered targets.
    """
    windows: Floats = starts[0].copy()
    best: Floats = np.full(len(images), -np.inf, np.float32)
    pairs = [(images, targets), *([(_remove_shade(images), _remove_shade(targets))] if with_details else ())]
    for start in starts:
        for first, second in pairs:
            found = align(first, second, start, steps)
            value = similarity(warp(compared[0], found), compared[1])
            better = value > best
            windows[better] = found[better]
            best[better] = value[better]
    return windows, best


def warp(images: Floats, windows: Floats) -> Floats:
    """Return the windows, (n, 4), of images, (n, s, s), bilinear, at the same size."""
    size = images.shape[1]
    grid = _grid(size)
    across = _sampling_matrices(windows[:, 0:1] * grid + windows[:, 2:3], size)
    down = _sampling_matrices(windows[:, 1:2] * grid + windows[:, 3:4], size)
    return np.asarray(np.matmul(down @ images, across.transpose(0, 2, 1)), np.float32)


def similarity(images: Floats, details: Floats) -> Floats:
    """Return the correlation, (n,), of images, (n, s, s), with others that `high_pass` filtered."""
    correlation: Floats = np.einsum("nij,nij->n", high_pass(images), details)
    return correlation


def high_pass(images: Floats) -> Floats:
    """Return images, (n, s, s), minus their blur, compressed, with mean 0 and length 1."""
    details = images - blur(images)
    scale = np.maximum(np.abs(details).mean((1, 2), keepdims=True), 1e-3)
    return _unit(np.tanh(details / (2 * scale)))  # without compression, a black border would dominate


def blur(images: Floats, weights: Sequence[float] = _BINOMIAL) -> Floats:
    """Return images, (n, s, s), filtered by weights along both sides."""
    size, margin = images.shape[1], len(weights) // 2
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    rows, blurred = np.zeros_like(padded[:, :size]), np.zeros_like(images)
    for offset, weight in enumerate(weights):
        rows += np.float32(weight) * padded[:, offset : offset + size]
    for offset, weight in enumerate(weights):
        blurred += np.float32(weight) * rows[:, :, offset : offset + size]
    return blurred


def _grid(size: int) -> Floats:
    """Return the centers of the pixels of a side that runs from -1 to 1."""
    grid: Floats = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    return grid


def _sampling_matrices(positions: Floats, size: int) -> Floats:
    """Return matrices, (n, s, s), that interpolate one direction at positions, (n, s)."""
    pixels = np.clip((positions + 1) / 2 * size - 0.5, 0, size - 1)
    first = np.minimum(pixels.astype(np.intp), size - 2)
    weight = (pixels - first).astype(np.float32)
    matrices = np.zeros((*positions.shape, size), np.float32)
    np.put_along_axis(matrices, first[..., None], (1 - weight)[..., None], 2)
    np.put_along_axis(matrices, first[..., None] + 1, weight[..., None], 2)
    return matrices


def _remove_shade(images: Floats) -> Floats:
    return np.subtract(images, blur(images, [1 / SHADE_SIZE] * SHADE_SIZE))


def _unit(images: Floats) -> Floats:
    centered = images - images.mean((1, 2), keepdims=True)
    unit: Floats = centered / np.maximum(np.sqrt((centered**2).sum((1, 2), keepdims=True)), 1e-3)
    return unit
