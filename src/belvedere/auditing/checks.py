"""All checks of an audit, most important first, and a summary of their results."""

from collections import Counter
from dataclasses import dataclass

from belvedere.auditing.class_checks import IMBALANCE, SMALL_CLASS
from belvedere.auditing.duplicates.groups import (
    CONFLICTING_LABELS,
    DUPLICATE_FILE,
    DUPLICATE_PIXELS,
    NEAR_DUPLICATE,
    SPLIT_LEAK,
)
from belvedere.auditing.image_checks import IMAGE_CHECKS
from belvedere.auditing.label_issues import LABEL_ISSUE
from belvedere.auditing.outliers import OUTLIER
from belvedere.runtime.registry import Registry
from belvedere.types.audit import Audit, CheckSummary


@dataclass(frozen=True, slots=True)
class Check:
    """Title of a check, and advice for its issues."""

    title: str
    advice: str


_OF_IMAGES = {name: Check(check.title, check.advice) for name, check in IMAGE_CHECKS.items()}
_BUILT_IN = {
    SPLIT_LEAK: Check(
        "Split leaks", "The same image is in several splits, so test metrics are optimistic. Keep it in one split."
    ),
    CONFLICTING_LABELS: Check(
        "Duplicates with conflicting labels", "At least one of the labels is wrong. Correct or remove it."
    ),
    LABEL_ISSUE: Check("Label issues", "The label is probably wrong, or the image shows several classes."),
    "unreadable": _OF_IMAGES["unreadable"],
    "truncated": _OF_IMAGES["truncated"],
    DUPLICATE_FILE: Check("Duplicate files", "Duplicates weigh more than other images. Keep one of each group."),
    DUPLICATE_PIXELS: Check("Duplicate pixels", "Different files with the same pixels. Keep one of each group."),
    NEAR_DUPLICATE: Check(
        "Near duplicates",
        "Resized, recompressed, cropped, mirrored or brightened copies, and shots of one moment. Keep the best of each "
        "group, or at least all of it in one split.",
    ),
    OUTLIER: Check("Outliers", "The image is unlike all others. Check whether it belongs to the dataset."),
    **_OF_IMAGES,
    SMALL_CLASS: Check("Small classes", "Too few images to train on. Add images, or remove the class."),
    IMBALANCE: Check("Class imbalance", "Models favor large classes. Add images to the small classes."),
}
CHECKS: Registry[Check] = Registry("check", "checks")
for _name, _check in _BUILT_IN.items():
    CHECKS.add(_name, _check)


def priorities() -> dict[str, int]:
    """Return the position of each check, most important first; registered checks come last."""
    return {name: position for position, name in enumerate(CHECKS)}


def summarize(audit: Audit) -> tuple[CheckSummary, ...]:
    """Return the result of each check that was run, most important first."""
    flagged = {(issue.issue_type, issue.image) for issue in audit.issues if issue.is_issue}
    num_flagged = Counter(issue_type for issue_type, _ in flagged)
    num_flagged.update(issue.issue_type for issue in audit.class_issues)
    examples: dict[str, str] = {}
    for issue in audit.issues:  # highest score first
        if issue.is_issue:
            examples.setdefault(issue.issue_type, f"{issue.image}: {issue.message}")
    for class_issue in audit.class_issues:
        examples.setdefault(class_issue.issue_type, f"{class_issue.name}: {class_issue.message}")
    run = [name for name in CHECKS if audit.label_issue_method or name not in (LABEL_ISSUE, OUTLIER)]
    return tuple(CheckSummary(name, CHECKS[name].title, num_flagged[name], examples.get(name, "")) for name in run)
