"""Candidate slices: images on one side of a threshold, of one category, or in one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.kmeans import kmeans
from belvedere.data.principal_components import principal_components
from belvedere.evaluation.weak_slices.attributes import ImageAttributes
from belvedere.inference.uncertainty.knn import unit_vectors

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MIN_IMAGES = 20  # of a slice
MIN_FRACTION, MAX_FRACTION = 0.02, 0.5  # of the images, in a slice
NUM_THRESHOLDS, NUM_GAPS = 50, 15  # of an attribute, on either side
NUM_CLUSTERS, CLUSTER_ITERATIONS = 20, 25
CLUSTER_DIM = 32  # principal components in which clusters are found
CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slice to test: the images from `start` to `stop` in the order of its attribute."""

    attribute: str
    start: int
    stop: int
    threshold: float | None = None  # of a number
    gap: float = 0.0  # between the threshold and the next image outside
    is_above: bool = False  # whether the images are above the threshold, or not of the category
    category: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Slices by one attribute, each of which is a range of the images in the same order."""

    order: Indices  # (N,), all images
    candidates: tuple[Candidate, ...]

    def members(self, candidate: Candidate) -> Bools:
        """Return which images are in a slice, (N,)."""
        inside = np.zeros(len(self.order), bool)
        inside[self.order[candidate.start : candidate.stop]] = True
        return inside

    def sums(self, values: Floats) -> Floats:
        """Return the sums of values, (N, n), over each of S slices, (S, n)."""
        cumulative = np.zeros((len(values) + 1, values.shape[1]))
        np.cumsum(values[self.order], axis=0, out=cumulative[1:])
        starts, stops = ([getattr(each, name) for each in self.candidates] for name in ("start", "stop"))
        return np.asarray(cumulative[stops] - cumulative[starts])


def attribute_families(attributes: Sequence[ImageAttributes]) -> list[Family]:
    """Return the slices of N images by each of their attributes."""
    numbers = sorted({name for each in attributes for name in each.numbers})
    categories = sorted({name for each in attributes for name in each.categories})
    found = [_thresholds(name, np.array([each.numbers.get(name, np.nan) for each in attributes])) for name in numbers]
    found += [_categories(name, [each.categories.get(name, "") for each in attributes]) for name in categories]
    return [family for family in found if family.candidates]


def size_limits(num_images: int) -> tuple[int, int]:
    """Return the smallest and the largest number of images of a slice."""
    return max(MIN_IMAGES, round(MIN_FRACTION * num_images)), int(MAX_FRACTION * num_images)


def _thresholds(name: str, values: Floats) -> Family:
    """Return slices on either side of evenly spaced ranks; equal values stay together."""
    least, most = size_limits(len(values))
    order = np.argsort(values, kind="stable")  # unknown values are last
    known = values[order][: int((~np.isnan(values)).sum())]
    if len(known) < least or most < least:
        return Family(order, ())
    most = min(most, len(known))
    below = [
        Candidate(name, 0, int(count), float(known[count - 1]), float(known[count] - known[count - 1]))
        for count in _breaks(known, least, most)
    ]
    above = [
        Candidate(
            *(
                name,
                len(known) - int(count),
                len(known),
                float(known[-count]),
                float(known[-count] - known[-count - 1]),
            ),
            is_above=True,
        )
        for count in _breaks(-known[::-1], least, most)
    ]
    return Family(order, tuple(below + above))


def _breaks(ascending: Floats, least: int, most: int) -> Indices:
    """Return numbers of lowest values that can be a slice: evenly spaced ones, and those before the largest gaps."""
    even = np.linspace(least, most, NUM_THRESHOLDS).astype(int)
    gaps = np.diff(ascending)[least - 1 : most]  # between value n and the next, for n = least ...
    counts = np.union1d(even, np.argsort(-gaps, kind="stable")[:NUM_GAPS] + least)
    counts = np.searchsorted(ascending, ascending[counts - 1], "right")  # equal values stay together
    return np.asarray(np.unique(counts[(counts <= most) & (counts < len(ascending))]))


def _categories(name: str, values: Sequence[str]) -> Family:
    """Return a slice of each category, and one of the images that are not of the most frequent one."""
    least, most = size_limits(len(values))
    kinds, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")
    stops = np.cumsum(counts[frequent])
    candidates = [
        Candidate(name, int(stop - size), int(stop), category=str(kind))
        for kind, size, stop in zip(kinds[frequent], counts[frequent], stops, strict=True)
        if kind
    ]
    if len(kinds) > 2 and kinds[frequent[0]]:
        candidates.append(Candidate(name, int(stops[0]), len(values), is_above=True, category=str(kinds[frequent[0]])))
    order = np.argsort(np.argsort(frequent)[numbers], kind="stable")
    return Family(order, tuple(each for each in candidates if least <= each.stop - each.start <= most))


def cluster_family(embeddings: NDArray[np.float32], seed: int = 0) -> Family:
    """Return the clusters of embeddings, (N, D), by k-means on their principal components."""
    least, _ = size_limits(len(embeddings))
    clusters = max(1, min(NUM_CLUSTERS, len(embeddings) // (2 * least)))
    components = principal_components(unit_vectors(embeddings.astype(np.float64)), CLUSTER_DIM)
    assigned = kmeans(components, clusters, CLUSTER_ITERATIONS, np.random.default_rng(seed))
    return _categories(CLUSTER, [str(number) for number in assigned])
