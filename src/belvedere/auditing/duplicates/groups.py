"""Groups of photographs that are copies: same bytes, same pixels, or near; with their leaks and contradictions.

Knows hashes, pairs and labels; does not know how a near copy is recognised.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from belvedere.auditing.duplicates.near import Copy
from belvedere.auditing.image_statistics import Measures
from belvedere.types.audit import DuplicateGroup, Issue
from belvedere.types.data import Sample

SAME_BYTES, SAME_PIXELS, NEAR = "duplicate_file", "duplicate_pixels", "near_duplicate"
LEAK, CONTRADICTION = "split_leak", "conflicting_labels"
NAMED = 3  # other members of a group, beside each

Kind = TypeVar("Kind", bound=Hashable)


def find_first_of_each(measures: Sequence[Measures]) -> list[int]:
    """Returns the places of the pictures that can be read, without those whose pixels another before them has."""
    first: dict[bytes, int] = {}
    for place, each in enumerate(measures):
        if each.readable:
            first.setdefault(each.pixels_hash, place)
    return sorted(first.values())


def group_copies(
    samples: Sequence[Sample], measures: Sequence[Measures], copies: Iterable[Copy]
) -> tuple[DuplicateGroup, ...]:
    """Puts copies into groups.

    A group of near duplicates holds exact copies of its members too; those have a group of their own besides.

    Args:
        samples: N.
        measures: N, of the same.
        copies: Near duplicates, by their places among the N, each the first with its pixels.

    Returns:
        The groups: leaks first, then contradictions, then the others; numbered from 1.
    """
    if any(sample.part for sample in samples):  # those of no part are to train on then
        samples = [sample if sample.part else replace(sample, part="train") for sample in samples]
    by_bytes, by_pixels = defaultdict[str, list[int]](list), defaultdict[bytes, list[int]](list)
    for place, each in enumerate(measures):
        if each.readable:  # an error page that was saved as many pictures is no picture
            by_bytes[each.sha256].append(place)
            by_pixels[each.pixels_hash].append(place)
    groups = [_group(SAME_BYTES, members, samples, 1.0) for members in by_bytes.values() if len(members) > 1]
    groups += [
        _group(SAME_PIXELS, members, samples, 1.0)
        for members in by_pixels.values()
        if len({measures[place].sha256 for place in members}) > 1
    ]
    for members, likeness in _join(copies):
        all_members = [copy for place in members for copy in by_pixels[measures[place].pixels_hash]]
        groups.append(_group(NEAR, all_members, samples, likeness))
    kinds = (SAME_BYTES, SAME_PIXELS, NEAR)
    groups.sort(key=lambda group: (not group.leaks, not group.contradicts, kinds.index(group.kind), group.images))
    return tuple(replace(group, number=number) for number, group in enumerate(groups, start=1))


def list_issues(groups: Iterable[DuplicateGroup]) -> Iterator[Issue]:
    """Says of every member of a group what is wrong: that it has copies, leaks, or contradicts them."""
    for group in groups:
        parts, labels = group.parts, group.all_labels
        copies, abroad, against = map(_find_unlike, (range(len(group.images)), parts, labels))
        for place, (image, part, label) in enumerate(zip(group.images, parts, labels, strict=True)):
            issue = Issue(image, group.kind, group.likeness, True, label=group.labels[place], group=group.number)
            yield replace(issue, message=copies[place].name("copy of", group.images))
            if abroad[part].count:
                detail = abroad[part].name(f"in {part}, and also as", group.images, parts)
                yield replace(issue, issue_type=LEAK, message=detail)
            if against[label].count:
                detail = against[label].name(f"labeled {label}, but", group.images, labels)
                yield replace(issue, issue_type=CONTRADICTION, message=detail)


@dataclass(frozen=True, slots=True)
class _Unlike:
    """The members of a group that are of another kind than one."""

    places: tuple[int, ...]  # of the first few
    count: int  # of all

    def name(self, words: str, images: Sequence[str], kinds: Sequence[str] = ()) -> str:
        named = [f"{images[place]} ({kinds[place]})" if kinds else images[place] for place in self.places]
        more = f" and {self.count - len(named)} more" if self.count > len(named) else ""
        return f"{words} {', '.join(named)}{more}"


def _find_unlike(kinds: Sequence[Kind]) -> dict[Kind, _Unlike]:
    """For each kind of members the others: the first few, since there may be many thousands."""
    return {
        kind: _Unlike(
            tuple(islice((place for place, other in enumerate(kinds) if other != kind), NAMED)), len(kinds) - count
        )
        for kind, count in Counter(kinds).items()
    }


def _group(kind: str, members: Sequence[int], samples: Sequence[Sample], likeness: float) -> DuplicateGroup:
    chosen = sorted((samples[place] for place in members), key=lambda sample: sample.image)
    return DuplicateGroup(
        number=0,
        kind=kind,
        images=tuple(sample.image for sample in chosen),
        labels=tuple(sample.label for sample in chosen),
        parts=tuple(sample.part for sample in chosen),
        further=tuple(sample.also for sample in chosen),
        likeness=round(likeness, 4),
    )


def _join(copies: Iterable[Copy]) -> Iterator[tuple[list[int], float]]:
    """Puts pairs together that share a picture: the members, and the likeness of their least alike pair."""
    parent: dict[int, int] = {}
    least: dict[int, float] = {}

    def find(place: int) -> int:
        while parent.setdefault(place, place) != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for copy in copies:
        first, second = find(copy.first), find(copy.second)
        parent[second] = first
        least[first] = min(copy.likeness, least.get(first, 1.0), least.get(second, 1.0))
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place in sorted(parent):
        members[find(place)].append(place)
    for root, places in members.items():
        yield places, least[root]
