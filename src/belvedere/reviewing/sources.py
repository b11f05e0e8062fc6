"""Reads the items to review: the most confident errors of a run, or the issues of an audit."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from belvedere.data.corrections.apply import EVALUATION_SPLITS
from belvedere.data.corrections.corrections_file import DUPLICATE, LABEL_ISSUE, SPLIT_LEAK
from belvedere.data.dataset import Dataset
from belvedere.errors import UsageError
from belvedere.evaluation.run_folder import PREDICTIONS, read_predictions
from belvedere.reviewing.items import DuplicateImage, Group, ImageFinder, ReviewItem, ReviewItems, sort_items
from belvedere.runtime.serialization import unescape_formula
from belvedere.types.audit import AUDIT, ISSUES


def read_items(source: Path, dataset: Dataset | None = None) -> ReviewItems:
    """Read the items of a run or an audit.

    Args:
        source: Folder of the run or audit.
        dataset: Dataset, if known; moved images are found in it.

    Raises:
        UsageError: The folder is neither, or a file in it is damaged.
    """
    if (source / AUDIT).is_file():
        return _read_audit(source, dataset)
    if (source / PREDICTIONS).is_file():
        return _read_run(source, dataset)
    raise UsageError(f"No {PREDICTIONS} or {AUDIT} in {source}. Give a folder that train, evaluate or audit wrote.")


def _read_run(source: Path, dataset: Dataset | None) -> ReviewItems:
    stored = read_predictions(source)
    finder = ImageFinder(source, dataset)
    items = [
        ReviewItem(
            image=prediction.image,
            path=sample.path,
            issue_type=LABEL_ISSUE,
            label=sample.label,
            suggested_label=prediction.predicted_label,
            probabilities=prediction.probabilities,
            score=prediction.confidence or 0.0,
            split=sample.split,
            extra_labels=sample.extra_labels,
            none_of_these=prediction.none_of_these is True,
        )
        for prediction in stored.predictions
        if prediction.error is None and prediction.predicted_label != prediction.label
        if (sample := finder.find(prediction.image, str(prediction.label))) is not None
    ]
    return ReviewItems(source, stored.class_names, sort_items(items), tuple(sorted(finder.missing)))


def _read_audit(source: Path, dataset: Dataset | None) -> ReviewItems:
    with refuse_damaged(source):
        audit, issues = read_audit(source)
        finder = ImageFinder(source, dataset)
        hashes = {issue["image"]: issue.get("sha256") or "" for issue in issues}
        items = [
            *(item for issue in issues if (item := _label_item(issue, finder)) is not None),
            *(item for group in audit["groups"] for item in _group_items(group, hashes, finder)),
        ]
        class_names = dataset.class_names if dataset else tuple(str(name) for name in audit["class_names"])
    return ReviewItems(source, class_names, sort_items(items), tuple(sorted(finder.missing)))


@contextmanager
def refuse_damaged(source: Path) -> Iterator[None]:
    """Raise errors from the content of an audit as UsageError."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}"
        raise UsageError(f"Cannot read the audit in {source}: {reason}. Run the audit again.") from error


def read_audit(source: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the content of audit.json, and the rows of issues.csv."""
    audit: dict[str, Any] = json.loads((source / AUDIT).read_text(encoding="utf-8"))
    return audit, _read_issues(source / ISSUES, audit.get("spreadsheet") is True)


def _read_issues(file: Path, escaped: bool) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as rows:
        lines = ((map(unescape_formula, line) if escaped else line) for line in csv.reader(rows, strict=True))
        columns = tuple(next(lines, ()))
        return [dict(zip(columns, line, strict=False)) for line in lines]


def _label_item(issue: Mapping[str, str], finder: ImageFinder) -> ReviewItem | None:
    if issue["issue_type"] != LABEL_ISSUE or issue["is_issue"] != "true":
        return None
    label, suggested = issue["label"], issue["suggested_label"] or None
    if (sample := finder.find(issue["image"], label, issue.get("sha256") or "")) is None:
        return None
    probabilities = {label: issue.get("label_probability"), suggested: issue["suggested_probability"]}
    return ReviewItem(
        image=issue["image"],
        path=sample.path,
        issue_type=LABEL_ISSUE,
        label=label,
        suggested_label=suggested,
        probabilities={name: float(value) for name, value in probabilities.items() if name and value},
        score=float(issue["issue_score"]),
        split=sample.split,
        extra_labels=sample.extra_labels,
    )


def _group_items(group: Mapping[str, Any], hashes: Mapping[str, str], finder: ImageFinder) -> Iterator[ReviewItem]:
    """Yield the items of copies: those of a leak to exclude, all with conflicting labels, else the surplus ones."""
    found = [
        (sample, split or None, hashes.get(image, ""))
        for image, label, split in zip(group["images"], group["labels"], group["splits"], strict=True)
        if (sample := finder.find(image, str(label), hashes.get(image, ""))) is not None
    ]
    copies = tuple(
        DuplicateImage(sample.name, sample.path, sample.label, split, sha256) for sample, split, sha256 in found
    )
    shared = Group(copies, len({frozenset((sample.label, *sample.extra_labels)) for sample, *_ in found}) > 1)
    splits = {copy.split for copy in copies}
    held_out = next((split for split in EVALUATION_SPLITS if split in splits), None)
    is_leak, score = len(splits) > 1, float(group["similarity"])
    for position, (sample, split, _) in enumerate(found):
        issue_types = [SPLIT_LEAK] if is_leak and split != held_out else []
        if len(copies) > 1 and (shared.has_conflict or (position > 0 and not is_leak)):
            issue_types.append(DUPLICATE)
        for issue_type in issue_types:
            yield ReviewItem(
                *(sample.name, sample.path, issue_type, sample.label, None, {}, score),
                split=split,
                extra_labels=sample.extra_labels,
                group=shared,
                position=position,
            )
