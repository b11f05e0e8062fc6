"""Where doubts come from: the surest mistakes of a run, or what an audit flagged.

Knows the files that runs and audits leave; does not know what becomes of a doubt. Photographs are found where the files
say, or among those of the data set by the end of their path.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from belvedere.answered import PREDICTIONS, read_answers
from belvedere.errors import UsageError
from belvedere.records import Prediction, Sample
from belvedere.review.doubts import Companion, Doubt, Doubts, Finder, in_order

AUDIT, ISSUES = "audit.json", "issues.csv"
WRONG_LABEL = "wrong_label"
HELD_BACK = ("test", "val")  # of a leak, the copy in such a part stays, and the other is in doubt


def read_doubts(source: Path, samples: Sequence[Sample] = (), class_names: Sequence[str] = ()) -> Doubts:
    """Reads what a run or an audit found.

    Args:
        source: The folder.
        samples: Of the data set, where it is known: found there are photographs that are no longer where they were.
        class_names: And its classes.

    Raises:
        UsageError: It is neither, or a table in it is damaged.
    """
    if (source / AUDIT).is_file():
        return _read_audit(source, samples, class_names)
    if (source / PREDICTIONS).is_file():
        return _read_run(source, samples)
    raise UsageError(
        f"{source} holds neither {PREDICTIONS} nor {AUDIT}. Give a folder that belvedere train, evaluate --out or "
        "audit wrote."
    )


def _read_run(source: Path, samples: Sequence[Sample]) -> Doubts:
    answers = read_answers(source)
    finder = Finder(source, samples)
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
    return Doubts(source, answers.class_names, in_order(doubts), tuple(finder.lost))


def _is_mistake(answer: Prediction) -> bool:
    return answer.error is None and answer.prediction != answer.label


def _read_audit(source: Path, samples: Sequence[Sample], class_names: Sequence[str]) -> Doubts:
    try:
        told: dict[str, Any] = json.loads((source / AUDIT).read_text(encoding="utf-8"))
        finder = Finder(source, samples)
        doubts = [
            *(
                doubt
                for issue in _read_issues(source / ISSUES)
                if (doubt := _doubt_of_label(issue, finder)) is not None
            ),
            *(doubt for group in told["groups"] for doubt in _doubts_of_group(group, finder)),
        ]
        names = tuple(class_names) or tuple(str(name) for name in told["classes"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}"
        raise UsageError(
            f"Can't read the audit in {source}: {reason}. Give a folder that belvedere audit wrote."
        ) from error
    return Doubts(source, names, in_order(doubts), tuple(finder.lost))


def _read_issues(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
        return list(csv.DictReader(rows, strict=True))


def _doubt_of_label(issue: Mapping[str, str], finder: Finder) -> Doubt | None:
    if issue["check"] != WRONG_LABEL or issue["flagged"] != "true" or (path := finder.find(issue["image"])) is None:
        return None
    sample, suggested = finder.sample_of(issue["image"]), issue["suggestion"] or None
    return Doubt(
        image=issue["image"],
        path=path,
        kind="label",
        given=issue["label"],
        suggested=suggested,
        probabilities={suggested: float(issue["probability"])} if suggested and issue["probability"] else {},
        score=float(issue["score"]),
        part=sample.part if sample else "",
    )


def _doubts_of_group(group: Mapping[str, Any], finder: Finder) -> Iterator[Doubt]:
    """What is in doubt of copies: of a leak those not held back, of contradicting labels all, else all but one."""
    copies = [
        Companion(image, path, label, part)
        for image, label, part in zip(group["images"], group["labels"], group["parts"], strict=True)
        if (path := finder.find(image)) is not None
    ]
    held_back = next((part for part in HELD_BACK if any(copy.part == part for copy in copies)), None)
    leaks = len({copy.part for copy in copies}) > 1
    contradicts = len({copy.label for copy in copies}) > 1
    for place, copy in enumerate(copies):
        kinds = ["leak"] if leaks and copy.part != held_back else []
        if len(copies) > 1 and (contradicts or (place > 0 and not leaks)):
            kinds.append("duplicate")
        for kind in kinds:
            others = tuple(other for other in copies if other is not copy)
            given, score = str(copy.label), float(group["likeness"])
            yield Doubt(copy.image, copy.path, kind, given, None, {}, score, others, copy.part)
