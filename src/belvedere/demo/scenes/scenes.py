"""The six scenes and the fjord, with the area of each class.

Lawns, meadows, sand and sky belong to no class, and neither does a single tree in a town.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.demo.scenes.cities import paint_buildings, paint_street
from belvedere.demo.scenes.drawing import CLASS_NAMES, Canvas, Generator, Light, choose_light, develop
from belvedere.demo.scenes.wilds import paint_fjord, paint_forest, paint_glacier, paint_mountain, paint_sea
from belvedere.errors import find_named

FJORD_FRACTION = 0.15  # of the images of the sea

_Painter = Callable[[Canvas, Light, Generator], None]


def _paint_coast(canvas: Canvas, light: Light, rng: Generator) -> None:
    (paint_fjord if rng.random() < FJORD_FRACTION else paint_sea)(canvas, light, rng)


_PAINTERS: Mapping[str, _Painter] = {
    "buildings": paint_buildings,
    "forest": paint_forest,
    "glacier": paint_glacier,
    "mountain": paint_mountain,
    "sea": _paint_coast,
    "street": paint_street,
}
MIN_FRACTION = 0.2  # of the area for the class of a scene
MIN_OTHER_FRACTION = 0.03  # for the other classes of the fjord


@dataclass(frozen=True)
class Scene:
    """A drawn image and its content."""

    pixels: NDArray[np.uint8]  # (H, W, 3), RGB
    label: str  # class with the largest area
    area_fractions: Mapping[str, float]  # class -> fraction of the image, for the classes in it


def draw_scene(class_name: str, seed: int, size: int = 150) -> Scene:
    """Draw an image, `size` pixels high and wide, in which one of `CLASS_NAMES` has the largest area.

    Other classes may be in it. The same arguments give the same image.

    Raises:
        UnknownNameError: There is no such class.
    """
    paint = find_named("scene", class_name, _PAINTERS)
    return _draw_until_valid(class_name, (CLASS_NAMES.index(class_name), seed), size, paint)


def draw_fjord(seed: int, size: int = 150) -> Scene:
    """Draw an image with several classes: the sea, which has the largest area, between mountains and forests."""
    return _draw_until_valid("sea", (len(CLASS_NAMES), seed), size, paint_fjord, others=("mountain", "forest"))


def _draw_until_valid(
    label: str, key: tuple[int, int], size: int, paint: _Painter, others: tuple[str, ...] = ()
) -> Scene:
    """Draw different images until `label` has the largest area and all of `others` are in it."""

    def is_valid(fractions: Mapping[str, float]) -> bool:
        largest = max(fractions, key=lambda name: fractions[name], default=None)
        has_others = all(fractions.get(name, 0.0) >= MIN_OTHER_FRACTION for name in others)
        return largest == label and fractions[label] >= MIN_FRACTION and has_others

    for attempt in itertools.count():
        rng = np.random.default_rng((*key, attempt))
        canvas = Canvas(size)
        paint(canvas, choose_light(rng), rng)
        if is_valid(fractions := canvas.area_fractions()):
            break
    return Scene(develop(canvas, rng), label, fractions)
