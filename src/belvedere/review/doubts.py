"""What is in doubt, and where its photographs are.

Knows what a person needs to be told of a doubt; does not know who raised it or what becomes of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.journal import find_copy
from belvedere.records import Sample


@dataclass(frozen=True, slots=True)
class Companion:
    """Another photograph of the same group of duplicates."""

    image: str
    path: Path
    label: str | None
    part: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """One photograph that a person should look at."""

    image: str  # its path as the run or audit names it
    path: Path  # where it is
    kind: str  # "label", "duplicate" or "leak"
    given: str  # its label
    suggested: str | None  # the label it may have; None where only copies are in doubt
    probabilities: Mapping[str, float]  # class -> probability, may be empty
    score: float  # how sure the doubt is, 0 to 1
    companions: tuple[Companion, ...] = ()
    part: str = ""

    @property
    def contradicts(self) -> bool:
        """Whether a copy has another label."""
        return any(other.label not in (None, self.given) for other in self.companions)


@dataclass(frozen=True)
class Doubts:
    """All that is in doubt, the surest first, leaks before all."""

    source: Path
    class_names: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    lost: tuple[str, ...]  # images that are not where they were


class Finder:
    """Finds photographs by what they were called."""

    def __init__(self, source: Path, samples: Sequence[Sample]) -> None:
        self._source, self.lost = source, list[str]()
        self._by_name: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            self._by_name[sample.path.name].append(sample)

    def find(self, image: str) -> Path | None:
        """Returns where a photograph is, or remembers that it isn't there."""
        for place in (Path(image), self._source.parent / image):
            if place.is_file():
                return place
        sample = self.sample_of(image)
        if sample is None:
            self.lost.append(image)
            return None
        return sample.path

    def sample_of(self, image: str) -> Sample | None:
        """Returns the sample whose path ends most alike, if one has that name."""
        candidates = self._by_name[Path(image).name]
        place = find_copy(image, [sample.image for sample in candidates])
        return None if place is None else candidates[place]


def in_order(doubts: Iterable[Doubt]) -> tuple[Doubt, ...]:
    """Puts leaks first, since they make every figure flatter; then contradictions, labels, and copies; each once."""

    def rank(doubt: Doubt) -> tuple[int, float, str]:
        order = 0 if doubt.kind == "leak" else 2 if doubt.kind == "label" else 1 if doubt.contradicts else 3
        return order, -doubt.score, doubt.image

    once = {(doubt.kind, doubt.image): doubt for doubt in sorted(doubts, key=rank, reverse=True)}
    return tuple(sorted(once.values(), key=rank))
