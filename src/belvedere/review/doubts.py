"""What is in doubt: the surest mistakes of a run, or what an audit flagged.

Knows the files that runs and audits leave; does not know what becomes of a doubt. Photographs are found where the files
say, or among `photos` by the end of their path.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.answers import METRICS, PREDICTIONS, read_answers
from belvedere.errors import UsageError
from belvedere.journal import find_copy
from belvedere.records import Prediction, Sample

ISSUES, AUDIT = "issues.csv", "audit.json"
KINDS = {  # checks of an audit -> what is in doubt
    "wrong_label": "label",
    "exact_duplicate": "duplicate",
    "near_duplicate": "duplicate",
    "leak": "leak",
}


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


def read_doubts(source: Path, samples: Sequence[Sample] = (), class_names: Sequence[str] = ()) -> Doubts:
    """Reads what a run or an audit found.

    Args:
        source: The folder.
        samples: Of the data set, where it is known: found there are photographs that are no longer where they were.
        class_names: And its classes.

    Raises:
        UsageError: It is neither, or a table in it is damaged.
    """
    if (source / ISSUES).is_file():
        return _read_audit(source, samples, class_names)
    if (source / PREDICTIONS).is_file():
        return _read_run(source, samples)
    raise UsageError(
        f"{source} holds neither {PREDICTIONS} nor {ISSUES}. Give a folder that belvedere train, evaluate --out or "
        "audit wrote."
    )


class _Finder:
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


def _read_run(source: Path, samples: Sequence[Sample]) -> Doubts:
    answers = read_answers(source)
    finder = _Finder(source, samples)
    doubts = [
        Doubt(
            image=answer.image,
            path=path,
            kind="label",
            given=str(answer.label),
            suggested=answer.prediction,
            probabilities=dict(zip(answers.class_names, answer.probabilities, strict=True)),
            score=answer.confidence or 0.0,
        )
        for answer in answers.predictions
        if _is_mistake(answer) and (path := finder.find(answer.image)) is not None
    ]
    return Doubts(source, answers.class_names, _in_order(doubts), tuple(finder.lost))


def _is_mistake(answer: Prediction) -> bool:
    return answer.error is None and answer.prediction != answer.label


def _in_order(doubts: Iterable[Doubt]) -> tuple[Doubt, ...]:
    """Leaks first, since they make every figure flatter; then contradictions, labels, and copies."""

    def rank(doubt: Doubt) -> tuple[int, float, str]:
        order = 0 if doubt.kind == "leak" else 2 if doubt.kind == "label" else 1 if doubt.contradicts else 3
        return order, -doubt.score, doubt.image

    return tuple(sorted(doubts, key=rank))


def _read_audit(source: Path, samples: Sequence[Sample], class_names: Sequence[str]) -> Doubts:
    try:
        with (source / ISSUES).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [
                row for row in csv.DictReader(file, strict=True) if row["check"] in KINDS and _is_true(row["flagged"])
            ]
        finder = _Finder(source, samples)
        doubts = [
            doubt for row in rows if (path := finder.find(row["image"])) and (doubt := _to_doubt(row, path, finder))
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Can't read {source / ISSUES}: {reason}. Give a folder that belvedere audit wrote."
        ) from error
    return Doubts(source, tuple(class_names) or _read_classes(source, doubts), _in_order(doubts), tuple(finder.lost))


def _to_doubt(row: Mapping[str, str], path: Path, finder: _Finder) -> Doubt | None:
    """One row; what its detail does not say is asked of the data set. None where it tells nothing to decide."""
    detail = json.loads(row["detail"] or "{}")
    sample = finder.sample_of(row["image"])
    given = detail.get("given") or (sample.label if sample else path.parent.name)
    kind = KINDS[row["check"]]
    companions = tuple(
        Companion(image, place, other.label if other else None, other.part if other else "")
        for image in detail.get("group", ())
        if image != row["image"] and (place := finder.find(image)) is not None
        for other in (finder.sample_of(image),)
    )
    if kind != "label" and not companions:
        return None
    return Doubt(
        image=row["image"],
        path=path,
        kind=kind,
        given=str(given),
        suggested=detail.get("suggested") if kind == "label" else None,
        probabilities={str(name): float(value) for name, value in (detail.get("probabilities") or {}).items()},
        score=float(row["score"]),
        companions=companions,
        part=sample.part if sample else "",
    )


def _is_true(cell: str) -> bool:
    return cell.strip().lower() in ("true", "1", "yes")


def _read_classes(source: Path, doubts: Sequence[Doubt]) -> tuple[str, ...]:
    for file in (AUDIT, METRICS):
        try:
            named = json.loads((source / file).read_text(encoding="utf-8"))["classes"]
            return tuple(str(name) for name in named)
        except (OSError, ValueError, LookupError, TypeError):
            continue
    seen = {name for doubt in doubts for name in (doubt.given, *doubt.probabilities)}
    return tuple(sorted(seen))
