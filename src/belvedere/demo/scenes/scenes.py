"""The six scenes and the fjord: which parts stand where, under which light.

Knows what makes a mountain or a street and how much of each class a picture shows; does not know files or data sets.
A lawn, a meadow, sand and the sky belong to no class, and so does a single tree in a town.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.demo.scenes.cities import paint_buildings, paint_street
from belvedere.demo.scenes.drawing import CLASS_NAMES, Canvas, Generator, Light, choose_light, develop
from belvedere.demo.scenes.wilds import paint_fjord, paint_forest, paint_glacier, paint_mountain, paint_sea
from belvedere.errors import UnknownNameError

_Painter = Callable[[Canvas, Light, Generator], None]
_PAINTERS: Mapping[str, _Painter] = {
    "buildings": paint_buildings,
    "forest": paint_forest,
    "glacier": paint_glacier,
    "mountain": paint_mountain,
    "sea": paint_sea,
    "street": paint_street,
}
LEAST_SHARE = 0.2  # of the picture for the class it is drawn for
LEAST_SHARE_BESIDE = 0.03  # for the other classes of the fjord


@dataclass(frozen=True)
class Scene:
    """A drawn picture and what is seen in it."""

    pixels: NDArray[np.uint8]  # (H, W, 3), RGB
    label: str  # the class with the largest area
    shares: Mapping[str, float]  # class -> share of the whole picture's area, for the classes that are there


def draw_scene(class_name: str, seed: int, size: int = 150) -> Scene:
    """Draws a picture of one class; the same arguments give the same picture.

    Args:
        class_name: One of `CLASS_NAMES`.
        seed: Chooses everything in it.
        size: Height and width, pixels.

    Returns:
        The picture; it may hold some of other classes, but `class_name` has the largest area.

    Raises:
        UnknownNameError: There is no such class.
    """
    if class_name not in CLASS_NAMES:
        raise UnknownNameError("practice scene", class_name, CLASS_NAMES)
    index = CLASS_NAMES.index(class_name)
    return _draw_until_largest(class_name, (index, seed), size, _PAINTERS[class_name])


def draw_fjord(seed: int, size: int = 150) -> Scene:
    """Draws the sea between mountains and woods: a picture that asks for more than one label.

    Args:
        seed: Chooses everything in it.
        size: Height and width, pixels.

    Returns:
        The picture; sea has the largest area, and mountain and forest are there too.
    """
    return _draw_until_largest("sea", (len(CLASS_NAMES), seed), size, paint_fjord, also=("mountain", "forest"))


def _draw_until_largest(
    label: str,
    key: tuple[int, int],
    size: int,
    paint: _Painter,
    also: tuple[str, ...] = (),
) -> Scene:
    """Draws again, in another way, until the picture's class is also its largest, and all of `also` are seen."""

    def fits(shares: Mapping[str, float]) -> bool:
        largest = max(shares, key=lambda name: shares[name], default=None)
        beside = all(shares.get(name, 0.0) >= LEAST_SHARE_BESIDE for name in also)
        return largest == label and shares[label] >= LEAST_SHARE and beside

    tries = (np.random.default_rng((*key, attempt)) for attempt in itertools.count())
    canvas, rng = next((canvas, rng) for rng in tries if fits((canvas := _painted(size, paint, rng)).shares()))
    return Scene(develop(canvas, rng), label, canvas.shares())


def _painted(size: int, paint: _Painter, rng: Generator) -> Canvas:
    canvas = Canvas(size)
    paint(canvas, choose_light(rng), rng)
    return canvas
