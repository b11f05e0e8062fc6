"""Items to review: images whose label, copies or split may be wrong."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.corrections_file import LABEL_ISSUE, SPLIT_LEAK, common_suffix_length
from belvedere.data.dataset import Dataset
from belvedere.data.hashing import hash_file
from belvedere.errors import InvalidImageError
from belvedere.evaluation.run_folder import candidate_paths
from belvedere.types.data import Sample


@dataclass(frozen=True, slots=True)
class DuplicateImage:
    """One image of a group of duplicates."""

    image: str
    path: Path
    label: str
    split: str | None
    sha256: str = ""  # of its file; empty: unknown


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are copies of each other, shared by all items of the group."""

    copies: tuple[DuplicateImage, ...]
    has_conflict: bool  # whether their labels differ, including extra labels


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One image to review."""

    image: str  # path in the run or audit
    path: Path  # current path
    issue_type: str  # "label_issue", "split_leak" or "duplicate" (of any kind)
    label: str
    suggested_label: str | None  # None for duplicates and leaks
    probabilities: Mapping[str, float]  # by class; may be empty
    score: float  # confidence that there is an issue, from 0 to 1
    split: str | None = None
    extra_labels: tuple[str, ...] = ()
    group: Group | None = None  # of copies, including this image
    position: int = 0  # in the group
    none_of_these: bool = False  # prediction of the model; the suggestion is then only the most likely class

    @property
    def has_conflict(self) -> bool:
        """Whether a copy has another label."""
        return self.group is not None and self.group.has_conflict

    @property
    def other_copies(self) -> list[DuplicateImage]:
        """The other copies, those with another label first."""
        copies = self.group.copies if self.group else ()
        others = [copy for position, copy in enumerate(copies) if position != self.position]
        return sorted(others, key=lambda other: other.label == self.label)


@dataclass(frozen=True)
class ReviewItems:
    """All items of a run or audit."""

    source: Path
    class_names: tuple[str, ...]
    items: tuple[ReviewItem, ...]  # in the order of `sort_items`
    missing: tuple[str, ...]  # images that were moved, deleted or changed


class ImageFinder:
    """Finds the current files of the images in a run or audit."""

    def __init__(self, source: Path, dataset: Dataset | None) -> None:
        self.missing: set[str] = set()
        self._source = source
        self._root = Path(dataset.source if dataset else ".")
        if not self._root.is_dir():
            self._root = self._root.parent
        self._by_name: defaultdict[str, list[Sample]] = defaultdict(list)
        self._by_path: defaultdict[Path, list[Sample]] = defaultdict(list)
        for sample in dataset.samples if dataset else ():
            self._by_name[sample.path.name].append(sample)
            self._by_path[sample.path.absolute()].append(sample)

    def find(self, image: str, label: str, sha256: str = "") -> Sample | None:
        """Find an image; add it to `missing` otherwise.

        Args:
            image: Path in the run or audit.
            label: Label it had.
            sha256: Hash of its file, if known. With it, a moved file is found by name and hash; without it, a moved
                file must have the same path inside the dataset, and the same label.

        Returns:
            The sample, with its split and extra labels if the dataset has it.
        """
        for path in candidate_paths(self._source, image):
            if is_unchanged(path, sha256):
                return self._to_sample(path, image, label)
        for sample in self._by_name[Path(image).name]:
            if is_unchanged(sample.path, sha256) and (sha256 or self._has_same_path(sample, image, label)):
                return self._to_sample(sample.path, image, label)
        self.missing.add(image)
        return None

    def _to_sample(self, path: Path, image: str, label: str) -> Sample:
        listed = self._by_path.get(path.absolute(), [])
        splits = {sample.split for sample in listed}
        split = splits.pop() if len(splits) == 1 else None  # a table may have one file in several
        extra_labels = next((sample.extra_labels for sample in listed if sample.label == label), ())
        return Sample(path, image, label, split, extra_labels)

    def _has_same_path(self, sample: Sample, image: str, label: str) -> bool:
        relative = os.path.relpath(sample.path, self._root)
        return sample.label == label and common_suffix_length(image, relative) == len(Path(relative).parts)


def is_unchanged(path: Path, sha256: str) -> bool:
    """Return whether a file exists, and has this hash unless that is empty."""
    if not path.is_file() or not sha256:
        return path.is_file()
    try:
        return hash_file(path) == sha256
    except InvalidImageError:
        return False


def sort_items(items: Iterable[ReviewItem]) -> tuple[ReviewItem, ...]:
    """Sort items, without repetitions: leaks, conflicting labels, labels, other copies; high scores first."""

    def rank(item: ReviewItem) -> tuple[int, float, str]:
        order = (
            0
            if item.issue_type == SPLIT_LEAK
            else 2
            if item.issue_type == LABEL_ISSUE
            else 1
            if item.has_conflict
            else 3
        )
        return order, -item.score, item.image

    unique = {(item.issue_type, item.image, item.split): item for item in sorted(items, key=rank, reverse=True)}
    return tuple(sorted(unique.values(), key=rank))
