"""Groups of photographs that are copies: same bytes, same pixels, or near; with their leaks and contradictions.

Knows hashes, pairs and labels; does not know how a near copy is recognised.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from belvedere.auditing.measures import Measures
from belvedere.auditing.near import Copy
from belvedere.records import DuplicateGroup, Issue, Sample

SAME_BYTES, SAME_PIXELS, NEAR = "same_bytes", "same_pixels", "near_duplicate"
LEAK, CONTRADICTION = "leak", "contradiction"


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
    by_bytes, by_pixels = defaultdict[str, list[int]](list), defaultdict[bytes, list[int]](list)
    for place, each in enumerate(measures):
        if each.sha256:
            by_bytes[each.sha256].append(place)
        if each.readable:
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
        for image, label, part in zip(group.images, group.labels, group.parts, strict=True):
            issue = Issue(image, group.kind, group.likeness, True, label=label, group=group.number)
            others = [other for other in group.images if other != image]
            yield replace(issue, detail=_name("copy of", others))
            abroad = [
                f"{other} ({away})" for other, away in zip(group.images, group.parts, strict=True) if away != part
            ]
            if abroad:
                yield replace(issue, check=LEAK, detail=_name(f"in {part or 'no part'}, and also as", abroad))
            against = [
                f"{other} ({name})" for other, name in zip(group.images, group.labels, strict=True) if name != label
            ]
            if against:
                yield replace(issue, check=CONTRADICTION, detail=_name(f"labelled {label}, but", against))


def _name(words: str, names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{words} {', '.join(names[:shown])}{more}"


def _group(kind: str, members: Sequence[int], samples: Sequence[Sample], likeness: float) -> DuplicateGroup:
    chosen = sorted((samples[place] for place in members), key=lambda sample: sample.image)
    return DuplicateGroup(
        number=0,
        kind=kind,
        images=tuple(sample.image for sample in chosen),
        labels=tuple(sample.label for sample in chosen),
        parts=tuple(sample.part for sample in chosen),
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
