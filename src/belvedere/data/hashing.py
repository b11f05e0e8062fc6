"""Dividing photographs: seeded, stratified, and with identical files on one side.

Knows file contents by their hash; does not decode a picture.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from belvedere.errors import InvalidImageError
from belvedere.images.decode import read_content
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.types.data import Note, Sample

HASHED_TOGETHER = 16  # files a thread takes at once
SKETCHED, SKETCH_DIGITS = 256, 16  # hashes of a sketch, and hexadecimal digits of each


@dataclass(frozen=True)
class Contents:
    """The samples whose files could be read, each with the hash of its bytes."""

    samples: tuple[Sample, ...]
    hashes: tuple[str, ...]  # SHA-256, one a sample
    unreadable: tuple[tuple[Sample, str], ...]  # the others, each with the reason


def read_contents(samples: Sequence[Sample], progress: Progress) -> Contents:
    """Hashes every sample's file, to find identical ones.

    Args:
        samples: Any number.
        progress: Shows how far it is.

    Returns:
        Samples and hashes in the given order; files that can't be read apart.
    """

    def read(sample: Sample) -> str | InvalidImageError:
        try:
            return hashlib.sha256(read_content(sample.path)).hexdigest()
        except InvalidImageError as error:
            return error

    kept: list[Sample] = []
    hashes: list[str] = []
    unreadable: list[tuple[Sample, str]] = []
    with progress.task("Comparing files", len(samples)) as task:
        for sample, outcome in zip(samples, parallel_map(read, samples, together=HASHED_TOGETHER), strict=True):
            if isinstance(outcome, InvalidImageError):
                unreadable.append((sample, outcome.reason))
            else:
                kept.append(sample)
                hashes.append(outcome)
            task.advance(1)
    return Contents(tuple(kept), tuple(hashes), tuple(unreadable))


def find_identical(contents: Contents) -> list[Note]:
    """Names the files that are byte for byte the same: leaks between parts first, then contradictions, then the rest.

    A group that leaks and contradicts is in both notes.

    Args:
        contents: All samples of a data set.

    Returns:
        At most three notes; nothing is removed.
    """
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample, content_hash in zip(contents.samples, contents.hashes, strict=True):
        groups[content_hash].append(sample)
    same = [group for group in groups.values() if len(group) > 1]
    leaks = [group for group in same if len({sample.part for sample in group}) > 1]
    contradictions = [group for group in same if len({sample.label for sample in group}) > 1]
    copies = [group for group in same if len({(sample.part, sample.label) for sample in group}) == 1]
    kinds = {
        "in more than one part (a leak: the figures flatter)": leaks,
        "with contradicting labels": contradictions,
        "within one part and class": copies,
    }
    return [
        Note(
            f"{len(chosen)} group{'s' * (len(chosen) > 1)} of identical photographs {kind}",
            tuple(_name_group(group) for group in chosen),
        )
        for kind, chosen in kinds.items()
        if chosen
    ]


def _name_group(group: Sequence[Sample]) -> str:
    return " = ".join(sample.image for sample in group)


def select_split(contents: Contents, *parts: str) -> Contents:
    """Returns the samples that belong to the given parts."""
    return select(contents, [i for i, sample in enumerate(contents.samples) if sample.part in parts])


def fingerprint(contents: Contents) -> str:
    """Hashes contents and labels of photographs, whatever their names and order: SHA-256, hexadecimal."""
    lines = sorted(
        f"{h} {'|'.join((s.label, *s.also))}" for h, s in zip(contents.hashes, contents.samples, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def select(contents: Contents, indices: Sequence[int]) -> Contents:
    """Return the samples at some indices, with their hashes."""
    return Contents(
        tuple(contents.samples[index] for index in indices), tuple(contents.hashes[index] for index in indices), ()
    )


def sketch(hashes: Iterable[str]) -> tuple[str, ...]:
    """Keeps the smallest few of the hashes, by which sets of photographs can be compared (Broder 1997, bottom-k)."""
    return tuple(sorted({each[:SKETCH_DIGITS] for each in hashes})[:SKETCHED])


def share_in(hashes: Iterable[str], sketched: Sequence[str]) -> float:
    """Estimates how many of some photographs are among those that a sketch was made of.

    Args:
        hashes: Of the photographs.
        sketched: What `sketch` kept of the others.

    Returns:
        A share, exact where the others are so few that the sketch holds them all; else off by 0.03 or so.
    """
    known, own = set(sketched), {each[:SKETCH_DIGITS] for each in hashes}
    if len(known) >= SKETCHED:  # of larger hashes it can't tell
        own = {each for each in own if each <= max(known)}
    return len(own & known) / max(len(own), 1)
