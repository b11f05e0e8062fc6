"""Checks of whole classes: too few images, and class imbalance."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from belvedere.runtime.terminal import count
from belvedere.types.audit import ClassIssue
from belvedere.types.data import Sample

SMALL_CLASS, IMBALANCE = "small_class", "class_imbalance"
MIN_CLASS_SIZE = 20  # images
MAX_IMBALANCE = 5.0  # times the median class size, or the median divided by it


def check_classes(samples: Sequence[Sample], class_names: Sequence[str]) -> tuple[ClassIssue, ...]:
    """Return the classes that are too small to train on or far from the median size; none without `samples`."""
    if not samples:
        return ()
    counts = Counter(sample.label for sample in samples)
    median = float(np.median([counts[name] for name in class_names]))
    issues = []
    for name in class_names:
        size = counts[name]
        images = count(size, "image")
        ratio = max(size, 1) / max(median, 1)
        if size < MIN_CLASS_SIZE:
            issues.append(ClassIssue(name, SMALL_CLASS, size, f"{images}, fewer than {MIN_CLASS_SIZE}"))
        if not 1 / MAX_IMBALANCE < ratio < MAX_IMBALANCE:
            message = f"{images}, {ratio:.1f} times the median class size"
            issues.append(ClassIssue(name, IMBALANCE, size, message))
    return tuple(issues)
