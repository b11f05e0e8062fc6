"""Groups of duplicates: identical files, identical pixels, and near duplicates."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeVar

from belvedere.auditing.image_statistics import ImageStatistics
from belvedere.data.groups import connect
from belvedere.data.near_duplicates.search import DuplicatePair
from belvedere.data.split_names import fill_splits
from belvedere.types.audit import DuplicateGroup, Issue
from belvedere.types.data import Sample

DUPLICATE_FILE, DUPLICATE_PIXELS, NEAR_DUPLICATE = "duplicate_file", "duplicate_pixels", "near_duplicate"
SPLIT_LEAK, CONFLICTING_LABELS = "split_leak", "conflicting_labels"
MAX_NAMES = 3  # other members of a group in a message

Kind = TypeVar("Kind", bound=Hashable)


def unique_images(statistics: Sequence[ImageStatistics]) -> list[int]:
    """Return the positions of the readable images, the first of each set of identical pixels."""
    first: dict[bytes, int] = {}
    for index, each in enumerate(statistics):
        if each.readable:
            first.setdefault(each.pixels_hash, index)
    return sorted(first.values())


def group_duplicates(
    samples: Sequence[Sample], statistics: Sequence[ImageStatistics], pairs: Iterable[DuplicatePair]
) -> tuple[DuplicateGroup, ...]:
    """Group duplicates among N images with their statistics, and pairs of near duplicates.

    A group of near duplicates includes exact duplicates of its members, which also have a group of their own.

    Returns:
        Groups numbered from 1: split leaks first, then conflicting labels, then the others.
    """
    splits = fill_splits([sample.split for sample in samples])
    by_bytes, by_pixels = defaultdict[str, list[int]](list), defaultdict[bytes, list[int]](list)
    for index, each in enumerate(statistics):
        if each.readable:  # an error page that was saved under many names is not an image
            by_bytes[each.sha256].append(index)
            by_pixels[each.pixels_hash].append(index)
    groups = [
        _group(DUPLICATE_FILE, members, samples, splits, 1.0) for members in by_bytes.values() if len(members) > 1
    ]
    groups += [
        _group(DUPLICATE_PIXELS, members, samples, splits, 1.0)
        for members in by_pixels.values()
        if len({statistics[index].sha256 for index in members}) > 1
    ]
    for members, similarity in _connected_components(pairs):
        all_members = [copy for index in members for copy in by_pixels[statistics[index].pixels_hash]]
        groups.append(_group(NEAR_DUPLICATE, all_members, samples, splits, similarity))
    kinds = (DUPLICATE_FILE, DUPLICATE_PIXELS, NEAR_DUPLICATE)

    def order(group: DuplicateGroup) -> tuple[object, ...]:
        return not group.is_split_leak, not group.has_conflicting_labels, kinds.index(group.kind), group.images

    return tuple(replace(group, number=number) for number, group in enumerate(sorted(groups, key=order), start=1))


def list_issues(groups: Iterable[DuplicateGroup]) -> Iterator[Issue]:
    """Yield the issues of each member of each group: duplicates, split leaks and conflicting labels."""
    for group in groups:
        splits, labels = group.splits, group.all_labels
        copies, other_splits, other_labels = map(_unequal_members, (range(len(group.images)), splits, labels))
        for index, (image, split, label) in enumerate(zip(group.images, splits, labels, strict=True)):
            issue = Issue(image, group.kind, group.similarity, True, label=group.labels[index], group=group.number)
            yield replace(issue, message=copies[index].describe("copy of", group.images))
            if other_splits[split].count:
                message = other_splits[split].describe(f"in {split}, copy of", group.images, splits)
                yield replace(issue, issue_type=SPLIT_LEAK, message=message)
            if other_labels[label].count:
                message = other_labels[label].describe(f"labeled {label}, copy of", group.images, labels)
                yield replace(issue, issue_type=CONFLICTING_LABELS, message=message)


@dataclass(frozen=True, slots=True)
class _Members:
    """Members of a group."""

    indices: tuple[int, ...]  # of the first few
    count: int  # of all

    def describe(self, text: str, images: Sequence[str], kinds: Sequence[str | None] = ()) -> str:
        names = [f"{images[index]} ({kinds[index]})" if kinds else images[index] for index in self.indices]
        more = f" and {self.count - len(names)} more" if self.count > len(names) else ""
        return f"{text} {', '.join(names)}{more}"


def _unequal_members(kinds: Sequence[Kind]) -> dict[Kind, _Members]:
    """Return for each kind the members of another kind; only the first few, as a group may have thousands."""
    return {
        kind: _Members(
            tuple(islice((index for index, other in enumerate(kinds) if other != kind), MAX_NAMES)), len(kinds) - count
        )
        for kind, count in Counter(kinds).items()
    }


def _connected_components(pairs: Iterable[DuplicatePair]) -> Iterator[tuple[list[int], float]]:
    """Yield groups of connected images, each with the similarity of its least similar pair."""
    pairs = list(pairs)
    roots = connect(max((max(pair.first, pair.second) + 1 for pair in pairs), default=0), map(_positions, pairs))
    groups = defaultdict[int, list[DuplicatePair]](list)
    for pair in pairs:
        groups[roots[pair.first]].append(pair)
    for found in groups.values():
        yield sorted({*chain.from_iterable(map(_positions, found))}), min(pair.similarity for pair in found)


def _positions(pair: DuplicatePair) -> tuple[int, int]:
    return pair.first, pair.second


def _group(
    kind: str, members: Sequence[int], samples: Sequence[Sample], splits: Sequence[str | None], similarity: float
) -> DuplicateGroup:
    members = sorted(members, key=lambda index: samples[index].name)
    chosen = [samples[index] for index in members]
    return DuplicateGroup(
        number=0,
        kind=kind,
        images=tuple(sample.name for sample in chosen),
        labels=tuple(sample.label for sample in chosen),
        splits=tuple(splits[index] for index in members),
        extra_labels=tuple(sample.extra_labels for sample in chosen),
        similarity=round(similarity, 4),
    )
