"""Relief in perspective, reflecting water, and trees."""

from dataclasses import dataclass

import numpy as np

from belvedere.demo.scenes.drawing import (
    FOREST,
    SEA,
    Array,
    Camera,
    Canvas,
    Generator,
    Labels,
    Light,
    cloudy,
    color,
    coverage,
    grainy,
    mix,
    ridged,
    sample,
    smooth,
    speckle,
    vary,
)

FOLIAGE = (  # colors over the year
    (0.11, 0.17, 0.08),
    (0.17, 0.23, 0.10),
    (0.24, 0.28, 0.12),
    (0.09, 0.17, 0.12),
    (0.42, 0.30, 0.08),
    (0.40, 0.19, 0.08),
)
FOLIAGE_PROBABILITIES = (0.28, 0.24, 0.16, 0.18, 0.08, 0.06)
ROCKS = ((0.34, 0.31, 0.29), (0.40, 0.34, 0.28), (0.28, 0.29, 0.32), (0.46, 0.42, 0.38), (0.36, 0.27, 0.22))
GRASS = (0.24, 0.26, 0.13)
LEAF_TILE_SIZE = 110.0  # pixels, at the design size


@dataclass(frozen=True, slots=True)
class Ground:
    """Points on the ground in rows of increasing distance: D rows, one column for each of the image's."""

    x: Array  # (D, W)
    z: Array  # (D, 1)

    @property
    def ones(self) -> Array:
        """Ones, (D, W)."""
        return np.ones_like(self.x)


def lay_ground(canvas: Canvas, camera: Camera, far: float) -> Ground:
    """Return points from the lower edge of the image to a distance.

    Steps grow more slowly than the distance: distant steep slopes need many points.
    """
    near = 0.5 * camera.height * camera.focal / (canvas.size - camera.horizon)
    steps = np.linspace(near**0.4, far**0.4, int(canvas.size * 1.25), dtype=np.float32)
    z = (steps**2.5)[:, None]
    return Ground((canvas.columns - camera.center) / camera.focal * z, z)


def relief(ground: Ground, rng: Generator, wave: float) -> Array:
    """Return mountainous heights, (D, W), about 0 to 1, that repeat after `wave` units of length."""
    turn, shift_x, shift_y = rng.uniform(0, 6.28), rng.uniform(), rng.uniform()
    x = (ground.x * np.cos(turn) - ground.z * np.sin(turn)) / wave + shift_x
    y = (ground.x * np.sin(turn) + ground.z * np.cos(turn)) / wave + shift_y
    large = sample(ridged(), x, y)
    detail = sample(ridged(), x * 5.3 + shift_y, y * 5.3 + shift_x)
    return large * large * 1.2 + detail * (0.03 + 0.10 * large)


def foliage_color(rng: Generator) -> Array:
    """Return a random color of foliage, (3,)."""
    return vary(rng, color(*FOLIAGE[int(rng.choice(len(FOLIAGE), p=FOLIAGE_PROBABILITIES))]), 0.2)


def rock_color(rng: Generator) -> Array:
    """Return a random color of rock, (3,)."""
    return vary(rng, color(*ROCKS[rng.integers(len(ROCKS))]), 0.2)


def slopes(camera: Camera, ground: Ground, height: Array) -> tuple[Array, Array]:
    """Return the slopes of heights to the right and away from the camera, (D, W) each."""
    right = np.gradient(height, axis=1) * (camera.focal / ground.z)
    away = np.gradient(height, axis=0) / np.gradient(ground.z, axis=0)
    return right, away - right * ground.x / ground.z


def paint_land(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    ground: Ground,
    height: Array,
    surface: Array,
    labels: Labels,
    clear_distance: float,
) -> None:
    """Paint relief, (D, W), with its colors, (D, W, 3), and classes, (D, W), and with hidden surfaces removed.

    Ground at height 0 or below is left out, for water. In clear air, haze shows at `clear_distance`.
    """
    right, away = slopes(camera, ground, height)
    steep = 1.0 / np.sqrt(1.0 + right * right + away * away)
    lit = surface * light.shade(-right * steep, steep, -away * steep)
    seen = light.through_air(lit, ground.z / clear_distance)
    index, fraction, alpha = _hidden_lines(canvas, camera, ground, np.maximum(height, 0.0))
    before = np.maximum(index - canvas.size, canvas.columns.astype(np.int64))
    colors = seen.reshape(-1, 3)
    blended = mix(colors[before], colors[index], fraction[..., None])
    above = (height.ravel() > 0.0)[index]
    canvas.paint(alpha * above, blended, labels.ravel()[index])


def _hidden_lines(
    canvas: Canvas, camera: Camera, ground: Ground, height: Array
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], Array, Array]:
    """Return the flat index of the visible point, the interpolation from the nearer one, and the coverage."""
    size, depth = canvas.size, len(ground.z)
    row_of = camera.horizon - camera.focal * (height - camera.height) / ground.z
    row_of = np.clip(row_of, -2.0 * size, 3.0 * size)
    highest = np.minimum.accumulate(row_of, axis=0)
    # One search for the whole image: the rows of each column get a range of their own.
    offset = np.arange(size) * (8.0 * size)
    order = np.searchsorted(
        (offset[:, None] - highest.T).ravel(), (offset[None, :] - canvas.rows.astype(float)).ravel()
    ).reshape(size, size)
    index = np.minimum(order - np.arange(size) * depth, depth - 1) * size + np.arange(size)
    before = np.maximum(index - size, np.arange(size))
    flat = highest.ravel()
    gap = flat[before] - flat[index]
    whole = (row_of.ravel()[before] > flat[before] + 1e-3) | (gap < 1e-3)
    fraction = np.where(whole, 1.0, np.clip((flat[before] - canvas.rows) / np.maximum(gap, 1e-3), 0.0, 1.0))
    return index, fraction.astype(np.float32), coverage(canvas.rows - highest[-1])


def paint_water(
    canvas: Canvas, camera: Camera, light: Light, rng: Generator, free: Array, wave: float, rough: float
) -> None:
    """Paint water below the horizon, where it is `free`, (H, W), 0 to 1, that reflects the image above it.

    A tile of waves has the length `wave`; they are `rough`, from 0 for a mirror to 1 for whitecaps.
    """
    top = max(int(camera.horizon), 0)
    below = np.maximum(canvas.rows[top:] - camera.horizon, 0.3)
    distance = camera.height * camera.focal / below
    aside = (canvas.columns - camera.center) / camera.focal
    x, z = aside * distance / wave, distance / wave
    shift = rng.uniform()
    swell = sample(grainy(), x * 0.35 + shift, z + 0 * x) + 0.6 * sample(grainy(), x * 1.1, z * 3.1 + shift)
    swell = swell * (0.35 + 0.65 * smooth(0.0, 30.0 * canvas.scale, below))
    facing = np.clip(below / camera.focal * 1.1 + rough * 0.22 * swell, 0.0, 1.0)
    mirror = 0.04 + 0.9 * (1.0 - facing) ** 4
    rows = np.clip(camera.horizon - below * (0.9 + 0.3 * rough * swell), 0, canvas.size - 1).astype(np.int64)
    sideways = rough * 3.0 * canvas.scale * swell
    columns = np.clip(canvas.columns + sideways, 0, canvas.size - 1).astype(np.int64)
    deep = vary(rng, color(0.05, 0.17 + 0.12 * rng.uniform(), 0.22 + 0.1 * rng.uniform()), 0.25)
    lit = deep * (light.sky_color + light.sun_color * max(light.sun[1], 0.1)) * (1.0 + 0.22 * swell[..., None])
    water = mix(lit, canvas.pixels[rows, columns], mirror[..., None])
    if light.sun[2] > 0.15:
        path = np.exp(-(((aside - light.sun[0] / light.sun[2]) * (4.5 - 2.5 * rough)) ** 2)) * (1.2 - light.clouds)
        sparks = smooth(0.7, 1.9, swell) * path * 0.9
        water = water + sparks[..., None] * light.sun_color
    foam = smooth(2.6 - rough, 3.2 - rough, swell) * rough
    water = mix(water, light.sky_color + 0.4 * light.sun_color, foam[..., None] * 0.8)
    canvas.paint(free[top:] * coverage(canvas.rows[top:] - camera.horizon), water, SEA, (slice(top, None), slice(None)))


def paint_spruce(
    canvas: Canvas, light: Light, rng: Generator, position: tuple[float, float], tall: float, leaves: Array, air: float
) -> None:
    """Paint a conifer with its foot at `position` (column, row), `tall` pixels high, behind haze of distance `air`."""
    column, foot = position
    wide = tall * rng.uniform(0.16, 0.24)
    window = canvas.box(column - wide, foot - tall, column + wide, foot)
    if window is None:
        return
    rows, columns = canvas.rows[window[0]], canvas.columns[:, window[1]]
    down = np.clip((rows - foot + tall) / tall, 0.0, 1.0)
    aside = columns - column
    grain = speckle(grainy(), columns / (150 * canvas.scale) + rng.uniform(), rows / (110 * canvas.scale))
    branches = (down * int(rng.integers(7, 12)) + 0.12 * grain + 0.1 * np.sign(aside)) % 1.0
    half = wide * down * (0.55 + 0.45 * branches) + 0.4
    alpha = coverage(half - np.abs(aside)) * (down < 1.0)
    round_x = np.clip(aside / half, -1.0, 1.0)
    lit = light.shade(round_x, 0.35 + 0 * round_x, -np.sqrt(1.0 - round_x * round_x) * 0.8)
    shadow = (0.55 + 0.5 * branches + 0.16 * grain)[..., None]
    canvas.paint(alpha, light.through_air(leaves * lit * shadow, air), FOREST, window)


def paint_crown(
    canvas: Canvas,
    light: Light,
    rng: Generator,
    position: tuple[float, float],
    radii: tuple[float, float],
    leaves: Array,
    air: float = 0.0,
    label: int = FOREST,
) -> None:
    """Paint the crown of a tree or bush around `position` (column, row) with horizontal and vertical radii."""
    (column, row), (across, down) = position, radii
    window = canvas.box(column - across * 1.3, row - down * 1.3, column + across * 1.3, row + down * 1.3)
    if window is None:
        return
    rows, columns = canvas.rows[window[0]], canvas.columns[:, window[1]]
    reach = LEAF_TILE_SIZE * canvas.scale
    shift = rng.uniform()
    grain = speckle(grainy(), columns / reach + shift, rows / reach + shift)
    lumps = speckle(grainy(), columns / (reach * 3.5) + shift, rows / (reach * 3.5))
    x, y = (columns - column) / across, (rows - row) / down
    away = np.hypot(x, y) + 0.09 * lumps + 0.035 * grain
    alpha = coverage((1.0 - away) * min(across, down))
    lit = light.shade(np.clip(x, -1, 1) * 0.8, 0.3 - y * 0.6, -0.5 + 0 * away)
    texture = np.clip(0.95 + 0.2 * lumps - 0.3 * y + 0.25 * grain, 0.2, 2.0)[..., None]
    canvas.paint(alpha, light.through_air(leaves * lit * texture, air), label, window)


def paint_trunk(
    canvas: Canvas, light: Light, rng: Generator, position: tuple[float, float], thick: float, bark: Array, air: float
) -> None:
    """Paint a trunk from its foot (column, row) to beyond the top of the image, `thick` pixels at the foot."""
    column, foot = position
    lean = rng.normal(0.0, 0.035)
    spread = thick + abs(lean) * foot
    window = canvas.box(column - spread, 0, column + spread, foot)
    if window is None:
        return
    rows, columns = canvas.rows[window[0]], canvas.columns[:, window[1]]
    up = (foot - rows) / canvas.size
    middle = column + lean * (foot - rows) + thick * 0.12 * sample(cloudy(), rows / (450 * canvas.scale), column)
    half = 0.5 * thick * (1.0 - 0.3 * up + 0.35 * np.exp(-up * 22.0))
    alpha = coverage(half - np.abs(columns - middle))
    round_x = np.clip((columns - middle) / half, -1.0, 1.0)
    lit = light.shade(round_x, 0 * round_x, -np.sqrt(1.0 - round_x * round_x))
    grain = speckle(grainy(), columns / (50 * canvas.scale), rows / (260 * canvas.scale) + column)
    texture = np.clip(0.85 + 0.25 * grain, 0.2, 1.6)[..., None]
    canvas.paint(alpha, light.through_air(bark * lit * texture, air), FOREST, window)


def paint_foliage(canvas: Canvas, light: Light, rng: Generator, thick: Array, leaves: Array, air: float) -> None:
    """Paint leaves over the image: dense where `thick`, (H, W), is above 1, none where it is below -1."""
    reach = LEAF_TILE_SIZE * canvas.scale * (0.6 + 1.2 / (1.0 + air))
    shift_x, shift_y = rng.uniform(), rng.uniform()
    clumps = speckle(grainy(), canvas.columns / (reach * 3) + shift_x, canvas.rows / (reach * 3) + shift_y)
    grain = speckle(grainy(), canvas.columns / reach + shift_y, canvas.rows / reach + shift_x)
    form = 0.6 * clumps + 0.6 * grain
    alpha = smooth(-0.25, 0.25, form + thick)
    lit = light.sky_color + light.sun_color * (0.25 + 0.5 * smooth(-0.5, 2.0, grain + 0.4 * clumps))[..., None]
    texture = np.clip(0.75 + 0.3 * grain, 0.15, 2.0)[..., None]
    canvas.paint(alpha, light.through_air(leaves * lit * texture, air), FOREST)
