"""Camera, light, sky, noise and the canvas with a class for each pixel.

World axes: x to the right, y up, z away from the camera. Pixels are 0 to 1 until `develop`.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.int8]
Point = tuple[float, float]
Generator = np.random.Generator
Option = TypeVar("Option")

CLASS_NAMES = ("buildings", "forest", "glacier", "mountain", "sea", "street")
BUILDINGS, FOREST, GLACIER, MOUNTAIN, SEA, STREET = range(6)
BACKGROUND = -1  # sky, clouds, meadow, sand: no class
DESIGN_SIZE = 150  # pixels; lengths on the image are given for this size and scaled
TILE = 256  # texels; a power of two, so that wrapping is a bit mask
OVERSAMPLING = 3  # for the edges of polygons

# For each time of day: colors of sun, sky light, zenith and horizon; lowest and highest sun, radians; darkness, 0 to 1.
_HOURS: tuple[tuple[tuple[tuple[float, float, float], ...], float, float, float], ...] = (
    (((0.95, 0.92, 0.85), (0.36, 0.42, 0.52), (0.22, 0.45, 0.82), (0.70, 0.82, 0.93)), 0.5, 1.1, 0.0),
    (((0.85, 0.84, 0.80), (0.42, 0.46, 0.50), (0.42, 0.60, 0.80), (0.80, 0.86, 0.90)), 0.4, 1.0, 0.0),
    (((1.05, 0.74, 0.42), (0.36, 0.36, 0.44), (0.34, 0.46, 0.72), (0.98, 0.80, 0.56)), 0.1, 0.35, 0.15),
    (((0.62, 0.36, 0.26), (0.26, 0.26, 0.38), (0.18, 0.22, 0.44), (0.92, 0.54, 0.38)), 0.03, 0.14, 0.7),
    (((0.20, 0.20, 0.20), (0.64, 0.66, 0.68), (0.62, 0.65, 0.69), (0.80, 0.81, 0.83)), 0.5, 1.2, 0.1),
    (((0.10, 0.10, 0.11), (0.50, 0.54, 0.58), (0.44, 0.48, 0.54), (0.64, 0.67, 0.70)), 0.4, 1.2, 0.3),
)
_HOUR_PROBABILITIES = (0.28, 0.17, 0.2, 0.1, 0.15, 0.1)


@dataclass(frozen=True, slots=True)
class Camera:
    """A level camera: the point (x, y, z) is in column `center + focal * x / z`."""

    horizon: float  # row of the horizon, pixels
    center: float  # column of the optical axis, pixels
    focal: float  # pixels
    height: float  # above the ground, in the scene's unit of length

    def project(self, x: float, y: float, z: float) -> Point:
        """Project a point to (column, row)."""
        return self.center + self.focal * x / z, self.horizon - self.focal * (y - self.height) / z

    def ground_points(self, rows: Array, columns: Array, nearest: float) -> tuple[Array, Array]:
        """Return x, (h, w), and z, (h, 1), of level ground in rows at least `nearest` pixels below the horizon."""
        distance: Array = self.height * self.focal / np.maximum(rows - self.horizon, nearest)
        return (columns - self.center) / self.focal * distance, distance


@dataclass(frozen=True, slots=True)
class Light:
    """Time of day and weather; colors are (3,) arrays."""

    sun: tuple[float, float, float]  # unit vector towards the sun
    sun_color: Array
    sky_color: Array  # ambient light
    zenith: Array
    horizon: Array
    haze: float  # 1 in clear air, up to about 5
    clouds: float  # 0 clear to 1 covered
    dark: float  # 0 by day to 1 at night; lamps are lit in the dark

    def shade(self, normal_x: Array | np.float32, normal_y: Array | np.float32, normal_z: Array | np.float32) -> Array:
        """Return the light on surfaces with these unit normals, (..., 3), to multiply with their colors."""
        direct: Array = np.maximum(
            normal_x * self.sun[0] + normal_y * self.sun[1] + normal_z * self.sun[2], np.float32(0.0), dtype=np.float32
        )
        diffuse: Array = np.asarray(0.75 + 0.25 * normal_y)
        light: Array = direct[..., None] * self.sun_color + diffuse[..., None] * self.sky_color
        return light

    def shade_plane(self, normal_x: float, normal_y: float, normal_z: float) -> Array:
        """Return the light on a plane with this unit normal, (3,)."""
        return self.shade(np.float32(normal_x), np.float32(normal_y), np.float32(normal_z))

    def through_air(self, colors: Array, distance: Array | float) -> Array:
        """Return colors (..., 3) behind the haze of a distance (...,); 1 is where haze shows in clear air."""
        clear: Array = np.exp(np.asarray(distance, np.float32) * (-0.25 * self.haze))[..., None]
        return mix(self.horizon, colors, clear)


class Canvas:
    """An image drawn from back to front, with a class for each pixel.

    Attributes:
        pixels: Colors, float32 (H, W, 3), 0 to 1.
        labels: Index into `CLASS_NAMES` or `BACKGROUND`, int8 (H, W).
        rows: Row numbers, (H, 1).
        columns: Column numbers, (1, W).
        size: Height and width, pixels.
        scale: `size` divided by `DESIGN_SIZE`.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.scale = size / DESIGN_SIZE
        self.pixels: Array = np.zeros((size, size, 3), np.float32)
        self.labels: Labels = np.full((size, size), BACKGROUND, np.int8)
        self.rows: Array = np.arange(size, dtype=np.float32)[:, None]
        self.columns: Array = np.arange(size, dtype=np.float32)[None, :]

    def paint(
        self, alpha: Array, colors: Array, label: int | Labels, window: tuple[slice, slice] = (slice(None), slice(None))
    ) -> None:
        """Blend colors, (h, w, 3) or (3,), into a window, rows and columns, of the image.

        A pixel whose coverage `alpha`, (h, w), is 0.5 or more gets the label, a class index or (h, w).
        """
        view = self.pixels[window]
        view[...] = mix(view, colors, alpha[..., None])
        np.copyto(self.labels[window], np.asarray(label, np.int8), where=alpha >= 0.5)

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
        """Return the window around a region; None if it is outside the image."""
        first_row, last_row = max(math.floor(top), 0), min(math.ceil(bottom) + 1, self.size)
        first, last = max(math.floor(left), 0), min(math.ceil(right) + 1, self.size)
        if first_row >= last_row or first >= last:
            return None
        return slice(first_row, last_row), slice(first, last)

    def polygon(self, points: list[Point], color: Array, label: int, opacity: float = 1.0) -> None:
        """Paint an antialiased polygon of (column, row) corners."""
        across, down = zip(*points, strict=True)
        window = self.box(min(across), min(down), max(across), max(down))
        if window is None:
            return
        height, width = (pixels.stop - pixels.start for pixels in window)
        mask = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
        corners = [
            ((x - window[1].start + 0.5) * OVERSAMPLING, (y - window[0].start + 0.5) * OVERSAMPLING) for x, y in points
        ]
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        alpha = np.asarray(mask.reduce(OVERSAMPLING), np.float32) * (opacity / 255.0)
        self.paint(alpha, color, label, window)

    def area_fractions(self) -> dict[str, float]:
        """Return the fraction of the area of each class in the image."""
        counts = np.bincount(self.labels.ravel() + 1, minlength=len(CLASS_NAMES) + 1)[1:]
        return {name: int(n) / self.labels.size for name, n in zip(CLASS_NAMES, counts, strict=True) if n}


def color(red: float, green: float, blue: float) -> Array:
    """Return a color as an array, (3,)."""
    return np.array((red, green, blue), np.float32)


def mix(first: Array, second: Array, fraction: Array | float) -> Array:
    """Interpolate from the first (fraction 0) to the second (fraction 1)."""
    if isinstance(fraction, np.ndarray) and fraction.ndim == 3 and fraction.shape[1] > 1:  # (h, w, 1), of colors
        width = fraction.shape[1]
        fraction, first, second = np.repeat(fraction, 3, axis=-1), _fill_row(first, width), _fill_row(second, width)
    mixed = (second - first) * fraction
    mixed += first
    return mixed


def _fill_row(colors: Array, width: int) -> Array:
    """Return a color, (3,), for each pixel of a row, (width, 3): NumPy is slow where it repeats an axis of three."""
    return np.tile(colors, (width, 1)) if colors.ndim == 1 else colors


def coverage(inward: Array) -> Array:
    """Return the coverage of pixels, 0 to 1, whose centers are some pixels inward of an edge."""
    covered: Array = np.clip(inward + 0.5, 0.0, 1.0)
    return covered


def smooth(low: float, high: float, values: Array) -> Array:
    """Return 0 below `low`, 1 above `high`, and a smooth step between them."""
    fraction = np.clip((values - low) * (1.0 / (high - low)), 0.0, 1.0)
    smoothed: Array = fraction * fraction * (3.0 - 2.0 * fraction)
    return smoothed


def choose(rng: Generator, *options: Option) -> Option:
    """Return a random option."""
    return options[int(rng.integers(len(options)))]


def vary(rng: Generator, base: Array, spread: float) -> Array:
    """Return a color, (3,), of slightly different brightness and hue."""
    return np.clip(
        base * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, spread * base.mean() / 4, 3), 0.01, 1.0
    ).astype(np.float32)


def _spectral(rng: Generator, weights: Array) -> Array:
    """Return periodic noise, (TILE, TILE), with mean 0, deviation 1 and weighted frequencies."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * weights
    noise = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _frequencies() -> Array:
    radius: Array = np.hypot(np.fft.fftfreq(TILE)[:, None] * TILE, np.fft.rfftfreq(TILE)[None, :] * TILE)
    radius[0, 0] = np.inf
    return radius


@cache
def cloudy() -> Array:
    """Return smooth periodic noise, (TILE, TILE); mean 0, deviation 1."""
    return _spectral(np.random.default_rng(1), _frequencies() ** -1.7)


@cache
def grainy() -> Array:
    """Return rough periodic noise for foliage, gravel and ripples, (TILE, TILE); mean 0, deviation 1."""
    radius = _frequencies()
    return _spectral(np.random.default_rng(2), np.where(radius < 6, 0.0, radius**-0.9))


@cache
def ridged() -> Array:
    """Return periodic relief with sharp ridges, (TILE, TILE), 0 to 1 (Musgrave's ridged multifractal)."""
    rng = np.random.default_rng(3)
    radius = _frequencies()
    total, weight = np.zeros((TILE, TILE)), np.ones((TILE, TILE))
    for octave in range(6):
        middle = 2.6 * 2.0**octave
        band = _spectral(rng, np.exp(-(np.log(radius / middle) ** 2) / 0.18))
        crest = 1.0 - np.minimum(np.abs(band) / 2.2, 1.0)
        total += crest * weight * 0.46**octave
        weight = np.clip(crest * weight * 1.25, 0.0, 1.0)
    return np.asarray((total - total.min()) / (total.max() - total.min()), np.float32)


def sample(tile: Array, x: Array | float, y: Array | float) -> Array:
    """Return values of a periodic tile at x and y, in tiles, by bilinear interpolation."""
    across, down = np.broadcast_arrays(np.asarray(x, np.float32) * TILE, np.asarray(y, np.float32) * TILE)
    left, top = np.floor(across), np.floor(down)
    fraction_x, fraction_y = across - left, down - top
    column, row = left.astype(np.int32) & (TILE - 1), (top.astype(np.int32) & (TILE - 1)) * TILE
    right, below = (column + 1) & (TILE - 1), (row + TILE) & (TILE * TILE - 1)
    flat = tile.ravel()
    upper = mix(flat[row + column], flat[row + right], fraction_x)
    lower = mix(flat[below + column], flat[below + right], fraction_x)
    return mix(upper, lower, fraction_y)


def speckle(tile: Array, x: Array | float, y: Array | float) -> Array:
    """Return the nearest texels of a periodic tile: as `sample`, but faster."""
    column = (np.asarray(x, np.float32) * TILE).astype(np.int32) & (TILE - 1)
    row = (np.asarray(y, np.float32) * TILE).astype(np.int32) & (TILE - 1)
    found: Array = tile[row, column]
    return found


def choose_light(rng: Generator) -> Light:
    """Return a random time of day and weather."""
    colors, lowest, highest, dark = _HOURS[rng.choice(len(_HOURS), p=_HOUR_PROBABILITIES)]
    sun, sky, zenith, horizon = (vary(rng, color(*each), 0.08) for each in colors)
    turn, rise = rng.uniform(-math.pi, math.pi), rng.uniform(lowest, highest)
    direction = (math.sin(turn) * math.cos(rise), math.sin(rise), math.cos(turn) * math.cos(rise))
    return Light(
        sun=direction,
        sun_color=sun,
        sky_color=sky,
        zenith=zenith,
        horizon=horizon,
        haze=float(rng.choice((0.5, 1.0, 2.2), p=(0.5, 0.35, 0.15)) * rng.uniform(0.6, 1.4)),
        clouds=rng.uniform(0.0, 1.0),
        dark=dark,
    )


def paint_sky(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Fill the image with sky, sun and clouds, and with haze below the horizon."""
    rise = np.maximum((camera.horizon - canvas.rows) / camera.focal, 0.0)
    aside = (canvas.columns - camera.center) / camera.focal
    sky = mix(light.horizon, light.zenith, smooth(0.0, 0.75, rise + 0 * aside)[..., None])
    if light.sun[2] > 0.15:
        sun_x, sun_y = light.sun[0] / light.sun[2], light.sun[1] / light.sun[2]
        away = np.hypot(aside - sun_x, rise - sun_y)
        glow = 0.55 * np.exp(away * -4.0) + np.exp((away * 28.0) ** 2 * -0.5)
        sky = sky + glow[..., None] * light.sun_color * (1.1 - 0.9 * light.clouds)
    distance = 1.0 / (rise + 0.09)
    scale, shift_x, shift_y = rng.uniform(0.03, 0.09), rng.uniform(), rng.uniform()
    form = sample(cloudy(), aside * distance * scale + shift_x, distance * scale * 1.3 + shift_y)
    edge = 1.9 - 2.6 * light.clouds
    cover = smooth(edge, edge + 1.1, form) * smooth(0.0, 0.12, rise) * 0.9
    lit = light.sky_color * 0.75 + light.sun_color * 0.45 + 0.12
    cloud = mix(np.minimum(lit, 1.0), light.horizon * 0.75, smooth(edge + 0.5, edge + 3.0, form)[..., None])
    canvas.paint(np.ones((canvas.size, canvas.size), np.float32), mix(sky, cloud, cover[..., None]), BACKGROUND)


def develop(canvas: Canvas, rng: Generator) -> NDArray[np.uint8]:
    """Return the image, uint8 (H, W, 3), with rain or snow, blur, exposure, color cast, saturation and noise."""
    pixels = canvas.pixels
    fall = rng.uniform()
    if fall < 0.1:
        pixels = _add_precipitation(canvas, rng, snow=fall < 0.05)
    if rng.uniform() < 0.6:
        blurred = pixels.copy()
        blurred[1:-1, 1:-1] = 0.5 * pixels[1:-1, 1:-1] + 0.125 * (
            pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
        )
        pixels = blurred
    gray = pixels.mean(axis=2, keepdims=True)
    pixels = mix(gray, pixels, rng.uniform(0.55, 1.15))
    exposure = rng.uniform(0.36, 0.6) / max(float(gray.mean()), 0.05)
    cast = rng.normal(1.0, 0.03, 3).astype(np.float32) * float(np.clip(exposure, 0.6, 2.2)) ** 0.85
    middle = (canvas.size - 1) / 2
    corner = ((canvas.rows - middle) ** 2 + (canvas.columns - middle) ** 2) / (2 * middle * middle)
    pixels *= cast * (1.0 - rng.uniform(0.0, 0.3) * corner)[..., None]
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(0.006, 0.03)
    tones = _tone_curve(rng.uniform(0.85, 1.2))
    developed: NDArray[np.uint8] = tones[np.clip(pixels * 512.0, 0, 1023).astype(np.int16)]
    return developed


def _tone_curve(gamma: float) -> NDArray[np.uint8]:
    """Return the tones for light from 0 to 2 in 1024 steps, with compressed highlights."""
    light = np.arange(1024) / 512.0
    light = np.where(light > 0.8, 1.0 - 0.2 * np.exp((0.8 - light) * 5.0), light)
    return np.asarray(light**gamma * 255.0 + 0.5, np.uint8)


def _add_precipitation(canvas: Canvas, rng: Generator, *, snow: bool) -> Array:
    """Return the image, (H, W, 3), with falling snow or rain."""
    size = canvas.size
    mask = Image.new("L", (size * 2, size * 2))
    pen = ImageDraw.Draw(mask)
    lean = rng.uniform(-0.4, 0.4)
    for x, y, length in rng.uniform(0, 2 * size, (90 if snow else 130, 3)):
        if snow:
            radius = (0.8 + 2.2 * length / (2 * size)) * canvas.scale
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=210)
        else:
            reach = (6 + 9 * length / size) * canvas.scale
            pen.line((x, y, x + lean * reach, y + reach), fill=95, width=max(1, round(canvas.scale)))
    alpha = np.asarray(mask.reduce(2), np.float32)[..., None] / 255.0
    misty = mix(canvas.pixels, color(0.7, 0.72, 0.75), 0.22)
    return mix(misty, color(0.93, 0.94, 0.96) if snow else color(0.8, 0.82, 0.85), alpha)
