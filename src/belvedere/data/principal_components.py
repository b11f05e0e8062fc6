"""Principal components of vectors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def principal_components(values: NDArray[np.floating[Any]], number: int) -> NDArray[np.float64]:
    """Return the strongest principal components of N vectors, (N, `number` or D if that is less), strongest first.

    Args:
        values: (N, D).
        number: Number of components.
    """
    centered = values.astype(np.float64)
    centered -= centered.mean(0)
    _, directions = np.linalg.eigh(centered.T @ centered)
    return np.asarray(centered @ directions[:, ::-1][:, :number])
