"""Samples of the rows of a dataset; without further imports, since prediction needs this module."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.types.data import Sample


def evenly_spaced(size: int, number: int) -> NDArray[np.intp]:
    """Return `number` evenly spaced indices below `size`; some occur twice if `number` is larger."""
    return np.linspace(0, size - 1, number).astype(np.intp)


def choose_samples(samples: Sequence[Sample], class_names: Sequence[str], number: int) -> list[Sample]:
    """Return about `number` samples, class by class, evenly spaced; at least one of each class."""
    per_class = max(1, number // max(1, len(class_names)))
    chosen: list[Sample] = []
    for name in class_names:
        members = [sample for sample in samples if sample.label == name]
        chosen += members[:: max(1, len(members) // per_class)][:per_class]
    return chosen
