"""Scenes of towns: buildings and street."""

import itertools
import math

import numpy as np

from belvedere.demo.scenes import land, town
from belvedere.demo.scenes.drawing import (
    BACKGROUND,
    FOREST,
    STREET,
    Array,
    Camera,
    Canvas,
    Generator,
    Light,
    Point,
    choose,
    color,
    mix,
    paint_sky,
    vary,
)

Corners = tuple[Point, Point, Point, Point]


def _block(left: float, right: float, near: float, far: float) -> Corners:
    return (left, near), (right, near), (right, far), (left, far)


def _rotated(corners: Corners, turn: float, position: Point) -> Corners:
    """Return corners rotated around the origin, then moved."""
    sine, cosine = math.sin(turn), math.cos(turn)
    first, second, third, fourth = (
        (x * cosine - z * sine + position[0], x * sine + z * cosine + position[1]) for x, z in corners
    )
    return first, second, third, fourth


def _asphalt(rng: Generator) -> Array:
    """Return a random color of asphalt or cobbles, (3,)."""
    base = color(0.26, 0.26, 0.27) if rng.uniform() < 0.7 else color(0.46, 0.42, 0.37)
    return vary(rng, base, 0.3)


def paint_buildings(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint a corner house, towers, or a row of fronts."""
    size = canvas.size
    camera = Camera(size * rng.uniform(0.56, 0.85), size * rng.uniform(0.35, 0.65), size * rng.uniform(0.8, 1.2), 1.8)
    paint_sky(canvas, camera, light, rng)
    if rng.uniform() < 0.35:
        town.paint_ground(canvas, camera, light, vary(rng, color(*land.GRASS), 0.3), 0.1, BACKGROUND)
    else:
        town.paint_ground(canvas, camera, light, _asphalt(rng), 0.05, STREET)
    choose(rng, _paint_corner, _paint_corner, _paint_towers, _paint_front)(canvas, camera, light, rng)
    for _ in range(choose(rng, 0, 0, 1, 2, 3)):
        _paint_bush(canvas, camera, light, rng, (rng.uniform(-9, 9), rng.uniform(11, 16)))


def _paint_bush(canvas: Canvas, camera: Camera, light: Light, rng: Generator, position: Point) -> None:
    """Paint a bush, which belongs to no class."""
    reach = rng.uniform(0.7, 1.8)
    middle = camera.project(position[0], reach * 0.8, position[1])
    radius = reach * camera.focal / position[1]
    land.paint_crown(canvas, light, rng, middle, (radius, radius * 0.9), land.foliage_color(rng), 0.0, BACKGROUND)


def _paint_corner(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Paint a house from its corner, with others behind it."""
    for _ in range(rng.integers(1, 4)):
        corners = _rotated(_block(-9, 9, -7, 7), rng.uniform(-0.5, 0.5), (rng.uniform(-32, 32), rng.uniform(46, 60)))
        roof = choose(rng, 0.0, 5.0)
        house = town.House(corners, rng.uniform(6, 18), town.choose_facade(rng), roof)
        town.paint_house(canvas, camera, light, house)
    wide, deep = rng.uniform(6, 10), rng.uniform(5, 8)
    turn = choose(rng, -1.0, 1.0) * rng.uniform(0.25, 0.95)
    position = (rng.uniform(-3, 3), rng.uniform(18, 24))
    low = rng.uniform() < 0.45
    height = rng.uniform(5.5, 8.5) if low else rng.uniform(10, 24)
    corners = _rotated(_block(-wide, wide, -deep, deep), turn, position)
    house = town.House(corners, height, town.choose_facade(rng), rng.uniform(2.5, 5.0) if low else 0.0)
    town.paint_house(canvas, camera, light, house)


def _paint_towers(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Paint office towers, far to near."""
    for distance in np.sort(rng.uniform(45, 120, rng.integers(7, 12)))[::-1].tolist():
        half = rng.uniform(6, 12)
        position = (rng.uniform(-0.55, 0.55) * distance, distance)
        corners = _rotated(_block(-half, half, -half, half), rng.uniform(-0.7, 0.7), position)
        facade = town.choose_facade(rng, modern=bool(rng.uniform() < 0.65))
        town.paint_house(canvas, camera, light, town.House(corners, rng.uniform(18, 75), facade))


def _paint_front(canvas: Canvas, camera: Camera, light: Light, rng: Generator) -> None:
    """Paint a row of town houses, almost head-on."""
    turn, distance = rng.uniform(-0.45, 0.45), rng.uniform(13, 20)
    left = -30.0
    while left < 30.0:
        right = left + rng.uniform(7, 15)
        corners = _rotated(_block(left, right, 0, 10), turn, (0.0, distance))
        if min(z for _, z in corners[:2]) > 2.0:
            roof = choose(rng, 0.0, 3.0)
            town.paint_house(
                canvas, camera, light, town.House(corners, rng.uniform(8, 19), town.choose_facade(rng), roof)
            )
        left = right


def paint_street(canvas: Canvas, light: Light, rng: Generator) -> None:
    """Paint a road to its vanishing point between houses or trees, with cars and lamps."""
    size = canvas.size
    eye = rng.uniform(2.2, 4.5)
    camera = Camera(size * rng.uniform(0.28, 0.52), size * rng.uniform(0.3, 0.7), size * rng.uniform(0.7, 1.1), eye)
    paint_sky(canvas, camera, light, rng)
    half, path = rng.uniform(3.5, 7.0), rng.uniform(1.5, 3.5)
    green = rng.uniform() < 0.3
    verge = vary(rng, color(*land.GRASS), 0.3) if green else vary(rng, color(0.5, 0.48, 0.45), 0.2)
    town.paint_ground(canvas, camera, light, verge, 0.07, BACKGROUND if green else STREET)
    _paint_road(canvas, camera, light, rng, half, path)
    for side in (-1.0, 1.0):
        if rng.uniform() < (0.55 if green else 0.1):
            _paint_trees(canvas, camera, light, rng, side * (half + path + 2.0))
        else:
            _paint_row(canvas, camera, light, rng, side, half + path + (rng.uniform(2, 8) if green else 0.0))
    _paint_traffic(canvas, camera, light, rng, half, path)


def _paint_road(canvas: Canvas, camera: Camera, light: Light, rng: Generator, half: float, path: float) -> None:
    """Paint road, markings, curbs and sidewalks."""
    reach = (camera.height * 0.6, 400.0)
    stone = vary(rng, color(0.52, 0.50, 0.47), 0.2)
    town.paint_strip(canvas, camera, light, (-half - path, half + path), reach, stone, STREET)
    road = _asphalt(rng)
    town.paint_strip(canvas, camera, light, (-half - 0.2, half + 0.2), reach, stone * 1.35, STREET)
    town.paint_strip(canvas, camera, light, (-half, half), reach, road, STREET)
    white = mix(road, color(0.9, 0.9, 0.86), rng.uniform(0.4, 1.0))
    if rng.uniform() < 0.75:
        start = rng.uniform(0, 6)
        for near in np.arange(2.0 + start, 70.0, 8.0).tolist():
            town.paint_strip(canvas, camera, light, (-0.1, 0.1), (near, near + 4.0), white, STREET)
    if rng.uniform() < 0.3:
        near = rng.uniform(7, 14)
        for left in np.arange(-half + 0.3, half - 0.5, 1.1).tolist():
            town.paint_strip(canvas, camera, light, (left, left + 0.55), (near, near + 3.5), white, STREET)


def _paint_row(canvas: Canvas, camera: Camera, light: Light, rng: Generator, side: float, edge: float) -> None:
    """Paint the houses along one side of the road, far to near."""
    ends = np.cumsum(rng.uniform(10, 22, 7)) + 3.0 - rng.uniform(0, 9)
    tall = rng.uniform(7, 18)
    for near, far in reversed(list(itertools.pairwise(ends.tolist()))):
        height = tall * rng.uniform(0.7, 1.3)
        corners = _block(edge, edge + 12, near, far) if side > 0 else _block(-edge - 12, -edge, near, far)
        roof = choose(rng, 0.0, 0.0, 3.0)
        town.paint_house(canvas, camera, light, town.House(corners, height, town.choose_facade(rng), roof))


def _paint_trees(canvas: Canvas, camera: Camera, light: Light, rng: Generator, x: float) -> None:
    """Paint the trees along one side of an avenue, labeled as forest."""
    leaves = land.foliage_color(rng)
    for distance in np.arange(60.0, 7.0, -5.5).tolist():
        tall = rng.uniform(5.0, 8.0)
        column, foot = camera.project(x, 0.0, distance)
        pixel = camera.focal / distance
        bark = color(0.2, 0.16, 0.13) * light.sky_color
        trunk = [(column - 0.2 * pixel, foot), (column + 0.2 * pixel, foot), (column, foot - tall * 0.6 * pixel)]
        canvas.polygon(trunk, bark, BACKGROUND)
        middle = (column, foot - tall * 0.65 * pixel)
        radii = (2.6 * pixel, tall * 0.4 * pixel)
        land.paint_crown(canvas, light, rng, middle, radii, vary(rng, leaves, 0.15), distance / 40.0, FOREST)


def _paint_traffic(canvas: Canvas, camera: Camera, light: Light, rng: Generator, half: float, path: float) -> None:
    """Paint lamps and cars, far to near."""
    things: list[tuple[float, float]] = []
    lamps = choose(rng, -1.0, 0.0, 1.0)
    if lamps:
        things += [(distance, math.inf) for distance in np.arange(rng.uniform(8, 12), 80.0, 14.0).tolist()]
    for side in (-1.0, 1.0):
        if rng.uniform() < 0.5:
            taken = rng.uniform(0.3, 0.9)
            parked = np.arange(rng.uniform(7, 12), 45.0, 6.5).tolist()
            things += [(z, side * (half - 1.1)) for z in parked if rng.uniform() < taken]
    things += [(z, half * 0.45) for z in rng.uniform(9, 45, rng.integers(0, 3)).tolist()]
    for distance, x in sorted(things, reverse=True):
        if math.isinf(x):
            town.paint_lamp(canvas, camera, light, (lamps * (half + path * 0.4), distance), -lamps * 1.8)
        else:
            paint = vary(rng, color(*town.CARS[rng.integers(len(town.CARS))]), 0.3)
            town.paint_car(canvas, camera, light, (x, distance), paint)
