"""Every check of the audit by name, in the order in which a person should look, with its title and advice.

Knows names and words; does not know how anything is found.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from belvedere.auditing.class_checks import IMBALANCE, OUTLIER, SMALL_CLASS
from belvedere.auditing.duplicates.groups import CONTRADICTION, LEAK, NEAR, SAME_BYTES, SAME_PIXELS
from belvedere.auditing.image_checks import CHECKS
from belvedere.auditing.label_issues import WRONG_LABEL
from belvedere.types.audit import Audit


@dataclass(frozen=True, slots=True)
class Finding:
    """A check in words."""

    title: str
    advice: str


FINDINGS: Mapping[str, Finding] = {
    LEAK: Finding(
        "In training and test",
        "Remove them from one part: a test that asks what was learnt flatters the model.",
    ),
    CONTRADICTION: Finding("Copies with contradicting labels", "At least one of the labels is wrong: decide which."),
    WRONG_LABEL: Finding(
        "Labels that are probably wrong",
        "Look at each: the class in question, or both, may be in the picture.",
    ),
    "unreadable": Finding(CHECKS["unreadable"].title, CHECKS["unreadable"].advice),
    "truncated": Finding(CHECKS["truncated"].title, CHECKS["truncated"].advice),
    SAME_BYTES: Finding("The same file twice", "Keep one of each: copies weigh more than other photographs."),
    SAME_PIXELS: Finding("The same pixels in another file", "Keep one of each."),
    NEAR: Finding(
        "Near duplicates",
        "Keep the best of each, or at least all in one part: resized, compressed, cut, mirrored or lit copies, "
        "and shots of one moment.",
    ),
    OUTLIER: Finding("Unlike any class", "See whether they belong into this set at all."),
    **{
        name: Finding(check.title, check.advice)
        for name, check in CHECKS.items()
        if name not in ("unreadable", "truncated")
    },
    SMALL_CLASS: Finding("Classes too small to learn", "Add photographs, or leave the class out."),
    IMBALANCE: Finding("Imbalance", "A model leans towards large classes: add photographs to the small ones."),
}
_PLACES = {name: place for place, name in enumerate(FINDINGS)}


@dataclass(frozen=True, slots=True)
class Summary:
    """What one check found."""

    issue_type: str
    title: str
    flagged: int  # photographs, or classes
    worst: str  # the surest of them, and what was seen


def priority(check: str) -> int:
    """Returns where a check stands in the order of looking."""
    return _PLACES[check]


def summarise(audit: Audit) -> tuple[Summary, ...]:
    """Says what each check found: all of them, in the order of looking, those that found nothing too."""
    found: Counter[str] = Counter()
    worst: dict[str, str] = {}
    images: set[tuple[str, str]] = set()
    for issue in audit.issues:  # surest first
        if issue.is_issue and (issue.issue_type, issue.image) not in images:
            images.add((issue.issue_type, issue.image))
            found[issue.issue_type] += 1
            worst.setdefault(issue.issue_type, f"{issue.image}: {issue.message}")
    for one in audit.classes:
        found[one.issue_type] += 1
        worst.setdefault(one.issue_type, f"{one.name}: {one.message}")
    looked_at = [name for name in FINDINGS if audit.route or name not in (WRONG_LABEL, OUTLIER)]
    return tuple(Summary(name, FINDINGS[name].title, found[name], worst.get(name, "")) for name in looked_at)
