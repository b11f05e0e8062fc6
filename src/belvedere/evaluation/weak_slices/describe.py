"""Slices in plain words."""

import calendar
from collections.abc import Callable

from belvedere.evaluation.weak_slices.candidates import CLUSTER, Candidate

_PIXEL_LEVEL = "{:.0f} of 255"
NUMBERS = {  # of the attribute: comparatives below and above a threshold, and the threshold
    "brightness": ("darker than", "brighter than", _PIXEL_LEVEL),
    "contrast": ("with a contrast under", "with a contrast over", _PIXEL_LEVEL),
    "sharpness": ("with a sharpness under", "with a sharpness over", "{:.2g}"),
    "colorfulness": ("with a colorfulness under", "with a colorfulness over", _PIXEL_LEVEL),
    "file_size": ("with a file of at most", "with a file of at least", "{:.0f} kB"),
    "shorter_side": ("with a shorter side of at most", "with a shorter side of at least", "{:.0f} pixels"),
    "aspect_ratio": ("with a width by height of at most", "with a width by height of at least", "{:.2f}"),
    "jpeg_quality": ("with a JPEG quality of at most", "with a JPEG quality of at least", "{:.0f}"),
}
CATEGORIES: dict[str, Callable[[str], str]] = {
    "camera": "by the camera {}".format,
    "color": "in {}".format,
    "folder": "in the folder {}".format,
    "format": "of the format {}".format,
    "hour": "taken from {} o'clock".format,
    "month": lambda value: f"taken in {calendar.month_name[int(value)]}",
    "size": "of {} pixels".format,
}


def describe(candidate: Candidate) -> str:
    """Return a slice as a noun phrase, such as "images darker than 38 of 255"."""
    if candidate.attribute == CLUSTER:
        return "images that look alike to the model"
    if candidate.threshold is None:
        negation = "not " if candidate.is_above else ""
        return f"images {negation}{CATEGORIES[candidate.attribute](candidate.category)}"
    below, above, form = NUMBERS[candidate.attribute]
    limit = candidate.threshold
    if not below.endswith("at most"):  # in the middle between the images inside and outside
        limit += candidate.gap / 2 * (-1 if candidate.is_above else 1)
    return f"images {above if candidate.is_above else below} {form.format(limit)}"
