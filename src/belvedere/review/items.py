"""What is in doubt, and where its photographs are.

Knows what a person needs to be told of a doubt; does not know who raised it or what becomes of it.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.journal import common_suffix_length
from belvedere.data.dataset import Dataset
from belvedere.errors import InvalidImageError
from belvedere.evaluation.stored_predictions import candidate_paths
from belvedere.images.decode import read_content
from belvedere.types.data import Sample


@dataclass(frozen=True, slots=True)
class DuplicateImage:
    """Another photograph of the same group of duplicates."""

    image: str
    path: Path
    label: str
    part: str
    sha256: str = ""  # of its file, where that is known


@dataclass(frozen=True, slots=True)
class Group:
    """Photographs that are copies of one another; all doubts about them share it."""

    copies: tuple[DuplicateImage, ...]
    contradicts: bool  # whether their labels differ, further ones with them


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One photograph that a person should look at."""

    image: str  # its path as the run or audit names it
    path: Path  # where it is
    kind: str  # "label", "duplicate" or "leak"
    given: str  # its label
    suggested: str | None  # the label it may have; None where only copies are in doubt
    probabilities: Mapping[str, float]  # class -> probability, may be empty
    score: float  # how sure the doubt is, 0 to 1
    part: str = ""
    also: tuple[str, ...] = ()  # further labels that a table gives
    group: Group | None = None  # of copies, itself among them
    place: int = 0  # in the group
    none_of_these: bool = False  # whether the model says so: then the suggestion is only the likeliest class

    @property
    def contradicts(self) -> bool:
        """Whether a copy has another label."""
        return self.group is not None and self.group.contradicts

    @property
    def companions(self) -> list[DuplicateImage]:
        """The other copies, those with another label first."""
        copies = self.group.copies if self.group else ()
        others = [copy for place, copy in enumerate(copies) if place != self.place]
        return sorted(others, key=lambda other: other.label == self.given)


@dataclass(frozen=True)
class Doubts:
    """All that is in doubt, the surest first, leaks before all."""

    source: Path
    class_names: tuple[str, ...]
    doubts: tuple[ReviewItem, ...]
    lost: tuple[str, ...]  # images that are not where they were, or were changed


class ImageFinder:
    """Finds photographs by what they were called, and makes sure that they are those."""

    def __init__(self, source: Path, dataset: Dataset | None) -> None:
        self.lost: set[str] = set()
        self._source, samples = source, dataset.samples if dataset else ()
        self._root = _root_of(dataset)
        self._by_name: defaultdict[str, list[Sample]] = defaultdict(list)
        self._by_place: defaultdict[Path, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._by_name[sample.path.name].append(sample)
            self._by_place[sample.path.absolute()].append(sample)

    def find(self, image: str, label: str, sha256: str = "") -> Sample | None:
        """Finds a photograph, or remembers that it isn't there.

        Args:
            image: Its path as a run or an audit names it.
            label: The label it had.
            sha256: Of its file, where that is known: then no other file is taken for it, and one that moved is found
                by its name. Else one that moved must stand at the same place in the data set, with the same label.

        Returns:
            It, with its part and further labels where the data set lists it.
        """
        for place in candidate_paths(self._source, image):
            if is_there(place, sha256):
                return self._look_up(place, image, label)
        for sample in self._by_name[Path(image).name]:
            if is_there(sample.path, sha256) and (sha256 or self._stands_alike(sample, image, label)):
                return self._look_up(sample.path, image, label)
        self.lost.add(image)
        return None

    def _look_up(self, place: Path, image: str, label: str) -> Sample:
        listed = self._by_place.get(place.absolute(), [])
        parts = {sample.part for sample in listed}
        part = parts.pop() if len(parts) == 1 else ""  # a table may list a file in several
        return Sample(place, image, label, part, next((sample.also for sample in listed if sample.label == label), ()))

    def _stands_alike(self, sample: Sample, image: str, label: str) -> bool:
        inside = os.path.relpath(sample.path, self._root)
        return sample.label == label and common_suffix_length(image, inside) == len(Path(inside).parts)


def _root_of(dataset: Dataset | None) -> Path:
    """The folder of a data set, or the one that its table is in."""
    source = Path(dataset.source if dataset else ".")
    return source if source.is_dir() else source.parent


def is_there(path: Path, sha256: str) -> bool:
    """Whether a file is there, and has this content where that is known."""
    if not path.is_file() or not sha256:
        return path.is_file()
    try:
        return hashlib.sha256(read_content(path)).hexdigest() == sha256
    except InvalidImageError:
        return False


def sort_items(doubts: Iterable[ReviewItem]) -> tuple[ReviewItem, ...]:
    """Puts leaks first, since they make every figure flatter; then contradictions, labels, and copies; each once."""

    def rank(doubt: ReviewItem) -> tuple[int, float, str]:
        order = 0 if doubt.kind == "leak" else 2 if doubt.kind == "label" else 1 if doubt.contradicts else 3
        return order, -doubt.score, doubt.image

    once = {(doubt.kind, doubt.image): doubt for doubt in sorted(doubts, key=rank, reverse=True)}
    return tuple(sorted(once.values(), key=rank))
