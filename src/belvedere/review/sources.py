"""Where doubts come from: the most confident mistakes of a run, or what an audit flagged.

Knows the files that runs and audits leave; does not know what becomes of a doubt. Photographs are found where the files
say, or among those of the data set by the end of their path.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from belvedere.data.corrections.apply import EVALUATION_SPLITS
from belvedere.data.dataset import Dataset
from belvedere.errors import UsageError
from belvedere.evaluation.stored_predictions import PREDICTIONS, read_predictions
from belvedere.review.items import Doubts, DuplicateImage, Group, ImageFinder, ReviewItem, sort_items
from belvedere.runtime.csv_files import unescape_formula
from belvedere.types.prediction import Prediction

AUDIT, ISSUES = "audit.json", "issues.csv"
WRONG_LABEL = "label_issue"


def read_doubts(source: Path, dataset: Dataset | None = None) -> Doubts:
    """Reads what a run or an audit found.

    Args:
        source: The folder.
        dataset: The data set, where it is known: found there are photographs that are no longer where they were.

    Raises:
        UsageError: It is neither, or a table in it is damaged.
    """
    if (source / AUDIT).is_file():
        return _read_audit(source, dataset)
    if (source / PREDICTIONS).is_file():
        return _read_run(source, dataset)
    raise UsageError(
        f"{source} holds neither {PREDICTIONS} nor {AUDIT}. Give a folder that belvedere train, evaluate --out or "
        "audit wrote."
    )


def _read_run(source: Path, dataset: Dataset | None) -> Doubts:
    answers = read_predictions(source)
    finder = ImageFinder(source, dataset)
    doubts = [
        ReviewItem(
            image=answer.image,
            path=sample.path,
            kind="label",
            given=sample.label,
            suggested=answer.predicted_label,
            probabilities=dict(zip(answers.class_names, answer.probabilities, strict=True)),
            score=answer.confidence or 0.0,
            part=sample.part,
            also=sample.also,
            none_of_these=answer.none_of_these is True,
        )
        for answer in answers.predictions
        if _is_mistake(answer) and (sample := finder.find(answer.image, str(answer.label))) is not None
    ]
    return Doubts(source, answers.class_names, sort_items(doubts), tuple(sorted(finder.lost)))


def _is_mistake(answer: Prediction) -> bool:
    return answer.error is None and answer.predicted_label != answer.label


def _read_audit(source: Path, dataset: Dataset | None) -> Doubts:
    try:
        told: dict[str, Any] = json.loads((source / AUDIT).read_text(encoding="utf-8"))
        finder, issues = ImageFinder(source, dataset), _read_issues(source / ISSUES, told.get("spreadsheet") is True)
        hashes = {issue["image"]: issue.get("sha256") or "" for issue in issues}
        doubts = [
            *(doubt for issue in issues if (doubt := _doubt_of_label(issue, finder)) is not None),
            *(doubt for group in told["groups"] for doubt in _doubts_of_group(group, hashes, finder)),
        ]
        names = dataset.class_names if dataset else tuple(str(name) for name in told["classes"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}"
        raise UsageError(
            f"Can't read the audit in {source}: {reason}. Give a folder that belvedere audit wrote."
        ) from error
    return Doubts(source, names, sort_items(doubts), tuple(sorted(finder.lost)))


def _read_issues(file: Path, escaped: bool) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
        lines = ((map(unescape_formula, line) if escaped else line) for line in csv.reader(rows, strict=True))
        columns = tuple(next(lines, ()))
        return [dict(zip(columns, line, strict=False)) for line in lines]


def _doubt_of_label(issue: Mapping[str, str], finder: ImageFinder) -> ReviewItem | None:
    if issue["issue_type"] != WRONG_LABEL or issue["is_issue"] != "true":
        return None
    given, suggested = issue["label"], issue["suggested_label"] or None
    if (sample := finder.find(issue["image"], given, issue.get("sha256") or "")) is None:
        return None
    told = {given: issue.get("label_probability"), suggested: issue["suggested_probability"]}
    return ReviewItem(
        image=issue["image"],
        path=sample.path,
        kind="label",
        given=given,
        suggested=suggested,
        probabilities={name: float(probability) for name, probability in told.items() if name and probability},
        score=float(issue["score"]),
        part=sample.part,
        also=sample.also,
    )


def _doubts_of_group(group: Mapping[str, Any], hashes: Mapping[str, str], finder: ImageFinder) -> Iterator[ReviewItem]:
    """What is in doubt of copies: of a leak those not held back, of contradicting labels all, else all but one."""
    found = [
        (sample, part, hashes.get(image, ""))
        for image, label, part in zip(group["images"], group["labels"], group["parts"], strict=True)
        if (sample := finder.find(image, str(label), hashes.get(image, ""))) is not None
    ]
    copies = tuple(
        DuplicateImage(sample.image, sample.path, sample.label, part, sha256) for sample, part, sha256 in found
    )
    shared = Group(copies, len({frozenset((sample.label, *sample.also)) for sample, *_ in found}) > 1)
    parts = {copy.part for copy in copies}
    held_back = next((part for part in EVALUATION_SPLITS if part in parts), None)
    leaks, score = len(parts) > 1, float(group["likeness"])
    for place, (sample, part, _) in enumerate(found):
        kinds = ["leak"] if leaks and part != held_back else []
        if len(copies) > 1 and (shared.contradicts or (place > 0 and not leaks)):
            kinds.append("duplicate")
        for kind in kinds:
            yield ReviewItem(
                *(sample.image, sample.path, kind, sample.label, None, {}, score),
                part=part,
                also=sample.also,
                group=shared,
                place=place,
            )
