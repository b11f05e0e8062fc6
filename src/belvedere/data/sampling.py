"""Samples of the rows of a dataset; without further imports, since prediction needs this module."""

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(size: int, number: int) -> NDArray[np.intp]:
    """Return `number` evenly spaced indices below `size`; some occur twice if `number` is larger."""
    return np.linspace(0, size - 1, number).astype(np.intp)
