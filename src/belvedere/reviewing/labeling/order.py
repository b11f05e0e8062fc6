"""Order of the questions: which images to label next, and why.

First typical images of each cluster; then images that the probe is unsure about and that differ from each other. Rare
classes are sought, and one image in ten is random: only those tell how accurate the probe is.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.data.kmeans import nearest_direction, spherical_kmeans
from belvedere.inference.uncertainty.knn import knn_cosine, unit_vectors
from belvedere.reviewing.labeling.probe import Features, Floats, Labels, Rows

TYPICAL, UNCERTAIN, RARE, RANDOM = "typical", "uncertain", "rare", "random"  # reasons
CHOSEN = "chosen"  # by a person
UNLABELED, NO_CLASS = -1, -2  # in the array of labels
RANDOM_FRACTION = 0.1
NUM_CLUSTERS = 24  # typical images, at the start
NUM_NEIGHBORS = 20  # of an image, for the density around it
NUM_REFERENCES = 1000  # images that the density is computed from
KMEANS_STEPS, KMEANS_IMAGES = 15, 5000
DIVERSITY_CANDIDATES = 10  # images an uncertain one is chosen from
RARE_FRACTION = 0.5  # of the median number of labels of a class; a class with fewer is rare
MIN_CLASS_LABELS = 6  # a class with fewer is rare in any case
RARE_EVERY = 2  # turns, of which one seeks a rare class
MIN_RARE_PROBABILITY = 0.02  # below it, no image seems to be of the rare class


@dataclass(frozen=True, slots=True)
class Question:
    """An image to label."""

    row: int
    reason: str  # "typical", "uncertain", "rare" or "random"
    rare_class: int = -1  # that is sought, of the classes at the time of the choice
    class_name: str = ""  # of it


class QuestionOrder:
    """Chooses questions from a pool of images."""

    def __init__(self, features: Features, random_order: Rows) -> None:
        """Find the typical images.

        Args:
            features: Of the N images.
            random_order: (N,) the images in an order that nothing else depends on.
        """
        self.random_order = random_order
        self.directions = unit_vectors(features.values)
        references = self.directions[random_order[:NUM_REFERENCES]]
        self.density = _density(self.directions, references)
        self.typical = _typical_images(self.directions, self.density, random_order)

    def choose(
        self, labels: Labels, open_rows: NDArray[np.bool_], probabilities: Floats | None, count: int = 1
    ) -> list[Question]:
        """Choose questions.

        Args:
            labels: (N,) class of each image, `UNLABELED` or `NO_CLASS`.
            open_rows: (N,) whether the image may be asked about.
            probabilities: (N, K) of the present probe, 0 for a newer class; None before the first probe.
            count: Number of questions; fewer if fewer images are open.
        """
        free, shortage = open_rows.copy(), self.random_shortage(labels, open_rows)
        candidates = _Candidates(self, labels, probabilities)
        found: list[Question] = []
        while len(found) < count and free.any():
            if shortage + RANDOM_FRACTION * len(found) > 0:
                question = Question(int(self.random_order[free[self.random_order].argmax()]), RANDOM)
                shortage -= 1
            else:
                question = candidates.next(free, len(found))
            free[question.row] = False
            found.append(question)
        return found

    def random_shortage(self, labels: Labels, open_rows: NDArray[np.bool_]) -> float:
        """Return how many random images are missing for their fraction of all labels, the next one included."""
        num_labels = int((labels != UNLABELED).sum())
        is_open = open_rows[self.random_order]
        end = int(is_open.argmax()) if is_open.any() else len(labels)
        num_random = int((labels[self.random_order[:end]] != UNLABELED).sum())
        return RANDOM_FRACTION * (num_labels + 1) - num_random


def find_random_sample(labels: Labels, random_order: Rows, skipped: Collection[int] = ()) -> Rows:
    """Return the labeled images before the first gap in a random order, which are a random sample.

    It does not matter why they were labeled. Images that people skipped are no gap.
    """
    is_gap = labels[random_order] == UNLABELED
    if skipped:
        is_gap &= ~np.isin(random_order, list(skipped))
    end = int(is_gap.argmax()) if is_gap.any() else len(labels)
    first = random_order[:end]
    return np.asarray(first[labels[first] != UNLABELED])


class _Candidates:
    """The next questions of one choice."""

    def __init__(self, order: QuestionOrder, labels: Labels, probabilities: Floats | None) -> None:
        self._order, self._probabilities = order, probabilities
        self._labels = labels
        self._turn = int((labels != UNLABELED).sum())
        self._typical = [row for row in order.typical if labels[row] == UNLABELED]
        self._chosen: list[int] = []
        if probabilities is not None:
            self._scores = _uncertainty(probabilities)
            self._rare = find_rare_classes(labels, probabilities.shape[1])

    def next(self, free: NDArray[np.bool_], position: int) -> Question:
        typical = next((row for row in self._typical if free[row]), None)
        if typical is not None:
            return Question(typical, TYPICAL)
        if self._probabilities is None:
            return Question(int(np.where(free, self._order.density, -np.inf).argmax()), TYPICAL)
        if self._rare and (self._turn + position) % RARE_EVERY == 0:
            question = self._seek_rare(free, self._probabilities)
            if question is not None:
                return question
        return self._uncertain(free)

    def _seek_rare(self, free: NDArray[np.bool_], probabilities: Floats) -> Question | None:
        """Return the most probable image of a rare class; the classes take turns."""
        for _ in range(len(self._rare)):
            rare = self._rare.pop(0)
            self._rare.append(rare)
            scores = np.where(free, probabilities[:, rare], -1)
            row = int(scores.argmax())
            if scores[row] >= MIN_RARE_PROBABILITY:
                return Question(row, RARE, rare)
        return None

    def _uncertain(self, free: NDArray[np.bool_]) -> Question:
        scores = np.where(free, self._scores, -np.inf)
        best = np.argpartition(-scores, min(DIVERSITY_CANDIDATES, len(scores) - 1))[:DIVERSITY_CANDIDATES]
        best = best[free[best]]
        row = int(best[scores[best].argmax()])
        if self._chosen:  # far from those chosen before
            chosen = self._order.directions[self._chosen]
            nearness = (self._order.directions[best] @ chosen.T).max(1)
            row = int(best[(scores[best] * (1 - nearness)).argmax()])
        self._chosen.append(row)
        return Question(row, UNCERTAIN)


def find_rare_classes(labels: Labels, num_classes: int) -> list[int]:
    """Return the classes with few labels, rarest first; those without any cannot be sought."""
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    limit = max(MIN_CLASS_LABELS, RARE_FRACTION * float(np.median(counts)))
    return [int(each) for each in np.argsort(counts, kind="stable") if 0 < counts[each] < limit]


def _uncertainty(probabilities: Floats) -> Floats:
    """Return how close the two most likely classes are, (N,), from 0 to 1."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities), np.float32)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(1 - (top[:, 1] - top[:, 0]))


def _density(directions: Floats, references: Floats) -> Floats:
    """Return the mean cosine, (N,), of each image to its nearest references, from 0 to 1."""
    nearest = [knn_cosine(part, references, NUM_NEIGHBORS) for part in _chunks(directions)]
    density: Floats = np.clip(np.concatenate(nearest), 0, 1)
    return density


def _typical_images(directions: Floats, density: Floats, random_order: Rows) -> list[int]:
    """Return the image in the densest part of each cluster, largest cluster first (TypiClust: Hacohen et al. 2022)."""
    sample = directions[random_order[:KMEANS_IMAGES]]
    centers = spherical_kmeans(sample, sample[:NUM_CLUSTERS], KMEANS_STEPS)  # the first ones are random
    nearest = nearest_direction(directions, centers)
    sizes = np.bincount(nearest, minlength=len(centers))
    found = []
    for cluster in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(nearest == cluster)
        if len(members):
            found.append(int(members[density[members].argmax()]))
    return found


def _chunks(values: Floats) -> Sequence[Floats]:
    return np.array_split(values, -(-len(values) // 4096) or 1)
