"""What is wrong with classes as a whole, and pictures that are like none.

Knows counts and embeddings; does not know single labels or pixels.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.types.audit import ClassIssue
from belvedere.types.data import Sample

SMALL_CLASS, IMBALANCE, OUTLIER = "small_class", "class_imbalance", "outlier"
FEW = 20  # pictures of a class, below which little can be learnt of it, and less be measured
IMBALANCED = 5.0  # times the median class, or that part of it
NEIGHBOURS = 10
SAME = 0.99999  # cosine of a picture with itself or an exact copy
OUTLYING = 4.0  # robust deviations below the median nearness
DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations

Floats = NDArray[np.float32]


def check_classes(samples: Sequence[Sample], class_names: Sequence[str]) -> tuple[ClassIssue, ...]:
    """Looks for classes that are too small to learn, and for imbalance.

    Args:
        samples: Those to learn from.
        class_names: All K.

    Returns:
        What was found, class by class; nothing where there is nothing to learn from, as in a set to test on.
    """
    if not samples:
        return ()
    counts = Counter(sample.label for sample in samples)
    middle = float(np.median([counts[name] for name in class_names]))
    found = []
    for name in class_names:
        count = counts[name]
        times = max(count, 1) / max(middle, 1)
        if count < FEW:
            found.append(ClassIssue(name, SMALL_CLASS, count, f"{count} photographs: too few to learn it"))
        if not 1 / IMBALANCED < times < IMBALANCED:
            words = f"{times:.1f} times" if times > 1 else f"1/{1 / times:.1f} of"
            found.append(ClassIssue(name, IMBALANCE, count, f"{count} photographs: {words} the median class"))
    return tuple(found)
