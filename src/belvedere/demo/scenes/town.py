"""Walls with windows and doors in perspective, roads, cars, lamps and boats; lengths are meters."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.demo.scenes.drawing import (
    BACKGROUND,
    BUILDINGS,
    SEA,
    STREET,
    Array,
    Camera,
    Canvas,
    Generator,
    Light,
    Point,
    color,
    coverage,
    grainy,
    mix,
    speckle,
    vary,
)

WALLS = (
    (0.62, 0.56, 0.46),
    (0.70, 0.66, 0.60),
    (0.46, 0.22, 0.16),
    (0.38, 0.38, 0.40),
    (0.68, 0.50, 0.30),
    (0.55, 0.36, 0.28),
    (0.48, 0.56, 0.60),
    (0.76, 0.74, 0.70),
    (0.36, 0.44, 0.40),
)
CARS = (
    (0.55, 0.08, 0.07),
    (0.08, 0.14, 0.36),
    (0.6, 0.6, 0.62),
    (0.06, 0.06, 0.07),
    (0.75, 0.74, 0.7),
    (0.6, 0.5, 0.1),
)
BRICK = 0.45  # height of two courses


@dataclass(frozen=True, slots=True)
class Facade:
    """Style of the walls of a house."""

    wall: Array  # (3,)
    trim: Array  # (3,): frames, bands, cornice
    story: float
    bay: float  # distance of windows
    window_width: float  # fraction of the bay
    window_height: float  # fraction of the story
    shop: bool  # glass ground floor with an awning
    bricks: bool
    seed: float  # for windows and colors
    label: int = BUILDINGS


@dataclass(frozen=True, slots=True)
class House:
    """A house: corners on the ground (x, z), counterclockwise from above."""

    corners: tuple[Point, Point, Point, Point]
    height: float  # to the eaves
    facade: Facade
    roof: float = 0.0  # from eaves to ridge; 0 for a flat roof


def choose_facade(rng: Generator, *, modern: bool | None = None) -> Facade:
    """Return a random facade; `modern` ones are mostly glass."""
    glassy = rng.uniform() < 0.25 if modern is None else modern
    wall = vary(rng, color(*WALLS[rng.integers(len(WALLS))]), 0.2)
    return Facade(
        wall=wall,
        trim=vary(rng, mix(wall, color(0.8, 0.78, 0.74), rng.uniform(0.2, 0.9)), 0.1),
        story=rng.uniform(3.0, 3.8),
        bay=rng.uniform(1.6, 2.4) if glassy else rng.uniform(2.2, 3.6),
        window_width=rng.uniform(0.8, 0.94) if glassy else rng.uniform(0.36, 0.55),
        window_height=rng.uniform(0.62, 0.88) if glassy else rng.uniform(0.45, 0.62),
        shop=bool(rng.uniform() < 0.45),
        bricks=bool(rng.uniform() < 0.5) and not glassy,
        seed=rng.uniform(0, 100),
    )


def paint_house(canvas: Canvas, camera: Camera, light: Light, house: House) -> None:
    """Paint the walls that face the camera, and the roof."""
    sides = list(zip(house.corners, house.corners[1:] + house.corners[:1], strict=True))
    facing = [(start, end) for start, end in sides if start[0] * end[1] < start[1] * end[0]]  # the camera, at (0, 0)
    for start, end in sorted(facing, key=lambda side: -(side[0][1] + side[1][1])):
        _paint_wall(canvas, camera, light, start, end, house)
    if house.roof:
        _paint_roof(canvas, camera, light, house)


def _normal(start: Point, end: Point) -> Point:
    """Return the outward unit normal of a wall, (x, z)."""
    x, z = end[0] - start[0], end[1] - start[1]
    length = math.hypot(x, z)
    return z / length, -x / length


def _paint_wall(canvas: Canvas, camera: Camera, light: Light, start: Point, end: Point, house: House) -> None:
    along_x, along_z = end[0] - start[0], end[1] - start[1]
    aside = (canvas.columns[0] - camera.center) / camera.focal
    turn = along_x - aside * along_z
    fraction = (aside * start[1] - start[0]) / np.where(np.abs(turn) < 1e-6, np.float32(1e-6), turn)
    distance = start[1] + fraction * along_z
    hit = np.flatnonzero((fraction >= 0.0) & (fraction <= 1.0) & (distance > 0.5))
    if not len(hit):
        return
    nearest = float(distance[hit].min())
    top = camera.project(0.0, house.height, nearest)[1] if house.height > camera.height else camera.horizon
    window = canvas.box(float(hit[0]), top, float(hit[-1]), camera.project(0.0, 0.0, nearest)[1])
    if window is None:
        return
    columns = slice(int(hit[0]), int(hit[-1]) + 1)
    z, length = distance[None, columns], math.hypot(along_x, along_z)
    across = fraction[None, columns] * length
    pixel = z / camera.focal
    up = camera.height + (camera.horizon - canvas.rows[window[0]]) * pixel
    alpha = coverage(up / pixel) * coverage((house.height - up) / pixel)
    colors = _facade_colors(light, house, _normal(start, end), across, up, pixel, length)
    canvas.paint(alpha, light.through_air(colors, z / 120.0), house.facade.label, (window[0], columns))


def _within(positions: Array, middle: float, half: float, pixel: Array) -> Array:
    """Return 1 within `half` of the middle, 0 outside, with an edge one pixel wide."""
    return coverage((half - np.abs(positions - middle)) / pixel)


def _facade_colors(
    light: Light, house: House, normal: Point, across: Array, up: Array, pixel: Array, length: float
) -> Array:
    """Return the colors, (h, w, 3), of a lit wall with a normal, (x, z), and a length, meters.

    The meters along the wall, (1, w), above the ground, (h, w), and in a pixel, (1, w), give the points.
    """
    facade = house.facade
    lit = light.shade_plane(normal[0], 0.0, normal[1])
    bays = max(round(length / facade.bay), 1)
    bay, story = length / bays, facade.story
    floor = np.floor(up / story).astype(np.int32)
    column = np.minimum((across / bay).astype(np.int32), bays - 1)
    in_floor: Array = up - floor.astype(np.float32) * story
    in_bay: Array = across - column.astype(np.float32) * bay
    colors: Array = _masonry(facade, across, up, pixel) * lit
    trim = facade.trim * lit
    band = np.maximum(_within(up, house.height - 0.35, 0.35, pixel), _within(in_floor, 0.1, 0.1, pixel) * 0.6)
    colors = mix(colors, trim, band[..., None])
    shop = (floor < 1) & facade.shop
    half_width = _where(shop, 0.44, facade.window_width / 2) * bay
    half_height = _where(shop, 0.36, facade.window_height / 2) * story
    away_across, away_up = np.abs(in_bay - bay / 2), np.abs(in_floor - _where(shop, 0.42, 0.54) * story)
    inward = np.minimum(half_width - away_across, half_height - away_up) / pixel + 0.5
    room = (floor < math.floor((house.height - 0.2) / story)) | (floor < 1)
    frame, pane = np.clip(inward + 0.14 / pixel, 0.0, 1.0) * room, np.clip(inward, 0.0, 1.0) * room
    bar = coverage((0.04 - np.minimum(away_across, away_up)) / pixel) * 0.7
    colors = mix(colors, trim, (frame - pane * (1.0 - bar))[..., None])
    floors = max(int(floor.max()), 0) + 1
    panes = _panes(light, facade, floors, bays)[np.clip(floor, 0, None), column]
    colors = mix(colors, panes, (pane * (1.0 - bar))[..., None])
    if facade.shop:
        stripes = 0.75 + 0.25 * np.sign(np.sin(across * 5.0))
        awning = _within(up, story * 0.88, 0.3, pixel)
        colors = mix(colors, _accent_color(facade.seed) * lit * stripes[..., None] * 1.2, awning[..., None])
    _add_door(facade, lit, colors, across - (bays // 2 + 0.5) * bay, up, pixel)
    return colors


def _where(condition: NDArray[np.bool_], first: float, second: float) -> Array:
    return np.where(condition, np.float32(first), np.float32(second))


def _masonry(facade: Facade, across: Array, up: Array, pixel: Array) -> Array:
    """Return the colors of bricks or plaster, (h, w, 3), darker near the ground."""
    tone = 1.0 + 0.07 * speckle(grainy(), across / 9.0 + facade.seed, up / 9.0)
    tone -= 0.12 * np.exp(np.maximum(up, 0.0) * -0.6)
    if facade.bricks:
        course = np.floor(up / BRICK)
        joint = _within(up - course * BRICK, 0.0, 0.06, pixel)
        joint = joint + _within((across + course * 0.5) % 1.0, 0.0, 0.05, pixel)
        tone *= 1.0 - 0.2 * joint * np.clip(0.25 / pixel, 0.0, 1.0)
    return tone[..., None] * facade.wall


def _panes(light: Light, facade: Facade, floors: int, bays: int) -> Array:
    """Return the colors of the windows, (floors, bays, 3): dark rooms, curtains, lamps, reflected sky."""
    floor, column = np.arange(floors, dtype=np.float32)[:, None], np.arange(bays, dtype=np.float32)
    chance = np.abs(np.sin(floor * 12.9898 + column * 78.233 + facade.seed) * 43758.5453) % 1.0
    inside = color(0.05, 0.06, 0.07) + (chance * 0.12)[..., None]
    mirrored = mix(light.horizon, light.zenith, 0.6) * 0.9
    panes = mix(inside, mirrored, (0.12 + 0.5 * (chance * 7.0 % 1.0) ** 2)[..., None])
    curtain = (chance * 13.0 % 1.0) < 0.15
    panes = mix(panes, light.sky_color, (curtain * 0.6)[..., None])
    lamp = (chance * 29.0 % 1.0) < 0.04 + 0.55 * light.dark
    return mix(panes, color(1.0, 0.82, 0.45), (lamp * (0.5 + 0.4 * light.dark))[..., None]).astype(np.float32)


def _accent_color(seed: float) -> Array:
    """Return the color of an awning or door, (3,)."""
    return color(*CARS[int(seed) % len(CARS)])


def _add_door(facade: Facade, lit: Array, colors: Array, aside: Array, up: Array, pixel: Array) -> None:
    """Add a door to the colors of a wall; `aside` is the distance from its middle."""
    positions = np.flatnonzero(np.abs(aside[0]) < 0.8)
    if not len(positions):
        return
    columns = slice(int(positions[0]), int(positions[-1]) + 1)
    aside, up, pixel = aside[:, columns], up[:, columns], pixel[:, columns]
    door = _within(aside, 0.0, 0.65, pixel) * _within(up, 1.1, 1.15, pixel)
    panel = 1.0 - 0.35 * _within(aside, 0.0, 0.4, pixel) * _within(up, 1.3, 0.6, pixel)
    wood = (_accent_color(facade.seed * 7) * 0.6 + 0.04) * lit
    colors[:, columns] = mix(colors[:, columns], wood * panel[..., None], door[..., None])


def _paint_roof(canvas: Canvas, camera: Camera, light: Light, house: House) -> None:
    """Paint the visible faces of a gable roof with its ridge along the longer side."""
    corners = house.corners
    if math.dist(corners[0], corners[1]) < math.dist(corners[1], corners[2]):
        corners = (*corners[1:], corners[0])
    first, second, third, fourth = corners
    eaves, ridge = house.height, house.height + house.roof
    ends = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ((second, third), (fourth, first))]
    lift = math.atan2(math.dist(second, third) / 2, house.roof)
    tiles = mix(color(0.42, 0.17, 0.11), color(0.24, 0.23, 0.25), (house.facade.seed % 1.0) ** 2)
    faces = (
        ((first, second), (ends[0], ends[1]), lift, tiles),
        ((third, fourth), (ends[1], ends[0]), lift, tiles),
        ((second, third), (ends[0],), 0.0, house.facade.wall),
        ((fourth, first), (ends[1],), 0.0, house.facade.wall),
    )
    for low, high, rise, tint in faces:
        across, away = _normal(*low)
        normal = (across * math.cos(rise), math.sin(rise), away * math.cos(rise))
        x, z = low[0]
        if normal[0] * x + normal[1] * (eaves - camera.height) + normal[2] * z >= 0.0 or min(low[0][1], low[1][1]) < 1:
            continue
        seen = light.through_air(tint * light.shade_plane(*normal), z / 120.0)
        points = [camera.project(a, eaves, b) for a, b in low] + [camera.project(a, ridge, b) for a, b in high]
        canvas.polygon(points, seen, house.facade.label)


def paint_ground(canvas: Canvas, camera: Camera, light: Light, surface: Array, grain: float, label: int) -> None:
    """Paint level ground of one color, (3,), below the horizon; `grain` is its roughness."""
    top = max(int(camera.horizon), 0)
    x, distance = camera.ground_points(canvas.rows[top:], canvas.columns, 0.3)
    rough = speckle(grainy(), x / 14.0, distance / 14.0 + 0 * x) + speckle(grainy(), x / 60.0, distance / 60.0 + 0 * x)
    lit = light.sky_color + light.sun_color * max(light.sun[1], 0.05)
    seen = light.through_air(surface * lit * np.clip(1.0 + grain * rough, 0.3, 1.8)[..., None], distance / 120.0)
    canvas.paint(coverage(canvas.rows[top:] - camera.horizon) + 0 * x, seen, label, (slice(top, None), slice(None)))


def paint_strip(
    canvas: Canvas, camera: Camera, light: Light, sides: Point, reach: Point, surface: Array, label: int
) -> None:
    """Paint a strip on the ground between two x and two z."""
    (left, right), (near, far) = sides, reach
    corners = [(left, near), (right, near), (right, far), (left, far)]
    lit = surface * (light.sky_color + light.sun_color * max(light.sun[1], 0.05))
    seen = light.through_air(lit, np.asarray((near * 2 + far) / 3 / 120.0))
    canvas.polygon([camera.project(x, 0.0, z) for x, z in corners], seen, label, 0.9)


def paint_car(canvas: Canvas, camera: Camera, light: Light, position: Point, paint: Array) -> None:
    """Paint a car from behind, with the middle of its rear at (x, z)."""
    x, z = position
    gray = light.sky_color + light.sun_color * 0.4
    body, dark = paint * (gray + 0.1), color(0.05, 0.05, 0.06) * (gray + 0.2)
    glass = mix(light.zenith, color(0.1, 0.11, 0.12), 0.6)

    def face(points: list[tuple[float, float, float]], tint: Array, opacity: float = 1.0) -> None:
        canvas.polygon([camera.project(x + a, up, z + deep) for a, up, deep in points], tint, STREET, opacity)

    face([(-1.05, 0.02, -0.2), (1.05, 0.02, -0.2), (1.05, 0.02, 4.3), (-1.05, 0.02, 4.3)], dark * 0.4, 0.75)
    near = -0.9 if x > 0 else 0.9
    face([(near, 0.3, 0), (near, 0.95, 0), (near, 0.9, 4.2), (near, 0.3, 4.2)], body * 0.75)
    face([(near * 0.95, 0.92, 0.4), (near * 0.8, 1.42, 1.0), (near * 0.8, 1.42, 2.5), (near * 0.95, 0.92, 3.3)], glass)
    face([(-0.9, 0.28, 0), (0.9, 0.28, 0), (0.9, 0.85, 0), (0.82, 1.0, 0), (-0.82, 1.0, 0), (-0.9, 0.85, 0)], body)
    face([(-0.82, 1.0, 0.2), (0.82, 1.0, 0.2), (0.68, 1.46, 0.7), (-0.68, 1.46, 0.7)], body * 0.9)
    face([(-0.7, 1.03, 0.2), (0.7, 1.03, 0.2), (0.58, 1.38, 0.6), (-0.58, 1.38, 0.6)], glass)
    for middle in (-0.68, 0.68):
        left, right = middle - 0.16, middle + 0.16
        face([(left, 0, 0), (right, 0, 0), (right, 0.34, 0), (left, 0.34, 0)], dark)
        lamp = color(0.9, 0.12, 0.08) * (0.7 + 0.5 * light.dark)
        face([(left, 0.7, 0), (right, 0.7, 0), (right, 0.86, 0), (left, 0.86, 0)], lamp)


def paint_lamp(canvas: Canvas, camera: Camera, light: Light, position: Point, arm: float) -> None:
    """Paint a street lamp at (x, z), with an arm of `arm` meters to the right."""
    x, z = position
    iron = light.through_air(color(0.16, 0.17, 0.18) * (light.sky_color + 0.2), np.asarray(z / 120.0))
    thick = max(0.07, 0.35 * z / camera.focal)
    for points in (
        [(x - thick, 0.0), (x + thick, 0.0), (x + thick * 0.7, 6.0), (x - thick * 0.7, 6.0)],
        [(x, 5.9), (x, 6.0 + thick), (x + arm, 6.3 + thick), (x + arm, 6.2)],
    ):
        canvas.polygon([camera.project(a, up, z) for a, up in points], iron, STREET)
    bulb = mix(iron, color(1.0, 0.9, 0.6), 0.2 + 0.8 * light.dark)
    head = [(x + arm * 0.75, 6.1), (x + arm * 1.15, 6.15), (x + arm * 1.15, 6.4), (x + arm * 0.75, 6.4)]
    canvas.polygon([camera.project(a, up, z) for a, up in head], bulb, STREET)


def paint_boat(canvas: Canvas, light: Light, rng: Generator, position: Point, long: float) -> None:
    """Paint a sailing boat at (column, row), `long` pixels long."""
    column, row = position
    lit = light.sky_color + light.sun_color * 0.5
    hull = vary(rng, color(*CARS[rng.integers(len(CARS))]), 0.2) * lit
    half, lean = long / 2, rng.uniform(-0.06, 0.06)
    deck = row - long * 0.16
    corners = [(column - half, deck), (column + half, deck), (column + half * 0.7, row), (column - half * 0.75, row)]
    canvas.polygon(corners, hull, SEA)
    top = (column + lean * long, row - long * rng.uniform(1.1, 1.5))
    for side in (-1.0, 1.0):
        sail = [(column + side, row - long * 0.24), (column + side * half * 0.85, row - long * 0.26), top]
        canvas.polygon(sail, color(0.92, 0.9, 0.85) * lit * (1.0 - 0.12 * side), BACKGROUND)
