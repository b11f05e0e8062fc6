"""Scenes of nature: mountain, glacier, sea, forest and fjord."""

import numpy as np

from belvedere.demo.scenes import land, town
from belvedere.demo.scenes.drawing import (
    BACKGROUND,
    FOREST,
    GLACIER,
    MOUNTAIN,
    SEA,
    Array,
    Camera,
    Canvas,
    Generator,
    Labels,
    Light,
    choose,
    cloudy,
    color,
    grainy,
    mix,
    paint_sky,
    ridged,
    sample,
    smooth,
    speckle,
    vary,
)


def _random_camera(canvas: Canvas, rng: Generator, horizon: tuple[float, float], height: float, focal: float) -> Camera:
    """Return a camera whose horizon lies between two fractions of the image's height; focal length in images."""
    size = canvas.size
    return Camera(size * rng.uniform(*horizon), size * rng.uniform(0.3, 0.7), size * focal, height)


def _cover_mountains(
    ground: land.Ground, height: Array, camera: Camera, rng: Generator, snow_line: float, tree_line: float
) -> tuple[Array, Labels, Array]:
    """Cover mountains with rock, snow, grass and forest.

    Returns:
        Colors, (D, W, 3), labels, (D, W), and heights with the trees, (D, W).
    """
    shift = rng.uniform()
    patches = sample(cloudy(), ground.x * 0.55 + shift, ground.z * 0.55 + shift)
    grain = speckle(grainy(), ground.x * 1.3 + ground.z * 0.5 + shift, height * 1.3 + ground.z * 0.9)
    right, away = land.slopes(camera, ground, height)
    steep = np.hypot(right, away)
    strata = speckle(grainy(), ground.x * 0.15 + shift, height * 0.9 + 0.02 * patches)
    surface = land.rock_color(rng) * (1.0 + 0.14 * strata + 0.14 * grain)[..., None]
    grass = smooth(0.25, -0.25, height - tree_line - 0.25 - 0.1 * patches) * smooth(1.1, 0.5, steep)
    surface = mix(surface, vary(rng, color(*land.GRASS), 0.3), grass[..., None])
    snow = smooth(-0.12, 0.1, height - snow_line + 0.12 * patches + 0.05 * grain - 0.22 * (steep - 0.8))
    surface = mix(surface, color(0.94, 0.96, 1.0), snow[..., None])
    wooded = height < tree_line + 0.1 * patches + 0.04 * grain - 0.08 * (steep - 0.7)
    leaves = land.foliage_color(rng) * np.clip(0.85 + 0.35 * grain, 0.2, 2.0)[..., None]
    surface = np.where(wooded[..., None], leaves, surface)
    labels = np.where(wooded, FOREST, MOUNTAIN).astype(np.int8)
    return surface, labels, height + wooded * (0.006 * np.abs(grain))


def paint_mountain(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint peaks behind foothills, sometimes with forest or a lake; unit: kilometer."""
    camera = _random_camera(canvas, rng, (0.5, 0.78), rng.uniform(0.15, 0.7), rng.uniform(0.8, 1.3))
    paint_sky(canvas, camera, light, rng)
    ground = land.lay_ground(canvas, camera, 15.0)
    envelope = 0.10 * smooth(0.0, 1.5, ground.z) + rng.uniform(1.1, 2.4) * smooth(
        rng.uniform(1.0, 2.0), rng.uniform(4.5, 8.0), ground.z
    )
    height = land.relief(ground, rng, rng.uniform(14.0, 24.0)) * envelope
    peak_x, peak_z = rng.normal(0.0, 1.2), rng.uniform(5.0, 8.0)
    away = np.hypot(ground.x - peak_x, ground.z - peak_z) / rng.uniform(1.6, 2.6)
    height = height + choose(rng, 0.0, 1.6) * np.exp(-away) * (0.7 + 0.5 * height) * smooth(0.0, 2.5, ground.z)
    height = height - choose(rng, 0.0, 0.06) + 0.002
    snow_line, tree_line = rng.uniform(0.3, 2.2), choose(rng, -1.0, -1.0, 0.1, 0.3)
    surface, labels, height = _cover_mountains(ground, height, camera, rng, snow_line, tree_line)
    land.paint_land(canvas, camera, light, ground, height, surface, labels, 6.0)
    _fill_with_water(canvas, camera, light, rng, wave=0.15, rough=rng.uniform(0.05, 0.4))


def _fill_with_water(
    canvas: Canvas, camera: Camera, light: Light, rng: Generator, *, wave: float, rough: float
) -> None:
    """Paint water where there is no land below the horizon."""
    free = (canvas.labels == BACKGROUND) & (canvas.rows > camera.horizon)
    if free.any():
        land.paint_water(canvas, camera, light, rng, free.astype(np.float32), wave, rough)


def paint_glacier(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint a glacier in a valley, or an ice front over water."""
    if rng.uniform() < 0.6:
        _ice_tongue(canvas, light, rng)
    else:
        _ice_wall(canvas, light, rng)


def _ice_tongue(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint a glacier that flows towards the camera; unit: kilometer."""
    camera = _random_camera(canvas, rng, (0.2, 0.38), rng.uniform(0.25, 0.6), rng.uniform(0.8, 1.2))
    paint_sky(canvas, camera, light, rng)
    ground = land.lay_ground(canvas, camera, 10.0)
    bend, wide = rng.uniform(-0.8, 0.8), rng.uniform(0.5, 1.1)
    middle = bend * np.sin(ground.z * rng.uniform(0.4, 0.8)) + 0 * ground.x
    aside = (ground.x - middle) / (wide * (0.6 + 0.3 * ground.z))
    cracks, fissured = _crevasses(ground, aside, rng)
    slope = rng.uniform(0.08, 0.2)
    ice = 0.004 + slope * np.maximum(ground.z - 1.0, 0.0) - 0.06 * aside * aside - 0.025 * cracks + 0.02 * fissured
    rise = smooth(0.75, 1.8, np.abs(aside)) * (1.0 + 0.35 * ground.z) + smooth(6.0, 9.5, ground.z) * 2.0
    rock = land.relief(ground, rng, 18.0) * rise + ice - 0.05 + 0.15 * rise
    height: Array = np.maximum(ice, rock)
    surface, labels, height = _cover_mountains(ground, height, camera, rng, rng.uniform(0.6, 1.8), -1.0)
    frozen = smooth(-0.01, 0.01, ice - rock)
    grain = speckle(grainy(), ground.x * 1.5, ground.z * 2.5)
    snowy = mix(color(0.88, 0.93, 0.96), color(0.94, 0.96, 0.98), rng.uniform())
    frost = mix(snowy * (1.0 + 0.05 * grain[..., None]), color(0.12, 0.40, 0.60), (cracks * 0.9)[..., None])
    edge = np.abs(aside) + 0.1 * sample(cloudy(), ground.x * 0.2, ground.z * 0.2)
    dirt = smooth(0.72, 0.95, edge) * rng.uniform(0.2, 0.8)
    frost = mix(frost, color(0.36, 0.34, 0.32) * (1.0 + 0.2 * grain[..., None]), dirt[..., None])
    surface = mix(surface, frost, frozen[..., None])
    labels = np.where(frozen > 0.5, GLACIER, labels).astype(np.int8)
    land.paint_land(canvas, camera, light, ground, np.maximum(height, 1e-4), surface, labels, 5.0)


def _crevasses(ground: land.Ground, aside: Array, rng: Generator) -> tuple[Array, Array]:
    """Return the depth of crevasses, 0 to 1, and the roughness of the ice, (D, W) each."""
    shift = rng.uniform()
    bow = ground.z + 0.35 * aside * aside
    bent = sample(cloudy(), ground.x * 0.25, ground.z * 0.25 + shift)
    lines = sample(ridged(), ground.x * 0.16 + 0.03 * bent, bow * rng.uniform(0.6, 1.1) + shift)
    broken = smooth(-0.8, 0.9, sample(cloudy(), ground.x * 0.2 + shift, ground.z * 0.2) + rng.uniform(0.2, 1.4))
    return smooth(0.66, 0.84, lines) * broken, broken * lines


def _ice_wall(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint an ice front with peaks behind it and floes before it."""
    camera = _random_camera(canvas, rng, (0.55, 0.75), 0.03, rng.uniform(0.9, 1.3))
    paint_sky(canvas, camera, light, rng)
    ground = land.lay_ground(canvas, camera, 12.0)
    height: Array = 0.02 + land.relief(ground, rng, 14.0) * rng.uniform(0.8, 2.8) * smooth(1.5, 6.0, ground.z)
    height = height * (ground.z > 1.5)
    surface, labels, height = _cover_mountains(ground, height, camera, rng, rng.uniform(0.3, 1.2), -1.0)
    land.paint_land(canvas, camera, light, ground, height, surface, labels, 6.0)
    foot = _paint_ice_front(canvas, light, rng, camera.horizon)
    low = Camera(float(foot.mean()) - 1.0, camera.center, camera.focal, 0.012)
    free = (canvas.rows >= foot - 1.0).astype(np.float32)
    land.paint_water(canvas, low, light, rng, free, 0.05, rng.uniform(0.1, 0.4))
    _paint_floes(canvas, low, light, rng)


def _paint_ice_front(canvas: Canvas, light: Light, rng: Generator, horizon: float) -> Array:
    """Paint a cliff of ice and return the rows where it meets the water, (1, W)."""
    size, shift = canvas.size, rng.uniform()
    across = canvas.columns / size
    profile = 0.06 * sample(cloudy(), across * 0.5 + shift, shift) + 0.05 * sample(ridged(), across * 0.3, shift)
    profile = profile + 0.01 * sample(grainy(), across * 0.6, shift)
    lowest = horizon / size
    top = lowest - rng.uniform(0.24, 0.44) * (1.0 + profile * 2)
    foot: Array = lowest + rng.uniform(0.02, 0.06) + 0.01 * sample(cloudy(), across, shift)
    rows = slice(max(int(top.min() * size), 0), min(int(foot.max() * size) + 2, size))
    down = canvas.rows[rows] / size
    bent = 0.02 * sample(cloudy(), across * 0.6, down * 0.6 + shift)
    flutes = sample(ridged(), across * 0.8 + shift + bent, down * 0.3 + 2 * bent)
    cracks = smooth(0.78, 0.92, sample(ridged(), across * 0.5 + down * 0.15, down * 0.6 + shift + bent))
    ledges = sample(grainy(), across * 0.55 + bent, down * 0.8 + shift)
    fraction = np.clip((down - top) / (foot - top), 0.0, 1.0)
    lit = light.shade(0.3 * ledges, 0.4 - 0.2 * fraction, np.full_like(fraction, -0.7)) * 0.75 + 0.25
    blue = smooth(0.62, 1.15, flutes + 0.08 * ledges + 0.3 * fraction - 0.1) * 0.7
    ice = mix(color(0.88, 0.93, 0.97), color(0.30, 0.62, 0.80), blue[..., None])
    ice = mix(ice * (1.0 + 0.05 * ledges[..., None]), color(0.10, 0.36, 0.55), (cracks * 0.75)[..., None])
    crown = color(0.93, 0.95, 0.97) * (light.sky_color + 0.5 * light.sun_color)
    ice = mix(ice * lit, crown, smooth(0.06, 0.0, fraction)[..., None])
    alpha = np.clip((down - top) * size, 0, 1) * np.clip((foot - down) * size, 0, 1)
    canvas.paint(alpha, light.through_air(ice, 0.2), GLACIER, (rows, slice(None)))
    return foot * size


def _paint_floes(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Paint drifting ice on the water."""
    top = int(camera.horizon) + 1
    below = np.maximum(canvas.rows[top:] - camera.horizon, 0.5) / canvas.size
    x, z = (canvas.columns - camera.center) / canvas.size / below * 0.05, 0.05 / below
    form = speckle(grainy(), x * 0.5 + rng.uniform(), z * 0.5 + 0 * x) + 0.8 * sample(cloudy(), x * 0.3, z * 0.3)
    edge = rng.uniform(0.6, 2.6)
    cover = smooth(edge, edge + 0.25, form)
    tone = mix(color(0.6, 0.78, 0.86), color(0.95, 0.97, 1.0), smooth(edge, edge + 0.8, form)[..., None])
    lit = tone * (light.sky_color + light.sun_color * (0.25 + 0.5 * light.sun[1]))
    canvas.paint(cover, lit, GLACIER, (slice(top, None), slice(None)))


def paint_sea(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint open water, a beach or a coast, sometimes with boats."""
    camera = _random_camera(canvas, rng, (0.25, 0.55), rng.uniform(3.0, 25.0), rng.uniform(0.8, 1.6))
    paint_sky(canvas, camera, light, rng)
    if rng.uniform() < 0.45:
        _paint_coast(canvas, camera, light, rng, rng.uniform(0.1, 1.0))
    everywhere = ((canvas.rows > camera.horizon - 1) & (canvas.labels == BACKGROUND)).astype(np.float32)
    rough = rng.uniform(0.1, 1.0)
    land.paint_water(canvas, camera, light, rng, everywhere, camera.height * rng.uniform(3.0, 7.0), rough)
    if rng.uniform() < 0.4:
        _paint_beach(canvas, camera, light, rng)
    for _ in range(choose(rng, 0, 0, 0, 1, 2, 4)):
        depth = rng.uniform(0.02, 0.3)
        position = (canvas.size * rng.uniform(0.1, 0.9), camera.horizon + canvas.size * depth)
        town.paint_boat(canvas, light, rng, position, canvas.scale * (5.0 + 90.0 * depth * rng.uniform(0.5, 1.0)))


def _paint_coast(canvas: Canvas, camera: Camera, light: Light, rng: Generator, tall: float) -> None:
    """Paint bare or wooded hills beyond the water; unit: kilometer."""
    far = Camera(camera.horizon, camera.center, camera.focal, camera.height / 1000)
    ground = land.lay_ground(canvas, far, 9.0)
    side = choose(rng, -1.0, 1.0) * rng.uniform(0.0, 0.8)
    lean = smooth(-0.6, 1.0, side * ground.x / ground.z * 2.0 + rng.uniform(-0.3, 0.5)) * smooth(1.5, 4.5, ground.z)
    height: Array = (land.relief(ground, rng, 12.0) * 1.5 * lean - 0.12) * tall * 2.0
    tree_line = choose(rng, -1.0, tall * 0.5, tall * 2.0)
    surface, labels, height = _cover_mountains(ground, height, far, rng, rng.uniform(0.6, 3.0), tree_line)
    land.paint_land(canvas, far, light, ground, height, surface, labels, 5.0)


def _paint_beach(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Paint sand in the foreground, with wet sand and foam at the water."""
    across, down = canvas.columns / canvas.size, canvas.rows / canvas.size
    slant, shift = rng.uniform(-0.7, 0.7), rng.uniform()
    runs = 0.03 * sample(cloudy(), across * 0.3 + shift, shift)
    lowest = camera.horizon / canvas.size
    edge: Array = lowest + (1 - lowest) * rng.uniform(0.6, 0.8) + slant * (across - 0.5) * (1 - lowest) * 0.6 + runs
    grain = speckle(grainy(), across * 1.3, down * 2.2 + shift)
    inland = down - np.maximum(edge, lowest + 0.04)
    sand = vary(rng, color(0.72, 0.60, 0.42), 0.25) * (1.0 + 0.06 * grain)[..., None]
    wet = mix(sand * 0.55, light.horizon, 0.25)
    lit = mix(wet, sand, smooth(0.02, 0.09, inland + 0.006 * grain)[..., None])
    lit = lit * (light.sky_color + light.sun_color * max(light.sun[1], 0.15))
    canvas.paint(smooth(-0.004, 0.004, inland), lit, BACKGROUND)
    for distance in (0.0, -0.05, -0.12):
        strength = 0.9 + distance * 3
        band = np.exp(-(((inland - distance + 0.006 * grain) / (0.011 + 0.02 * abs(distance))) ** 2)) * strength
        white = light.sky_color + 0.5 * light.sun_color
        canvas.paint(np.clip(band * (0.8 + 0.3 * grain), 0, 1) * (down > lowest), white, SEA)


def paint_forest(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint the inside of a forest, its edge, or wooded hills."""
    choice = rng.uniform()
    if choice < 0.5:
        _among_trunks(canvas, light, rng)
    elif choice < 0.8:
        _wood_edge(canvas, light, rng)
    else:
        _wooded_hills(canvas, light, rng)


def _among_trunks(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint the inside of a forest: leaves, trunks and floor."""
    size, scale = canvas.size, canvas.scale
    camera = _random_camera(canvas, rng, (0.5, 0.68), 1.7, 1.0)
    paint_sky(canvas, camera, light, rng)
    leaves, bark = land.foliage_color(rng), vary(rng, color(0.30, 0.25, 0.2), 0.4)
    if rng.uniform() < 0.12:
        bark = color(0.75, 0.74, 0.7)
    level = (camera.horizon - canvas.rows) / size
    closed = rng.uniform(0.5, 2.0)
    for air in (3.2, 2.0):
        land.paint_foliage(
            canvas, light, rng, closed + 0 * (level + canvas.columns), mix(leaves, light.horizon, 0.12), air
        )
    floor = mix(vary(rng, color(0.30, 0.21, 0.13), 0.3), leaves, rng.uniform())
    _paint_floor(canvas, camera, light, rng, floor)
    number = rng.integers(9, 21)
    for near in np.sort(rng.uniform(0.05, 1.0, number) ** 1.8).tolist():
        foot = camera.horizon + size * (0.02 + 0.42 * near)
        thick = scale * (2.0 + rng.uniform(10, 20) * near)
        land.paint_trunk(
            canvas, light, rng, (rng.uniform(-0.05, 1.05) * size, foot), thick, bark, 2.4 * (1 - near) ** 2
        )
        if rng.uniform() < 0.25:
            position = (rng.uniform(0, 1) * size, foot - scale * 2)
            reach = scale * (6 + 22 * near)
            land.paint_crown(canvas, light, rng, position, (reach, reach * 0.6), leaves, 1.2 * (1 - near))
    hanging = smooth(0.1, 0.55, level) * 3.2 - rng.uniform(1.4, 2.6) + 0 * canvas.columns
    land.paint_foliage(canvas, light, rng, hanging, leaves, 0.3)


def _paint_floor(canvas: Canvas, camera: Camera, light: Light, rng: Generator, floor: Array) -> None:
    """Paint the floor of a forest with spots of light."""
    x, distance = camera.ground_points(canvas.rows, canvas.columns, 1.0)
    grain = speckle(grainy(), x * 0.12 + rng.uniform(), distance * 0.12)
    spots = smooth(0.2, 1.4, sample(cloudy(), x * 0.08, distance * 0.05 + rng.uniform()) + 0.4 * grain)
    lit = light.sky_color * 0.7 + light.sun_color * (0.1 + 0.7 * spots)[..., None]
    colors = floor * lit * np.clip(0.9 + 0.28 * grain, 0.2, 2.0)[..., None]
    alpha = smooth(-0.01, 0.06, (canvas.rows - camera.horizon) / canvas.size + 0.012 * grain)
    canvas.paint(alpha, light.through_air(colors, distance / 12.0), FOREST)


def _wood_edge(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint rows of trees behind a meadow, with hills behind them."""
    size, scale = canvas.size, canvas.scale
    camera = _random_camera(canvas, rng, (0.4, 0.6), 2.5, 1.0)
    paint_sky(canvas, camera, light, rng)
    if rng.uniform() < 0.5:
        _paint_coast(canvas, camera, light, rng, rng.uniform(0.4, 1.2))
    town.paint_ground(canvas, camera, light, vary(rng, color(*land.GRASS), 0.35), 0.12, BACKGROUND)
    leaves, conifers = land.foliage_color(rng), rng.uniform(0.0, 1.0) ** 0.5
    ranks = int(rng.integers(2, 5))
    for rank in range(ranks):
        near = (rank + 1) / ranks
        foot, tall = camera.horizon + size * (0.02 + 0.22 * near**1.5), size * (0.2 + 0.5 * near)
        columns = np.arange(-0.05, 1.1, tall * 0.21 / size) * size
        for column in rng.permutation(columns).tolist():
            high, tint = tall * rng.uniform(0.65, 1.1), vary(rng, leaves, 0.25)
            position = (column + rng.normal(0, tall * 0.06), foot + rng.uniform(0, 4) * scale)
            if rng.uniform() < conifers:
                land.paint_spruce(canvas, light, rng, position, high, tint, 2.5 * (1 - near))
            else:
                middle = (position[0], position[1] - high * 0.4)
                land.paint_crown(canvas, light, rng, middle, (high * 0.26, high * 0.42), tint, 2.5 * (1 - near))


def _wooded_hills(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint hills covered with trees; unit: kilometer."""
    camera = _random_camera(canvas, rng, (0.15, 0.4), rng.uniform(0.25, 0.5), rng.uniform(0.9, 1.5))
    paint_sky(canvas, camera, light, rng)
    ground = land.lay_ground(canvas, camera, 8.0)
    height = land.relief(ground, rng, 13.0) * rng.uniform(0.25, 0.6) * smooth(0.0, 2.0, ground.z) + 0.01
    crowns = speckle(grainy(), ground.x * 0.9, ground.z * 0.9) + 0.6 * speckle(grainy(), ground.x * 2.9, ground.z * 2.9)
    patches = sample(cloudy(), ground.x * 0.8, ground.z * 0.8)
    leaves = mix(land.foliage_color(rng), land.foliage_color(rng), smooth(-0.5, 1.0, patches + 0.5 * crowns)[..., None])
    surface = leaves * np.clip(0.85 + 0.3 * crowns, 0.15, 2.0)[..., None]
    labels = np.full(height.shape, FOREST, np.int8)
    if rng.uniform() < 0.6:
        bare = height > rng.uniform(0.15, 0.5) + 0.1 * patches
        surface = np.where(bare[..., None], land.rock_color(rng), surface)
        labels[bare] = MOUNTAIN
    land.paint_land(canvas, camera, light, ground, height + 0.005 * crowns, surface, labels, 4.0)


def paint_fjord(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint an arm of the sea between steep, partly wooded mountains; unit: kilometer."""
    size = canvas.size
    camera = Camera(size * rng.uniform(0.36, 0.44), size * rng.uniform(0.42, 0.58), size * 0.85, 0.14)
    paint_sky(canvas, camera, light, rng)
    ground = land.lay_ground(canvas, camera, 14.0)
    wide = rng.uniform(0.55, 0.8)
    middle = rng.uniform(-0.4, 0.4) * np.sin(ground.z * 0.7)
    aside = np.abs(ground.x - middle) - wide - 0.12 * sample(cloudy(), 0.15 * ground.z, 0.1 * np.sign(ground.x))
    walls = smooth(0.0, 1.6, aside) * 1.5 + smooth(7.0, 12.0, ground.z) * 1.6
    height = (0.35 + 1.0 * land.relief(ground, rng, 12.0)) * walls - 0.03
    snow_line, tree_line = rng.uniform(0.8, 1.4), rng.uniform(0.25, 0.4)
    surface, labels, height = _cover_mountains(ground, height, camera, rng, snow_line, tree_line)
    land.paint_land(canvas, camera, light, ground, height, surface, labels, 5.0)
    _fill_with_water(canvas, camera, light, rng, wave=0.25, rough=rng.uniform(0.1, 0.4))
